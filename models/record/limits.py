"""The limits that people have set, as rows; and the journal that keeps who set them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime

import structlog
from sqlalchemy import Connection, delete, select

from models.errors import InvalidRequest
from models.legs import only_closes, opens_short, unit_of
from models.messages import OrderRequest, plain
from models.record.database import Database
from models.record.risk_rows import RiskLimitRow
from models.record.statements import Query, upsert
from models.record.tables import risk_limits
from models.risk.decision import Refuse, decide_risk
from models.risk.facts import Intended
from models.risk.names import (
    Limit,
    RiskSettings,
    from_settings,
    in_force,
    read_value,
    scope_words,
    scopes_of,
    that_apply,
    value_text,
)
from models.vocabulary import CLOSING, Side

log = structlog.get_logger()
LIMIT_ROWS = Query(select(risk_limits), RiskLimitRow)
#: A producer's reading of the rows is good for so long, seconds: the claim reads them anew.
_GOOD_S = 2.0


def limit_rows(connection: Connection) -> list[Limit]:
    """Return the limits that people have set, those whose time is over included."""
    return [limit_of(row) for row in LIMIT_ROWS.rows(connection)]


def limit_of(row: RiskLimitRow) -> Limit:
    """Return what a row says; where nobody can tell, nothing may be sent in its scope, and everything elsewhere."""
    try:
        name, value, set_by = row["name"], read_value(row["name"], row["value"]), row["set_by"]
    except InvalidRequest:
        log.error("limit_unreadable", scope=scope_words(row["scope_kind"], row["scope"]), **_told(row))
        name, value, set_by = "restricted", True, f"{row['set_by']}: {row['name']} {row['value']:.40} cannot be read"
    return Limit(row["scope_kind"], row["scope"], name, value, row["until"], set_by)


def _told(row: RiskLimitRow) -> dict[str, str]:
    return {"name": row["name"], "value": row["value"][:40]}


def put_limit(connection: Connection, limit: Limit, reason: str, now: datetime) -> None:
    """Write a limit in place of the one of its name and scope."""
    values = {
        "value": value_text(limit.value), "until": limit.until, "set_by": limit.set_by, "reason": reason, "set_at": now,
    }  # fmt: skip
    kind, scope, name = limit.place
    put = upsert(connection, risk_limits).values(scope_kind=kind, scope=scope, name=name, **values)
    connection.execute(put.on_conflict_do_update(index_elements=list(risk_limits.primary_key), set_=values))


def take_limits(connection: Connection, places: Iterable[tuple[str, str, str]]) -> list[Limit]:
    """Remove limits that people have set, those that cannot be read as well; returns those that there were."""
    r, taken = risk_limits.c, []
    rows = {(row["scope_kind"], row["scope"], row["name"]): row for row in LIMIT_ROWS.rows(connection)}
    for kind, scope, name in places:
        if (row := rows.get((kind, scope, name))) is not None:
            mine = (r.scope_kind == kind) & (r.scope == scope) & (r.name == name)
            connection.execute(delete(risk_limits).where(mine))
            taken.append(limit_of(row))
    return taken


class StaticLimits:
    """What can be said of an order as it is submitted: by its size, its own price, and what may not be sent at all.

    Everything else is asked by the claim, which no order gets round.

    Args:
        risk: the limits of the settings.
        database: the record, for those of people.
    """

    def __init__(self, risk: RiskSettings, database: Database) -> None:
        self.currency, self._seeds, self._database = risk.currency, from_settings(risk), database
        self._rows: list[Limit] = []
        self._read_at: float | None = None

    def refusal(self, request: OrderRequest, now: datetime, key_id: str | None = None) -> Refuse | None:
        """Return why an order may not be sent, whatever broker it would go to; None where it may be.

        Raises:
            DatabaseUnavailable: the limits had to be read.
        """
        limits = self._in_force(now)
        if not limits:
            return None
        instrument = request.instrument
        order = Intended(
            client_order_id=request.client_order_id,
            symbol=request.symbol,
            side=request.side,
            quantity=request.quantity,
            adds=request.quantity,
            notional=request.notional,
            created_at=request.created_at,
            limit_price=request.limit_price,
            stop_price=request.stop_price,
            strategy=request.strategy,
            key=key_id,
            multiplier=unit_of(request.legs) if request.legs else instrument.multiplier,
            currency=instrument.currency,
            # The claim looks whether it does.
            reduces=only_closes(request.legs) if request.legs else request.side in CLOSING,
            opens_short=opens_short(request.legs or ()) or request.side is Side.SELL_SHORT,
        )
        verdict = decide_risk(order, that_apply(limits, order.scopes), None, None, None, now, self.currency)
        return verdict if isinstance(verdict, Refuse) else None

    def approval(self, request: OrderRequest, now: datetime) -> str | None:
        """Return why somebody has to approve an order before it may be sent; None where nobody has to.

        An order whose value nobody knows has to be approved as well; one that closes a position has not.
        """
        found = [limit for limit in self._in_force(now) if limit.name == "approve_above_value"]
        if not found or request.side in CLOSING:
            return None
        order = scopes_of(broker=None, account=None, strategy=request.strategy, symbol=request.symbol, key=None)
        price, instrument = request.limit_price or request.stop_price, request.instrument
        size = unit_of(request.legs) if request.legs else instrument.multiplier
        for limit in sorted(that_apply(found, order), key=lambda limit: limit.number):
            value = request.notional
            if value is None and price is not None and size is not None:
                value = abs(price) * request.units * size
            if value is None or instrument.currency != self.currency:
                return f"its value is not known, so it needs approval ({limit.words})"
            if value > limit.number:
                return f"its value {plain(value)} {self.currency} needs approval ({limit.words})"
        return None

    def _in_force(self, now: datetime) -> tuple[Limit, ...]:
        read_at = time.monotonic()
        if self._read_at is None or read_at - self._read_at > _GOOD_S:
            with self._database.read() as connection:
                self._rows = limit_rows(connection)
            self._read_at = read_at
        return in_force(self._seeds, self._rows, now)
