"""Alpaca's executions: told by the stream, listed by the activities, corrected and taken back by either.

`trade_correct` names the execution that it puts right in `previous_execution_id`, and a correction may be corrected
again under its own id; `trade_bust` takes one back, with a negative qty (Alpaca's trade events, GET /v2/events/trades,
and its changelog of 2026-08-12; that trade_updates carries them alike is assumed). Activities may show a row with
another price or size under its old id. corro knows an execution by its first id; what is told later has a revision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf
from threading import Lock
from time import monotonic
from typing import TypeVar

from models.messages import utcnow
from models.reports import FillReport, OrderReport
from models.vocabulary import Side
from worker.brokers.alpaca.symbols import currency_of, symbol_of
from worker.brokers.values import Raw, identity, moment, needed, number, positive, size, soft

V = TypeVar("V")

FILLS = frozenset({"fill", "partial_fill"})
#: What changes an execution that was told before -> whether it takes it back.
AMENDS: Mapping[str, bool] = {"trade_correct": False, "trade_bust": True}
#: A clock may be ahead of ours by this much; an execution later than that is a broken time.
_AHEAD = timedelta(days=1)
#: Listings may go on showing what an event has put right or taken back for so long, seconds (assumed).
LISTED_WITHIN_S = 300.0
#: Executions remembered; older ones are not told again.
_MOST = 50_000


def of_event(event: Raw, order: OrderReport) -> FillReport:
    """Read the execution that an event of the stream tells, corrects or takes back."""
    amends = event["event"] in AMENDS
    quantity = abs(needed(event, "qty", number)) if amends else needed(event, "qty", positive)
    # The order in the event of an execution counts up to it; after a correction it counts all there are.
    return FillReport(
        execution_id=_named(event, "execution_id"),
        quantity=quantity,
        price=positive(event.get("price")),
        filled_at=_at(event.get("timestamp"), order.updated_at),
        busted=AMENDS.get(event["event"], False),
        amends=amends,
        symbol=order.symbol,
        currency=order.currency,
        side=order.side,
        broker_client_order_id=order.broker_client_order_id,
        broker_order_id=order.broker_order_id,
        cumulative_quantity=None if amends else order.filled_quantity,
    )


def of_activity(raw: Raw) -> FillReport:
    """Read one FILL of the account's activities; its id may differ from the stream's, its cum_qty does not."""
    kind = raw.get("type")
    amends = kind in AMENDS
    side = raw.get("side")
    return FillReport(
        execution_id=_own_id(_named(raw, "id")),
        quantity=abs(needed(raw, "qty", number)) if amends else needed(raw, "qty", positive),
        price=positive(raw.get("price")),
        filled_at=_at(raw["transaction_time"], None),
        busted=AMENDS.get(str(kind), False),
        amends=amends,
        symbol=soft(symbol_of, raw),
        currency=currency_of(soft(symbol_of, raw)),
        side=Side(side) if isinstance(side, str) and side in set(Side) else None,
        broker_order_id=identity(raw.get("order_id")),
        cumulative_quantity=None if amends else size(raw.get("cum_qty")),
    )


def amended(raw: Raw) -> str | None:
    """Return the id of the execution that an event or activity puts right or takes back."""
    if raw.get("event") not in AMENDS and raw.get("type") not in AMENDS:
        return None
    named = identity(raw.get("previous_execution_id")) or identity(raw.get("execution_id", raw.get("id")))
    return named and _own_id(named)


def _own_id(text: str) -> str:
    """Return the UUID in an activity's id, `20260105093000123::UUID`.

    Whether that is the stream's execution_id nobody says (docs/facts/alpaca.md#4.7). If it is, a correction told by one
    feed finds the execution that the other has told; if not, the same stretch of the order tells, as for any other id.
    """
    return text.rpartition("::")[2] or text


def _named(raw: Raw, key: str) -> str:
    found = identity(raw[key])
    if found is None or len(found) > 128:
        raise ValueError(f"{key} is no id, was {str(raw[key])[:140]!r}")
    return found


def _at(value: object, otherwise: datetime | None) -> datetime:
    found = moment(value) or otherwise
    if found is None or found > utcnow() + _AHEAD:
        raise ValueError(f"an execution without a time, or of the future: {value!r}")
    return found


#: What was told of an execution: under which id, how many, at which price, and whether they were taken back.
_Content = tuple[str, Decimal, Decimal | None, bool]


@dataclass
class _Told:
    """All that was told of one execution."""

    #: Each content with its revision, the newest last.
    revisions: dict[_Content, int] = field(default_factory=dict)
    #: What another row of a listing puts right or takes back.
    amended: set[_Content] = field(default_factory=set)
    #: What an event puts right or takes back: id -> when, in seconds of the monotonic clock.
    heard: dict[str, float] = field(default_factory=dict)
    #: When the newest was current at the broker, by the same clock.
    current_at: float = -inf

    def is_of_the_past(self, content: _Content, *, amends: bool, listed_at: float | None) -> bool:
        """Tell whether something else is known that is newer.

        | told by                          | is of the past if                                                     |
        |----------------------------------|-----------------------------------------------------------------------|
        | an event of a new execution      | anything else is known: it is the first telling, however late it came |
        | a correction, a bust             | never                                                                 |
        | a listing                        | it was asked for before something else was told, or soon after an     |
        |                                  | event that puts this right: listings lag                              |
        | a listing, beside its correction | always: it goes on showing both                                       |
        """
        if not self.revisions or content == next(reversed(self.revisions)):
            return False
        if content in self.amended:
            return True
        if listed_at is not None and not amends and listed_at < self.heard.get(content[0], -inf) + LISTED_WITHIN_S:
            return True
        return listed_at < self.current_at if listed_at is not None else not amends

    def put_right(self, named: str) -> None:
        """Take in that listings show what puts a content right as a row beside it."""
        self.amended |= {content for content in self.revisions if content[0] == named}


class Executions:
    """What was told before: a second telling of the same is the same, and of something else a correction.

    Revisions are seconds since 1970, so that they grow over restarts; the first telling has 0.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        #: Id of a correction -> the first id of its execution.
        self._first: OrderedDict[str, str] = OrderedDict()
        #: First id -> all that was told of it.
        self._told: OrderedDict[str, _Told] = OrderedDict()

    def known(
        self,
        fill: FillReport,
        amends: str | None = None,
        *,
        listed_at: float | None = None,
        beside: Collection[str | None] = (),
    ) -> FillReport:
        """Return a telling under the execution's first id, and with its revision.

        Args:
            fill: as the broker told it.
            amends: the id that it puts right or takes back; None if it says of itself that it is new.
            listed_at: when the listing that has it was asked for, by the monotonic clock; None for an event.
            beside: ids that other rows of the same listing put right or take back.
        """
        content = (fill.execution_id, fill.quantity, fill.price, fill.busted)
        with self._lock:
            first = self._first.get(amends or fill.execution_id, amends or fill.execution_id)
            if first != fill.execution_id:
                _keep(self._first, fill.execution_id, first)
            told = self._told.get(first) or _Told()
            _keep(self._told, first, told)
            revisions = told.revisions
            if amends is not None and listed_at is not None and amends != fill.execution_id:
                told.put_right(amends)
            if amends is not None and listed_at is None and amends != fill.execution_id:
                told.heard.setdefault(amends, monotonic())
            if fill.execution_id in beside and amends != fill.execution_id:
                told.amended.add(content)
            if told.is_of_the_past(content, amends=amends is not None, listed_at=listed_at):
                return replace(fill, execution_id=first, revision=revisions.get(content, 0))
            if content not in revisions or (listed_at is not None and list(revisions)[-1] != content):
                revisions.pop(content, None)
                is_later = bool(revisions) or amends is not None
                revisions[content] = (
                    max(int(utcnow().timestamp()), *(revisions.values() or (0,))) + 1 if is_later else 0
                )
            told.current_at = max(told.current_at, monotonic() if listed_at is None else listed_at)
            return replace(fill, execution_id=first, revision=revisions[content])


def _keep(kept: OrderedDict[str, V], key: str, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _MOST:
        kept.popitem(last=False)
