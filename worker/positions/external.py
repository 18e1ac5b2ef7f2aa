"""Orders at our broker that corro did not send: recorded as external and left alone.

Nothing here, and nothing that reads these tables, ever changes or cancels such an order. The danger is the other way
round: an order of ours must not be called external because its broker's id is not recorded yet.

| the report names                         | an attempt of ours in its symbol is sending or unknown | it is    |
|------------------------------------------|--------------------------------------------------------|----------|
| an id of one of our attempts             | any                                                    | ours     |
| the same, on another symbol or direction | as if the id were not ours                             |          |
| a client order id that we never gave     | any                                                    | external |
| no client order id, a broker id unknown  | yes                                                    | open     |
| no client order id, a broker id unknown  | no                                                     | external |
| the same, and no symbol that can be read | in any symbol: yes                                     | open     |
| no broker order id                       | any                                                    | open     |

What is open is looked at again with the next reading. What was called external and is later adopted is so no more.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Literal, TypedDict, cast

from sqlalchemy import Connection, func, or_, select, update

from models.destinations import destination_of
from models.legs import symbols_of
from models.record.baselines import Moved, follow
from models.record.database import Database
from models.record.destinations import is_behind
from models.record.matching import is_elsewhere, named
from models.record.rows import ExternalFillRow, ExternalOrderRow, Json
from models.record.statements import Values, fetch, upsert
from models.record.tables import attempts, external_fills, external_orders, orders, position_ledgers
from models.record.tombstones import fills_in, parted_by_archive
from models.reports import DONE, BrokerStatus, CommissionReport, FillReport, OrderReport, Report
from models.terms import is_another
from models.vocabulary import Outcome, Side, signed
from worker.positions.archived import told_later
from worker.positions.parted import parted
from worker.runtime.clock import elapsed, utcnow
from worker.runtime.isolate import isolate
from worker.runtime.said import Said

#: Reports that are looked up at once.
_AT_ONCE = 1000
Whose = Literal["ours", "external", "archived", "open"]
_MARK_EVERY_S = 60.0
#: `last_seen_at` of an order that has not changed is written this often.
_SEEN_EVERY = timedelta(seconds=60)
_DONE = [str(status) for status in DONE]
#: What a correction changes of an execution.
_CORRECTED = (
    "quantity", "price", "currency", "cumulative_quantity", "commission", "commission_currency", "revision",
    "voided_at", "filled_at",
)  # fmt: skip
_SHOWN = (
    "broker_client_order_id", "symbol", "quantity", "limit_price", "stop_price", "filled_quantity", "avg_fill_price",
    "raw_status", "submitted_at", "account",
)  # fmt: skip
#: A line for the log: its event, and its values.
_Told = tuple[str, dict[str, str]]


class _Ours(TypedDict):
    """An attempt of ours that a report may be about."""

    broker_client_order_id: str
    broker_order_id: str | None
    session: str | None
    account: str | None
    symbol: str
    side: str
    legs: list[Json] | None


def whose_order(
    report: OrderReport | FillReport,
    our_ids: Collection[str],
    their_ids: Collection[str],
    unsettled: Collection[str | None],
) -> Whose:
    """Tell whose an order is.

    Args:
        report: about the order.
        our_ids: ids that we gave to orders at this broker, as far as reports name them.
        their_ids: ids that the broker gave to orders of ours, as far as reports name them.
        unsettled: symbols in which an attempt of ours is sending or unknown.
    """
    if report.broker_client_order_id in our_ids or report.broker_order_id in their_ids:
        return "ours"
    if report.broker_order_id is None:
        return "open"
    if report.broker_client_order_id:
        return "external"
    return "open" if unsettled and (report.symbol is None or report.symbol in unsettled) else "external"


def _part_of(report: OrderReport | FillReport) -> str | None:
    """Return our id of the order that a report's order is linked to."""
    return report.part_of if isinstance(report, OrderReport) else None


