"""Adapters: one broker each, found by entry point, imported only by the worker that is bound to it."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import entry_points

import structlog

from models.errors import ConfigurationError
from models.settings import BrokerSettings, Settings
from worker.brokers.base import BrokerInterface
from worker.brokers.several import SeveralAccounts

log = structlog.get_logger()

#: Where other packages plug in their adapters.
GROUP = "corro.brokers"


def load(settings: Settings, name: str) -> BrokerInterface:
    """Return the adapter of a configured broker, not connected yet.

    Raises:
        ConfigurationError: there is no such broker or adapter, its SDK is missing, or its settings are wrong.
    """
    from worker.pacing.shared import SharedLimits  # here: whoever writes or tests an adapter needs no queue

    table = settings.broker(name)
    if settings.is_sandbox and settings.sandbox_note is None:
        raise ConfigurationError(
            f"no broker is configured, and no sandbox runs in {settings.home.absolute()}: start `corro up` or "
            "`corro sandbox` there, set CORRO_HOME to where one runs, or configure brokers in corro.toml"
        )
    found = {point.name: point for point in entry_points(group=GROUP)}
    if table.adapter not in found:
        raise ConfigurationError(
            f"brokers.{name}.adapter is {table.adapter!r}; installed adapters are {', '.join(sorted(found))}"
        )
    try:
        adapter = found[table.adapter].load()
    except ImportError as error:
        raise ConfigurationError(
            f"adapter {table.adapter!r} cannot be imported ({error}): install corro[{table.adapter}]"
        ) from error
    _warn_of_strange_keys(name, table, adapter)
    if table.accounts and adapter.one_account:
        adapter = SeveralAccounts.serving(adapter)
    broker: BrokerInterface = adapter(name, table.model_copy(update={"home": str(settings.home)}))
    broker.limits = SharedLimits(settings)
    return broker


def _warn_of_strange_keys(name: str, table: BrokerSettings, adapter: type[BrokerInterface]) -> None:
    """A mistyped key would silently leave a default in force."""
    if adapter.keys is None:
        return
    for key in sorted(set(table.model_extra or ()) - adapter.keys):
        near = get_close_matches(key, adapter.keys, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(adapter.keys))}"
        log.error("unknown_setting", setting=f"brokers.{name}.{key}", hint=hint)
