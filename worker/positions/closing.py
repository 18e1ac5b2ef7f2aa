"""Closing orders are sent only where the position is: elsewhere `sell` and `buy_to_cover` would open the opposite.

`decide_closing` is the pure rule for one order at one broker; `Closings` is what a claim looks at, for the length of
its transaction. Where else the order may go is the routing's decision (`worker.orders.routing`), from the same figures.

A broker's figure may lag behind a fill and our books may not know yet of somebody else's, so an order is sent only if
both allow it, and turned away only if both forbid it, by a reading taken for this very order.

| reading of the positions               | by the broker | by our books | verdict     |
|----------------------------------------|---------------|--------------|-------------|
| none, or too old                       | any           | any          | read anew   |
| valid                                  | enough        | enough       | send        |
| valid, from before somebody asked      | one of the two not enough    || read anew   |
| since somebody asked                   | the two do not agree         || read anew   |
| since somebody asked                   | not enough    | not enough   | no position |

Enough is free of what other closing orders may still take. Books that cannot tell (a baseline that is not taken yet, a
symbol that is locked) agree with the broker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from sqlalchemy import Connection, text

from models.destinations import destination_of
from models.legs import taken_by
from models.messages import plain
from models.record.order import OrderRecord
from models.record.rows import ReadableOrder, by_name
from models.sizes import left_of
from models.vocabulary import Side
from worker.positions.holdings import Holding, holdings

Verdict = Literal["send", "read anew", "no position"]

#: From the best to the worst: an order with legs is sent where each of them may be.
_WORSE: tuple[Verdict, ...] = ("send", "read anew", "no position")
#: Pause before an order whose broker's positions could not settle it is looked at again.
AGAIN = timedelta(seconds=2)
_ZERO = Decimal(0)
_LOCK = text("select pg_advisory_xact_lock(hashtext('corro.closing'), hashtext(:broker))")


def decide_closing(
    wanted: Decimal, held: Holding, *, now: datetime, valid_s: float, asked_at: datetime | None
) -> Verdict:
    """Decide whether a closing order may be sent to a broker.

    Args:
        wanted: shares to send.
        held: the position there, in shares that the order's side may take.
        now: the time.
        valid_s: how long a reading of positions may be relied on, seconds.
        asked_at: since when a reading counts as taken for this order; None: none was asked for yet.
    """
    if held.read_at is None or held.read_at < now - timedelta(seconds=valid_s):
        return "read anew"
    if wanted <= held.least:
        return "send"
    if asked_at is None or held.read_at < asked_at or wanted <= held.most:
        return "read anew"
    return "no position"


@dataclass(slots=True)
class Asked:
    """What one look at waiting orders has asked about positions."""

    #: Readings since then were taken for these orders; None: no reading was asked for yet.
    since: datetime | None = None
    #: Why there is none.
    error: str | None = None
    #: Symbols whose size the broker did not tell.
    unread: Collection[str] = ()
    #: Orders that wait for a reading.
    ids: dict[str, None] = field(default_factory=dict)


class Closings:
    """The closing orders of one claim: none takes what another one may take.

    Args:
        connection: of the transaction.
        broker: whose orders these are.
        brokers: everywhere that a position may be: destinations.
        valid_s: how long a reading of positions may be relied on, seconds.
    """

    def __init__(self, connection: Connection, broker: str, brokers: Iterable[str], valid_s: float) -> None:
        self.connection, self.broker, self.valid_s = connection, broker, valid_s
        self.brokers = sorted(brokers)
        #: Shares of orders that this claim has let pass, by destination, symbol and side.
        self._passed: dict[tuple[str, str, Side], Decimal] = {}
        if connection.dialect.name != "sqlite":  # there only one writes at a time
            connection.execute(_LOCK, {"broker": broker})

    def judge(self, entry: OrderRecord, wanted: Decimal, asked: Asked, *, growing: bool = False) -> Verdict:
        """Decide about one order, and remember it if it may be sent.

        Args:
            entry: the order.
            wanted: shares to send, beyond what it has at the broker already.
            asked: what was asked of the broker for it.
            growing: it is at the broker, and counts like any other.
        """
        but, where = None if growing else entry.id, destination_of(entry.order)
        taken = [(where, symbol, side, wanted * units) for symbol, side, units in taken_by(by_name(entry.order))]
        verdicts = [self._verdict(*place, but, entry.now, asked) for place in taken]
        if (worst := max(verdicts, key=_WORSE.index)) == "send":
            for at, symbol, side, units in taken:
                self._passed[at, symbol, side] = self._passed.get((at, symbol, side), _ZERO) + units
        return worst

    def _verdict(
        self, where: str, symbol: str, side: Side, wanted: Decimal, but: str | None, now: datetime, asked: Asked
    ) -> Verdict:
        held = holdings(self.connection, [where], symbol, side, but=but)[where]
        passed = self._passed.get((where, symbol, side), _ZERO)
        verdict = decide_closing(wanted + passed, held, now=now, valid_s=self.valid_s, asked_at=asked.since)
        if verdict == "no position" and (asked.error or symbol in asked.unread):
            return "read anew"
        return verdict

    def words(self, entry: OrderRecord) -> str:
        """Say who holds how much of it."""
        return "; ".join(self._words(entry, *taken) for taken in taken_by(by_name(entry.order)))

    def _words(self, entry: OrderRecord, symbol: str, side: Side, units: int) -> str:
        at = destination_of(entry.order)
        found = holdings(self.connection, [at, *self.brokers], symbol, side, but=entry.id)
        wanted = plain(left_of(entry.order) * units)
        here = f"{at} {_held(found[at], symbol, side)}, and {wanted} are to be closed"
        others = [(name, found[name]) for name in self.brokers if name != at]
        there = [told for name, held in others if held.read_at and (told := _elsewhere(held, name))]
        unknown = [f"not known at {name}" for name, held in others if held.read_at is None]
        return "; ".join((here, *there, *unknown))

    def doubt(self, entry: OrderRecord, asked: Asked) -> str:
        """Say why it is not known whether the broker holds enough."""
        return "; ".join(self._doubt(entry, symbol, side, asked) for symbol, side, _ in taken_by(by_name(entry.order)))

    def _doubt(self, entry: OrderRecord, symbol: str, side: Side, asked: Asked) -> str:
        at = destination_of(entry.order)
        if asked.error or symbol in asked.unread:
            why = asked.error or f"the broker does not tell how much {symbol} it holds"
            return f"{self.broker}: its positions cannot be read, so the order waits: {why}"
        held = holdings(self.connection, [at], symbol, side, but=entry.id)[at]
        books = "" if held.books is None else f", our books say {plain(held.books)}"
        return f"{at} {_held(held, symbol, side)}{books}: the order waits until that is clear"


def _held(held: Holding, symbol: str, side: Side) -> str:
    short = "" if side is Side.SELL else " short"
    taken = f", of which other orders may take {plain(held.busy)}" if held.busy else ""
    return f"holds {plain(max(held.shown, _ZERO))} {symbol}{short}{taken}"


def _elsewhere(held: Holding, name: str) -> str | None:
    """Say how much another broker holds, by its last reading and by our books; None where neither knows of any."""
    shown, books = (max(size, _ZERO) for size in (held.shown, held.shown if held.books is None else held.books))
    if not shown and not books:
        return None
    doubt = "" if books == shown else f" by our books, {plain(shown)} by its last reading"
    taken = f", of which other orders may take {plain(held.busy)}" if held.busy else ""
    return f"{plain(books)} are at {name}{doubt}{taken}"


def closes(order: ReadableOrder) -> bool:
    """Tell whether an order closes a position, or one of its legs does."""
    return bool(taken_by(by_name(order)))
