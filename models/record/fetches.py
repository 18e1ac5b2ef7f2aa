"""Data requests and their results as rows: what the client writes, the worker answers and the client reads."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, func, or_, select

from models.encoding import to_json
from models.errors import InvalidOrder, InvalidRequest
from models.explaining import shown
from models.groups import objection
from models.lookups import InstrumentQuery
from models.messages import FetchRequest, OrderRequest, trimmed
from models.record.rows import BarRow, Json
from models.record.statements import fetch as fetch_rows
from models.record.statements import upsert
from models.record.tables import bars, fetches
from models.reports import Bar
from models.timeframes import TIMEFRAMES, Duration, Timeframe, moment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R")
#: The fields of a request, as they travel.
Fields = Mapping[str, object]

#: What any broker can answer. The other kinds are about one account, so nobody else can.
MARKET_DATA = frozenset({"quote", "bars", "instruments"})
#: The fields that each kind of request may have.
FIELDS: dict[str, frozenset[str]] = {
    "quote": frozenset({"symbol"}),
    "bars": frozenset({"symbol", "timeframe", "start", "end", "duration"}),
    "account": frozenset({"account"}),
    "positions": frozenset(),
    "orders": frozenset({"open_only", "since"}),
    "instruments": frozenset({"query", "asset_class", "expiry", "limit", "search"}),
    "preview": frozenset({"order", "orders"}),
}
_SYMBOL = re.compile(r"[A-Z0-9$^][A-Z0-9.\-/@ ]{0,31}")
#: How far back bars may be asked for: what bounds the pages of a fetch.
LONGEST_YEARS = 100
_BAR = ("open", "high", "low", "close", "volume")


_adapter = cache(TypeAdapter)


def as_json(report: DataclassInstance) -> Json:
    """Return a report as JSON types: decimal strings, ISO times, nulls."""
    return cast(Json, _adapter(Json).dump_python(to_json(asdict(report)), mode="json"))


def from_json(kind: type[R], value: object) -> R:
    """Return the report that `as_json` wrote."""
    return cast(R, _adapter(cast(Hashable, kind)).validate_python(value))


# -- ROWS ---
def insert_fetch(
    connection: Connection, fetch: FetchRequest, route: Sequence[str], now: datetime, error: str | None = None
) -> None:
    """Record a request; one that is there already stays as it is. With an error it has failed before it began."""
    connection.execute(
        upsert(connection, fetches)
        .values(
            fetch_id=fetch.fetch_id,
            kind=fetch.kind,
            request=dict(fetch.request),
            route=list(route),
            broker=route[0],
            status="failed" if error else "queued",
            error=error,
            attempt_no=0,
            tries=0,
            stored=0,
            available_at=now,
            created_at=now,
            updated_at=now,
            ended_at=now if error else None,
        )
        .on_conflict_do_nothing(index_elements=[fetches.c.fetch_id])
    )


def store_bars(
    connection: Connection, broker: str, symbol: str, frame: Timeframe, page: Sequence[Bar], asked_at: datetime
) -> None:
    """Write bars; one that is there already takes the new values, so a bar that was still forming gets its end.

    Args:
        connection: to write by.
        broker: who told them.
        symbol: whose they are.
        frame: their size.
        page: the bars.
        asked_at: what ended later was still forming; a complete bar that is there is not overwritten by such a one.
    """
    if not page:
        return
    statement = upsert(connection, bars)
    keys = ("broker", "symbol", "timeframe", "start")
    values = {name: statement.excluded[name] for name in (*_BAR, "complete")}
    same = {"broker": broker, "symbol": symbol, "timeframe": frame.name}
    told = ("start", *_BAR)
    rows = [
        {**same, **{name: getattr(bar, name) for name in told}, "complete": frame.end(bar.start) <= asked_at}
        for bar in page
    ]
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[bars.c[name] for name in keys],
            set_=values,
            where=or_(statement.excluded.complete, bars.c.complete.is_not(True)),
        ),
        rows,
    )


def read_bars(connection: Connection, broker: str, wanted: BarsRequest) -> list[BarRow]:
    """Return the stored bars of one broker that a request asks for, oldest first."""
    columns = (bars.c[name] for name in ("start", *_BAR, "broker", "symbol", "timeframe", "complete"))
    query = select(*columns).where(wanted.at(broker)).order_by(bars.c.start)
    return fetch_rows(connection, query, BarRow)


class BarsSummary(TypedDict):
    """The result of a request for bars: where they are, how many, and how far they reach."""

    broker: str
    symbol: str
    timeframe: str
    start: str
    end: str
    bars: int
    first: str | None
    last: str | None


def summary(connection: Connection, broker: str, wanted: BarsRequest) -> BarsSummary:
    """Return the result of a request for bars: where they are, how many, and how far they reach."""
    query = select(func.count(), func.min(bars.c.start), func.max(bars.c.start)).where(wanted.at(broker))
    count, first, last = connection.execute(query).one()
    return {
        "broker": broker,
        "symbol": wanted.symbol,
        "timeframe": wanted.frame.name,
        "start": wanted.start.isoformat(),
        "end": wanted.end.isoformat(),
        "bars": count,
        "first": first and first.isoformat(),
        "last": last and last.isoformat(),
    }


# -- REQUESTS ---
@dataclass(frozen=True, slots=True)
class BarsRequest:
    """A checked request for bars: start <= bar < end."""

    symbol: str
    frame: Timeframe
    start: datetime
    end: datetime

    def pages(self, cursor: datetime | None) -> Iterator[tuple[datetime, datetime]]:
        """Return the stretches to ask for one after the other; everything before the cursor is stored."""
        return self.frame.pages(cursor or self.start, self.end)

    def asked_by(self, now: datetime) -> datetime:
        """Return until when its bars are told as they ended: to the end of the stretch, or to now."""
        return min(self.frame.around(self.start, self.end)[1], now)

    def share_done(self, until: datetime) -> Decimal:
        """Return how much of the stretch is done, 0 to 1."""
        return round(Decimal((until - self.start) / (self.end - self.start)), 4)

    def at(self, broker: str) -> ColumnElement[bool]:
        """Return the condition that chooses its bars of one broker."""
        b = bars.c
        mine = (b.broker == broker) & (b.symbol == self.symbol) & (b.timeframe == self.frame.name)
        return mine & (b.start >= self.start) & (b.start < self.end)


def check(kind: str, request: Fields, now: datetime) -> None:
    """Check everything about a request that can be checked without a broker.

    Raises:
        InvalidRequest: names the field and the value.
    """
    if unknown := sorted(set(request) - FIELDS[kind]):
        takes = ", ".join(sorted(FIELDS[kind])) or "no fields"
        raise InvalidRequest(f"{unknown[0]}: data.{kind} has no such field (it takes {takes})")
    if kind == "quote":
        symbol_of(request)
    elif kind == "bars":
        parse_bars(request, now)
    elif kind == "orders":
        parse_orders(request)
    elif kind == "instruments":
        InstrumentQuery.of(request)
    elif kind == "preview":
        parse_preview(request)


def symbol_of(request: Fields) -> str:
    """Return the symbol of a request, upper case.

    Raises:
        InvalidRequest: it is missing, or none.
    """
    symbol = _text(request, "symbol").upper()
    if not _SYMBOL.fullmatch(symbol):
        raise InvalidRequest(f"symbol: must be a symbol such as AAPL or BRK.B, was {shown(request['symbol'])}")
    return symbol


def parse_orders(request: Fields) -> tuple[bool, datetime | None]:
    """Return `open_only` (default true) and `since` of a request for the orders at a broker.

    Raises:
        InvalidRequest: names the field and the value.
    """
    open_only, since = request.get("open_only"), request.get("since")
    if open_only is not None and not isinstance(open_only, bool):
        raise InvalidRequest(f"open_only: must be true or false, was {shown(open_only)}")
    return open_only is not False, None if since is None else moment(_text(request, "since"), "since")


def parse_preview(request: Fields) -> list[OrderRequest]:
    """Return the order that a preview is about, or the legs of one group, the lead first.

    Raises:
        InvalidRequest: it is neither, with the field and the value.
    """
    if "orders" not in request:
        return [_order("order", request.get("order"))]
    given = request["orders"]
    if "order" in request or not isinstance(given, list) or not 2 <= len(given) <= 3:
        raise InvalidRequest(f"orders: must be the legs of one group, without `order` beside them, was {shown(given)}")
    legs = [_order("orders", each) for each in given]
    if len({leg.group and leg.group.id for leg in legs}) > 1 or legs[0].group is None:
        raise InvalidRequest("orders: they must be the legs of one group, each with its field `group`")
    if (wrong := objection(legs)) is not None:
        raise InvalidRequest(f"orders: {wrong}")
    return sorted(legs, key=lambda leg: not leg.group.is_lead if leg.group else True)


def _order(name: str, order: object) -> OrderRequest:
    if not isinstance(order, dict):
        raise InvalidRequest(f"{name}: must be an order object, was {shown(order)}")
    try:
        return OrderRequest(**order)
    except (InvalidOrder, TypeError) as error:
        raise InvalidRequest(f"{name}: {error}") from None


def parse_bars(request: Fields, now: datetime) -> BarsRequest:
    """Check a request for bars: symbol, timeframe, and two of start, end (default now) and duration.

    Args:
        request: the fields as they travel.
        now: when it was made; without `end`, and for one that lies later, the bars end there.

    Raises:
        InvalidRequest: names the field and the value.
    """
    name = _text(request, "timeframe")
    if name not in TIMEFRAMES:
        raise InvalidRequest(f"timeframe: must be one of {', '.join(TIMEFRAMES)}, was {shown(name)}")
    start, end = _stretch(request, now)
    if start >= now:
        raise InvalidRequest(f"start: must be in the past (now is {now.isoformat()}), was {start.isoformat()}")
    if start < Duration(months=12 * LONGEST_YEARS).before(now):
        raise InvalidRequest(f"start: must be in the last {LONGEST_YEARS} years, was {start.isoformat()}")
    if start >= end:
        raise InvalidRequest(f"start: must be before end ({end.isoformat()}), was {start.isoformat()}")
    return BarsRequest(symbol_of(request), TIMEFRAMES[name], start, min(end, now))


def _stretch(request: Fields, now: datetime) -> tuple[datetime, datetime]:
    """Return where the bars of a request begin and end.

    Raises:
        InvalidRequest: start, end and duration do not go together.
    """
    given = [field for field in ("start", "end", "duration") if request.get(field) is not None]
    if given == ["start", "end", "duration"]:
        raise InvalidRequest("duration: give it with start or with end, not with both")
    start, end = (moment(_text(request, f), f) if f in given else None for f in ("start", "end"))
    if "duration" not in given:
        if start is None:
            raise InvalidRequest("start: is required, or duration")
        return start, end or now
    length = Duration.parse(_text(request, "duration"))
    if start is not None:
        return start, length.after(start)
    end = min(end or now, now)
    return length.before(end), end


def _text(request: Fields, field: str) -> str:
    """Return a field that has to be text.

    Raises:
        InvalidRequest: it is missing, empty, or has control characters.
    """
    value = request.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"{field}: is required as text, was {shown(value)}")
    try:
        return trimmed(value)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}, was {shown(value)}") from None
