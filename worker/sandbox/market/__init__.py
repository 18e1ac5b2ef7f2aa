"""The simulated market behind the doors: prices, matching, accounts and the ledger."""
