"""Real money needs limits and TLS: what a broker with `live = true` must have before anything is sent to it."""

from __future__ import annotations

from models.record.database import Database
from models.record.limits import limit_rows
from models.record.ways import unguarded
from models.risk.names import EVERYTHING, Limit, RiskSettings, from_settings, in_force
from models.settings import Settings
from worker.runtime.clock import utcnow

#: Limits of one order's size and value: what a live broker must have.
REQUIRED = ("max_quantity", "max_value")


def missing_limits(broker: str, risk: RiskSettings, limits: tuple[Limit, ...]) -> list[str]:
    """Return which of REQUIRED do not hold for every order at a broker; none where it is meant to have no limits."""
    table = risk.broker.get(broker)
    if table is not None and table.unlimited:
        return []
    scopes = ((EVERYTHING, EVERYTHING), ("broker", broker))
    there = {limit.name for limit in limits if (limit.scope_kind, limit.scope) in scopes}
    return [name for name in REQUIRED if name not in there]


def objection(settings: Settings, database: Database, broker: str) -> str | None:
    """Say why a live broker may not be used; None where it may, or is none.

    Raises:
        DatabaseUnavailable: the limits have to be read.
    """
    if not settings.broker(broker).live:
        return None
    if open_ways := unguarded(settings):
        return (
            f"{broker} trades real money and {'; '.join(open_ways)}; [security] private_network = true says that this "
            "network is guarded by itself"
        )
    with database.read() as connection:
        limits = in_force(from_settings(settings.risk), limit_rows(connection), utcnow())
    missing = missing_limits(broker, settings.risk, limits)
    if not missing:
        return None
    table = f"[risk.broker.{broker}]"
    return (
        f"{broker} trades real money and has no {' and no '.join(missing)}: set them in [risk] or {table}, or by "
        f"`corro limits set {missing[0]} ... --broker {broker}`; {table} unlimited = true says that none is meant"
    )
