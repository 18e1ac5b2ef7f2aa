"""Budgets: how often an account may be asked, counted for all its workers."""
