"""Limits: their names, scopes and values (`names`), and the pure decision about one order (`decision`).

In the language, not in the worker, because a strategy hears at `submit` already whatever can be said without a broker.
"""