class External:
    """Other people's orders at one broker."""

    def __init__(self, database: Database, broker: str) -> None:
        self.database, self.broker = database, broker
        self._marked = -math.inf
        self._said, self._refused = Said(broker, logging.WARNING, most=10_000), Said(broker)

    def note(self, reports: Iterable[Report]) -> bool:
        """Record what is not ours among these; returns False if something had to be left open, or cannot be written."""
        given = list(reports)
        about = [r for r in given if not isinstance(r, CommissionReport)]
        commissions = [r for r in given if isinstance(r, CommissionReport)]
        # Most readings hold nothing that is not ours: those take no write lock.
        with self.database.read() as connection:
            chunks = (about[at : at + _AT_ONCE] for at in range(0, len(about), _AT_ONCE))
            found = [pair for chunk in chunks for pair in self._sort(connection, chunk)]
        theirs = [part for r, whose in found if whose == "external" for part in parted(r)]
        told_later(self.database, self.broker, [r for r, whose in found if whose == "archived"])
        done = isolate(self._recorded, theirs, "external_not_recorded", self._refused) if theirs else []
        for event, words in (line for _, lines in done for line in lines):
            self._said.once(event, **words)
        if commissions:
            self.database.transact(partial(self._commissions, commissions))
        return sum(count for count, _ in done) == len(theirs) and all(whose != "open" for _, whose in found)

    def _recorded(self, theirs: Sequence[OrderReport | FillReport]) -> tuple[int, list[_Told]]:
        """Record reports in a transaction; returns how many, and lines for the log."""
        return len(theirs), self.database.transact(partial(self._record, theirs))

    def _record(self, theirs: Sequence[OrderReport | FillReport], connection: Connection) -> list[_Told]:
        """Record reports on other people's orders; returns lines for the log, which follow the commit."""
        fresh = self._orders(connection, theirs)
        told = self._fills(connection, [fill for report in theirs for fill in fills_in(report)])
        names = ("broker_order_id", "symbol", "side", "quantity")
        return [*told, *(("external_order", _words(row, *names)) for row in fresh)]

    def _sort(
        self, connection: Connection, reports: Sequence[OrderReport | FillReport]
    ) -> list[tuple[OrderReport | FillReport, Whose]]:
        """Tell of each report whose order it is about."""
        a = attempts.c
        # Open attempts are read before ids: an attempt that ends between the two has its broker's id recorded by then.
        unsettled = unsettled_symbols(connection, self.broker)
        by_ours = {id_ for r in reports for id_ in (r.broker_client_order_id, _part_of(r))} - {None}
        by_theirs = {r.broker_order_id for r in reports} - {None}
        attempted = (
            select(a.broker_client_order_id, a.broker_order_id, a.session, a.account)
            .add_columns(orders.c.symbol, orders.c.side, orders.c.legs)
            .join_from(attempts, orders, a.client_order_id == orders.c.client_order_id)
        )
        query = named(attempted, self.broker, sorted(map(str, by_ours)), sorted(map(str, by_theirs)))
        by_id: dict[str | None, list[_Ours]] = {}
        for row in fetch(connection, query, _Ours):
            for id_ in {row["broker_client_order_id"], row["broker_order_id"]} - {None}:
                by_id.setdefault(id_, []).append(row)
        found = [(report, self._whose(report, by_id, unsettled)) for report in reports]
        theirs = [report for report, whose in found if whose == "external"]
        parts = parted_by_archive(connection, self.broker, theirs)
        ours = [(report, whose) for report, whose in found if whose != "external"]
        return [*ours, *((part, "archived" if gone else "external") for part, gone in parts)]

    @staticmethod
    def _whose(
        report: OrderReport | FillReport, by_id: dict[str | None, list[_Ours]], unsettled: Collection[str | None]
    ) -> Whose:
        """Tell it of one report, by the attempts that have its ids; an order that is linked to ours is ours."""
        if (lead := _part_of(report)) is not None and lead in by_id:
            return "ours"
        named = (row for id_ in (report.broker_client_order_id, report.broker_order_id) for row in by_id.get(id_, ()))
        ours = [row for row in named if not is_another(row, report) and not is_elsewhere(row, report)]
        our_ids = {row["broker_client_order_id"] for row in ours}
        their_ids = {id_ for row in ours if (id_ := row["broker_order_id"]) is not None}
        return whose_order(report, our_ids, their_ids, unsettled)

    # -- WRITE ---
    def _orders(self, connection: Connection, reports: Sequence[OrderReport | FillReport]) -> list[ExternalOrderRow]:
        """Insert what is new and update what has changed; returns the new rows."""
        now = utcnow()
        latest: dict[str, OrderReport | FillReport] = {
            str(r.broker_order_id): r for r in reports if isinstance(r, FillReport)
        }
        latest |= {str(r.broker_order_id): r for r in reports if isinstance(r, OrderReport)}
        e = external_orders.c
        mine = (e.broker == self.broker) & e.broker_order_id.in_(list(latest))
        listed = fetch(connection, select(external_orders).where(mine), ExternalOrderRow)
        known = {row["broker_order_id"]: row for row in listed}
        fresh = [_row(self.broker, r, now) for id_, r in latest.items() if id_ not in known]
        if fresh:
            connection.execute(upsert(connection, external_orders).on_conflict_do_nothing(), _plain(fresh))
        for id_, report in latest.items():
            if id_ in known and isinstance(report, OrderReport):
                self._update(connection, known[id_], report, now)
        stale = mine & (e.last_seen_at < now - _SEEN_EVERY)
        connection.execute(update(external_orders).where(stale).values(last_seen_at=now))
        return fresh

    def _update(self, connection: Connection, row: ExternalOrderRow, report: OrderReport, now: datetime) -> None:
        """Write what has changed of an order; one that has ended does not come alive by an older reading."""
        if row["status"] in _DONE and report.status not in DONE:
            return  # read before it ended, written after
        before: Values = row
        news = {name: value for name, value in _shown(report).items() if value is not None and before[name] != value}
        if news:
            e = external_orders.c
            key = (e.broker == self.broker) & (e.broker_order_id == row["broker_order_id"])
            connection.execute(update(external_orders).where(key).values(**news, last_seen_at=now))

    def _fills(self, connection: Connection, told: Sequence[FillReport]) -> list[_Told]:
        """Record executions: each once, as its broker told it last; returns lines for the log."""
        if not told:
            return []
        now, e = utcnow(), external_fills.c
        orders_ = {fill.broker_order_id for fill in told}
        query = select(external_fills).where(
            e.broker == self.broker,
            or_(e.execution_id.in_({fill.execution_id for fill in told}), e.broker_order_id.in_(orders_)),
        )
        known = {row["execution_id"]: row for row in fetch(connection, query, ExternalFillRow)}
        # Two feeds may name one execution differently; the stretch of its order that it fills is the same.
        ends = {_end(row) for row in known.values()}
        new: dict[str, ExternalFillRow] = {}
        changed: dict[str, Decimal] = {}
        lines: list[_Told] = []
        for fill in told:
            row = _fill_row(self.broker, fill, now)
            id_ = row["execution_id"]
            if (same := new.get(id_) or known.get(id_)) is not None:
                if row["revision"] > same["revision"] or (row["voided_at"] and same["quantity"]):
                    if id_ in known:
                        changed.setdefault(id_, same["quantity"])
                    _correct(same, row)
            elif fill.amends:  # of an execution that nobody has told under that name: none of its own
                lines.append(("external_fill_unexplained", _words(row, "execution_id")))
            elif _end(row) is None or _end(row) not in ends:
                new[id_] = row
                ends.add(_end(row))
        if new:
            connection.execute(upsert(connection, external_fills).on_conflict_do_nothing(), _plain(new.values()))
        for id_ in changed:
            values: Values = known[id_]
            news = {name: values[name] for name in _CORRECTED}
            connection.execute(update(external_fills).where(e.id == values["id"]).values(**news))
        self._follow(connection, [known[id_] for id_ in changed], changed, now)
        if new or changed:
            self._add_up(connection, orders_)
        for id_, before in changed.items():
            words = _words(known[id_], "execution_id", "symbol", "quantity", "price")
            lines.append(("external_fill_corrected", {**words, "was": str(before)}))
        return lines

    def _follow(
        self, connection: Connection, rows: Sequence[ExternalFillRow], before: dict[str, Decimal], now: datetime
    ) -> None:
        """Let the baselines follow the executions that count more or less than they did."""
        moved = [
            Moved(where, row["id"], symbol, signed(Side(side)) * (row["quantity"] - before[row["execution_id"]]))
            for where, row in ((destination_of(row), row) for row in rows)
            if (symbol := row["symbol"]) is not None and (side := row["side"]) is not None
        ]
        follow(connection, moved, now, external=True)

    def _add_up(self, connection: Connection, ids: Collection[str | None]) -> None:
        """An order of which only executions were seen shows at least what they add up to."""
        f, o = external_fills.c, external_orders.c
        query = (
            select(f.broker_order_id, func.sum(f.quantity))
            .where(f.broker == self.broker, f.broker_order_id.in_(list(ids)))
            .group_by(f.broker_order_id)
        )
        for id_, total in connection.execute(query).all():
            less = or_(o.filled_quantity.is_(None), o.filled_quantity < total)
            key = (o.broker == self.broker) & (o.broker_order_id == id_)
            connection.execute(update(external_orders).where(key & less).values(filled_quantity=round(total, 9)))

    def _commissions(self, reports: Iterable[CommissionReport], connection: Connection) -> None:
        for report in reports:
            key = (external_fills.c.broker == self.broker) & (external_fills.c.execution_id == report.execution_id)
            values = {"commission": report.commission, "commission_currency": report.currency}
            connection.execute(update(external_fills).where(key).values(**values))

    # -- READ ---
    def read_until(self, at: datetime) -> None:
        """Remember that every execution before a time has been read and booked, as ours or as external."""
        if elapsed() - self._marked < _MARK_EVERY_S:
            return  # the next reading overlaps by more than that
        put = update(position_ledgers).where(is_behind(position_ledgers.c.broker, self.broker)).values(fills_read_at=at)
        done = self.database.transact(lambda connection: connection.execute(put).rowcount)
        self._marked = elapsed() if done else -math.inf

    def vanished(self, listed: Collection[str | None]) -> tuple[list[str], datetime | None]:
        """Return external orders that were live and are not among the open ones any more, and when the first began."""
        e = external_orders.c
        live = (e.broker == self.broker) & e.status.not_in([*_DONE, str(BrokerStatus.UNKNOWN)])
        query = select(e.broker_order_id, func.coalesce(e.submitted_at, e.first_seen_at)).where(live)
        with self.database.read() as connection:
            gone = [(id_, at) for id_, at in connection.execute(query) if id_ not in listed]
        return [id_ for id_, _ in gone], min((at for _, at in gone), default=None)

    def lose(self, ids: Collection[str]) -> None:
        """Say of external orders that their broker shows them nowhere any more: what became of them is not known."""
        key = (external_orders.c.broker == self.broker) & external_orders.c.broker_order_id.in_(list(ids))
        still = external_orders.c.status.not_in(_DONE)
        put = update(external_orders).where(key & still).values(status=str(BrokerStatus.UNKNOWN))
        self.database.transact(lambda connection: connection.execute(put))


