"""Adapters: one broker each, found by entry point, imported only by the worker that is bound to it."""

from __future__ import annotations

from importlib.metadata import entry_points

from models.errors import ConfigurationError
from models.settings import Settings
from worker.brokers.base import BrokerInterface

#: Where other packages plug in their adapters.
GROUP = "corro.brokers"


def load(settings: Settings, name: str) -> BrokerInterface:
    """Return the adapter of a configured broker, not connected yet.

    Raises:
        ConfigurationError: there is no such broker or adapter, its SDK is missing, or its settings are wrong.
    """
    table = settings.broker(name)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if table.adapter not in found:
        raise ConfigurationError(
            f"brokers.{name}.adapter is {table.adapter!r}; installed adapters are {sorted(found)}"
        )
    try:
        adapter = found[table.adapter].load()
    except ImportError as error:
        raise ConfigurationError(
            f"adapter {table.adapter!r} cannot be imported ({error}): install corro[{table.adapter}]"
        ) from error
    broker: BrokerInterface = adapter(name, table)
    return broker
