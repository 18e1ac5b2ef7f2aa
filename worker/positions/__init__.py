"""What our books explain of an account: the ledger, the locks on the rest, and what may be closed where."""