def unsettled_symbols(connection: Connection, broker: str) -> set[str]:
    """Return the symbols in which an attempt of ours at this broker is sending or unknown."""
    query = (
        select(orders.c.symbol, orders.c.legs)
        .join_from(attempts, orders, attempts.c.client_order_id == orders.c.client_order_id)
        .where(attempts.c.broker == broker, attempts.c.outcome.in_([str(Outcome.SENDING), str(Outcome.UNKNOWN)]))
    )
    return {name for symbol, legs in connection.execute(query) for name in symbols_of(symbol, legs)}


def _fill_row(broker: str, fill: FillReport, now: datetime) -> ExternalFillRow:
    """Return the row of somebody else's execution."""
    return {
        "broker": broker,
        "account": fill.account,
        "execution_id": fill.execution_id,
        "broker_order_id": fill.broker_order_id,
        "symbol": fill.symbol,
        "side": fill.side and str(fill.side),
        "quantity": Decimal(0) if fill.busted else fill.quantity,
        "price": fill.price,
        "currency": fill.currency,
        "multiplier": fill.multiplier,
        "cumulative_quantity": fill.cumulative_quantity,
        "commission": fill.commission,
        "commission_currency": fill.commission_currency,
        "revision": fill.revision,
        "voided_at": now if fill.busted else None,
        "filled_at": fill.filled_at,
        "recorded_at": now,
    }


