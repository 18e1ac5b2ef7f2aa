"""The operator's page, and what machines read of the fleet: metrics, health, lists, events. An extra: `corro[web]`."""
