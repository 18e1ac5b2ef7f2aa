"""What is used of limits, recomputed from orders and fills: by the leader at its start, and when a day begins.

Two things can be amiss. Orders that were sent while no limit was in force count for nothing, so as soon as there is a
limit they are taken in. And a figure may differ from what the orders say, which no code of ours is known to do: then
the larger one holds for this day, somebody is told, and the journal has both.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from sqlalchemy import Connection, and_, insert, or_, select, update

from models.destinations import split
from models.encoding import plain
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.groups import IS_MERE_EXIT
from models.record.order import OrderRecord
from models.record.rows import AttemptRow, ReadableOrder
from models.record.settling import LOCK
from models.record.statements import fetch
from models.record.tables import attempts, orders, risk_tallies
from models.record.usage import COUNTED, KEY, STILL_OPEN, Uses, total, uses
from models.risk.names import EVERYTHING, RiskSettings
from models.vocabulary import LIVE, Outcome, Status
from worker.control.controls import journal
from worker.risk.limiter import Limiter
from worker.risk.losses import gains
from worker.runtime.clock import elapsed, utcnow

log = structlog.get_logger()

#: Orders taken in by one transaction.
_BATCH = 200
#: Seconds between two looks of a leader.
_LOOK_EVERY_S = 5.0
#: Tallies of days so long ago in which nothing is open are removed.
_KEPT_FOR = timedelta(days=31)
_AT_BROKER = [str(status) for status in LIVE | {Status.SUBMITTED}]
_REACHED = [str(outcome) for outcome in (Outcome.SENDING, Outcome.UNKNOWN, Outcome.ACCEPTED)]
_OPEN = tuple(name for name in COUNTED if not name.startswith("sent"))
_ZERO = Decimal(0)
#: How a database may have added up floats.
_FINEST = Decimal("0.000001")


class UsageKeeper:
    """Keeps the tallies of one broker in step with its orders; the leader's.

    Args:
        database: the record.
        limiter: of this worker.
    """

    def __init__(self, database: Database, limiter: Limiter) -> None:
        self.database, self.limiter = database, limiter
        self.broker, self.risk = limiter.broker, limiter.risk
        self._next = 0.0
        #: The day on which the figures were recomputed last.
        self._recomputed: str | None = None

    def look(self) -> None:
        """Take in what does not count yet; at the start and when a day begins, compare the figures."""
        if elapsed() < self._next:
            return
        self._next, now = elapsed() + _LOOK_EVERY_S, utcnow()
        with self.database.read() as connection:
            names = {limit.name for limit in self.limiter.limits(connection, now)}
        if not names:
            return
        take_in(self.database, self.risk, self.broker)
        if self._recomputed != (day := self.risk.day(now)):
            recompute(self.database, self.risk, self.broker)
            self._recomputed = day
        if "max_day_loss" in names:
            self.database.transact(lambda connection: _keep_gains(connection, self.risk, self.broker, now))


# -- ORDERS FROM BEFORE ---
def take_in(database: Database, risk: RiskSettings, broker: str | None = None) -> int:
    """Count orders that were sent while no limit was in force: what is open, and what was sent today.

    Args:
        database: the record.
        risk: for the day.
        broker: only its orders.

    Returns:
        How many orders that were.
    """
    taken = 0
    while ids := _uncounted_now(database, risk, broker):
        database.transact(lambda connection, ids=ids: _count(connection, risk, ids))  # type: ignore[misc]
        taken += len(ids)
        if len(ids) < _BATCH:
            break
    return taken


def count_before(connection: Connection, risk: RiskSettings) -> int:
    """The same of every broker, in a transaction that writes; returns how many orders that were."""
    taken = 0
    while ids := _uncounted(connection, risk, None):
        _count(connection, risk, ids)
        taken += len(ids)
        if len(ids) < _BATCH:
            break
    return taken


def _uncounted_now(database: Database, risk: RiskSettings, broker: str | None) -> list[str]:
    with database.read() as connection:
        return _uncounted(connection, risk, broker)


def _uncounted(connection: Connection, risk: RiskSettings, broker: str | None) -> list[str]:
    a, o = attempts.c, orders.c
    began = risk.day_began(utcnow())
    current = and_(a.client_order_id == o.client_order_id, a.attempt_no == o.attempt_no)
    query = (
        select(o.client_order_id)
        .join_from(orders, attempts, current)
        .where(
            ~IS_MERE_EXIT,
            a.reserved.is_(None),
            a.outcome.in_(_REACHED),
            or_(o.status.in_(_AT_BROKER), a.started_at >= began),
        )
        .limit(_BATCH)
    )
    if broker is not None:
        query = query.where(a.broker == broker)
    return list(connection.execute(query).scalars())


def _count(connection: Connection, risk: RiskSettings, ids: Iterable[str]) -> None:
    batch = OrderBatch.open(connection, ids, utcnow())
    for entry in batch.entries.values():
        for number, attempt in entry.attempts.items():
            if attempt["reserved"] is None and attempt["outcome"] in _REACHED:
                price = plain(_price(entry))
                entry.set_attempt(number, reserved={"day": risk.day(attempt["started_at"]), "price": price})
        entry.set(available_at=entry.order["available_at"])  # whoever has the order in hand reads it again
    batch.write()


def _price(entry: OrderRecord) -> Decimal:
    row = entry.order
    return abs(row["limit_price"] or row["stop_price"] or row["avg_fill_price"] or _ZERO)


# -- FIGURES ---
def recompute(database: Database, risk: RiskSettings, broker: str) -> int:
    """Compare the tallies of a broker with its orders; returns how many differed.

    They are looked at without a lock, and again with one where they seem to differ.
    """
    with database.read() as connection:
        if not _differences(connection, risk, broker):
            return 0

    def work(connection: Connection) -> int:
        if connection.dialect.name != "sqlite":
            connection.execute(LOCK)
        found = _differences(connection, risk, broker)
        for key, (kept, computed) in found.items():
            _mend(connection, risk, key, kept, computed)
        return len(found)

    return database.transact(work)


def _differences(
    connection: Connection, risk: RiskSettings, broker: str
) -> dict[tuple[str, ...], tuple[dict[str, Decimal], dict[str, Decimal]]]:
    """Return what is kept and what the orders say, where the two differ."""
    today, t = risk.day(utcnow()), risk_tallies.c
    query = select(risk_tallies).where(t.broker == broker, or_(t.day == today, STILL_OPEN))
    kept: Uses = {
        tuple(str(row[name]) for name in KEY): {name: Decimal(row[name]) for name in COUNTED}
        for row in connection.execute(query).mappings()
    }
    computed = _computed(connection, risk, broker)
    nothing = dict.fromkeys(COUNTED, _ZERO)
    found = {}
    for key in kept.keys() | computed.keys():
        ours, theirs = kept.get(key, nothing), computed.get(key, nothing)
        names = COUNTED if key[KEY.index("day")] == today else _OPEN
        if any(abs(ours[name] - theirs[name]) > _FINEST for name in names):
            found[key] = (ours, theirs)
    return found


def _computed(connection: Connection, risk: RiskSettings, broker: str) -> Uses:
    a, o = attempts.c, orders.c
    began = risk.day_began(utcnow())
    mine = select(a.client_order_id).where(a.broker == broker, a.reserved.is_not(None))
    of_today = mine.where(a.started_at >= began)
    still_open = mine.join(orders, a.client_order_id == o.client_order_id).where(o.status.in_(_AT_BROKER))
    ids = or_(o.client_order_id.in_(of_today), o.client_order_id.in_(still_open))
    rows = fetch(connection, select(orders).where(ids), ReadableOrder)
    tries: dict[str, dict[int, AttemptRow]] = {}
    theirs = select(attempts).join(orders, a.client_order_id == o.client_order_id).where(ids)
    for attempt in fetch(connection, theirs, AttemptRow):
        tries.setdefault(attempt["client_order_id"], {})[attempt["attempt_no"]] = attempt
    every = total(uses(row, tries.get(row["client_order_id"], {})) for row in rows)
    return {key: values for key, values in every.items() if key[KEY.index("broker")] == broker}


def _mend(
    connection: Connection,
    risk: RiskSettings,
    key: tuple[str, ...],
    kept: dict[str, Decimal],
    computed: dict[str, Decimal],
) -> None:
    """Let the larger figure hold on its day, and what the orders say from the next one on."""
    is_today = key[KEY.index("day")] == risk.day(utcnow())
    names = COUNTED if is_today else _OPEN
    now: dict[str, Decimal | int] = {
        name: max(kept[name], computed[name]) if is_today else computed[name] for name in names
    }
    now |= {name: int(now[name]) for name in ("sent", "open_orders") if name in now}
    mine = and_(*(risk_tallies.c[name] == value for name, value in zip(KEY, key, strict=True)))
    if not connection.execute(update(risk_tallies).where(mine).values(**now)).rowcount:
        every = {**dict.fromkeys(COUNTED, 0), "realized": 0, **now, **dict(zip(KEY, key, strict=True))}
        connection.execute(insert(risk_tallies).values(**every))
    differing = [name for name in names if kept[name] != computed[name]]
    apart = ", ".join(f"{name} {plain(kept[name])}, by the orders {plain(computed[name])}" for name in differing)
    where = " ".join(part for part in key if part)
    detail = f"usage of {where}: {apart}; {'the larger figure holds today' if is_today else 'the orders are right'}"
    journal(connection, "override", EVERYTHING, EVERYTHING, by="corro", reason="usage recomputed", detail=detail)
    log.error("usage_differs", where=where, detail=detail)


def _keep_gains(connection: Connection, risk: RiskSettings, broker: str, now: datetime) -> None:
    """Keep what the day has brought beside what was sent, for whoever reads `risk_usage`; drop what is long over."""
    t, day = risk_tallies.c, risk.day(now)
    for (where, strategy, symbol), gain in gains(connection, risk.day_began(now)).items():
        place, account = split(where)
        mine = (t.broker == place) & (t.account == (account or "")) & (t.strategy == (strategy or ""))
        mine &= (t.symbol == symbol) & (t.day == day)
        if place == broker:
            connection.execute(update(risk_tallies).where(mine, t.realized != gain).values(realized=gain))
    old = risk.day(now - _KEPT_FOR)
    connection.execute(risk_tallies.delete().where(t.broker == broker, t.day < old, ~STILL_OPEN))