def _correct(row: ExternalFillRow, news: ExternalFillRow) -> None:
    """Take the later words on an execution; where they leave something out, the earlier ones stand."""
    told = {name: value for name, value in news.items() if value is not None}
    row.update(cast(ExternalFillRow, told))
    row["voided_at"] = news["voided_at"]  # an execution that was taken back and is told anew counts again


def _plain(rows: Iterable[Values]) -> list[dict[str, object]]:
    return [dict(row) for row in rows]


def _words(row: Values, *names: str) -> dict[str, str]:
    return {name: str(row[name]) for name in names}


def _end(row: ExternalFillRow) -> tuple[str | None, Decimal] | None:
    """Return the end of the stretch of its order that an execution fills; None where the broker does not say."""
    end = row["cumulative_quantity"]
    return None if end is None else (row["broker_order_id"], end)


def _shown(report: OrderReport) -> dict[str, object]:
    words: dict[str, object] = {name: getattr(report, name) for name in _SHOWN}
    for name in ("side", "order_type", "time_in_force", "status"):
        value = getattr(report, name)
        words[name] = value if value is None else str(value)
    return words


def _row(broker: str, report: OrderReport | FillReport, now: datetime) -> ExternalOrderRow:
    """Return the row of somebody else's order; of one that only an execution tells of, what that says."""
    if isinstance(report, FillReport):  # its order has not been listed
        report = OrderReport(
            broker_order_id=report.broker_order_id,
            status=BrokerStatus.UNKNOWN,
            broker_client_order_id=report.broker_client_order_id,
            symbol=report.symbol,
            side=report.side,
            filled_quantity=report.cumulative_quantity,
            account=report.account,
        )
    key = {"broker": broker, "broker_order_id": report.broker_order_id, "first_seen_at": now, "last_seen_at": now}
    return cast(ExternalOrderRow, key | _shown(report))
