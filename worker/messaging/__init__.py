"""Celery on Redis as corro needs it: rings, a guard at the door, dead letters, patience with a sick queue."""
