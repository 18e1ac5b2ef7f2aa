"""Limits as a worker asks them: what is used, what symbols are worth, and the question in a claim's transaction.

The decision itself is pure and in `models.risk.decision`; what an order uses is kept by `models.record.usage`.
"""
