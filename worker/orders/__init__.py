"""The way of an order through a worker, and what heals it: claim, send, record, follow, ask again."""
