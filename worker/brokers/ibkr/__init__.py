"""Interactive Brokers over TWS or IB Gateway. Starts in `adapter`."""
