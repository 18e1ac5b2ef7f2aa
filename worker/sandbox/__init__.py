"""One simulated market with doors that speak the brokers' real protocols, a ledger, and faults to switch on."""
