"""Data requests and their results as rows: what the client writes, the worker answers and the client reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from models.errors import InvalidOrder
from models.messages import FetchRequest, plain
from models.reports import Bar
from models.tables import bars, fetches

R = TypeVar("R")

#: Sizes of bars in corro's words, and how long one bar is.
TIMEFRAMES: dict[str, timedelta] = {
    "1Min": timedelta(minutes=1),
    "5Min": timedelta(minutes=5),
    "15Min": timedelta(minutes=15),
    "30Min": timedelta(minutes=30),
    "1Hour": timedelta(hours=1),
    "1Day": timedelta(days=1),
    "1Week": timedelta(weeks=1),
    "1Month": timedelta(days=31),
}
#: The longest stretch asked for and stored at once: progress shows, and a crash loses no more than this.
MAX_SPAN: dict[str, timedelta] = {
    name: timedelta(days=5) if size < timedelta(minutes=5) else timedelta(days=30) if size < timedelta(days=1)
    else timedelta(days=366 * 2)
    for name, size in TIMEFRAMES.items()
}  # fmt: skip


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def as_json(report: object) -> Any:
    """Return a report as JSON types: decimal strings, ISO times, nulls."""
    plain_values = {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in asdict(report).items()  # type: ignore[call-overload]
    }
    return _adapter(dict[str, Any]).dump_python(plain_values, mode="json")


def from_json(kind: type[R], value: Any) -> R:
    """Return the report that `as_json` wrote."""
    report: R = _adapter(cast(Any, kind)).validate_python(value)
    return report


def insert_fetch(connection: Connection, fetch: FetchRequest, route: Sequence[str], now: datetime) -> None:
    """Record a request; one that is there already stays as it is."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(fetches)
        .values(
            fetch_id=fetch.fetch_id,
            kind=fetch.kind,
            request=dict(fetch.request),
            route=list(route),
            broker=route[0],
            status="queued",
            attempt_no=0,
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing(index_elements=[fetches.c.fetch_id])
    )


def store_bars(connection: Connection, broker: str, symbol: str, timeframe: str, page: Sequence[Bar]) -> None:
    """Write bars; one that is there already takes the new values."""
    if not page:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(bars)
    keys = ("broker", "symbol", "timeframe", "start")
    values = {name: statement.excluded[name] for name in ("open", "high", "low", "close", "volume")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=[bars.c[name] for name in keys], set_=values),
        [{"broker": broker, "symbol": symbol, "timeframe": timeframe, **asdict(bar)} for bar in page],
    )


@dataclass(frozen=True, slots=True)
class BarsRequest:
    """A checked request for bars: start <= bar < end."""

    symbol: str
    timeframe: str
    start: datetime
    end: datetime

    def share_done(self, until: datetime) -> Decimal:
        """Return how much of the stretch is done, 0 to 1."""
        return round(Decimal((until - self.start) / (self.end - self.start)), 4)

    def summary(self, broker: str, stored: int) -> dict[str, Any]:
        """Return the result that tells the client where the bars are."""
        return {
            "broker": broker,
            "symbol": self.symbol,
            "timeframe": self.timeframe,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "bars": stored,
        }


def text(request: Mapping[str, Any], field: str) -> str:
    """Return a required text field of a request.

    Raises:
        InvalidOrder: it is missing or no text.
    """
    value = request.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidOrder(f"{field}: is required, was {value!r}")
    return value.strip()


def parse_bars(request: Mapping[str, Any], now: datetime) -> BarsRequest:
    """Check a request for bars: symbol, timeframe, start, and end (default now), ISO 8601 with a zone.

    Raises:
        InvalidOrder: names the field and the value.
    """
    timeframe = text(request, "timeframe")
    if timeframe not in TIMEFRAMES:
        raise InvalidOrder(f"timeframe: must be one of {', '.join(TIMEFRAMES)}, was {timeframe!r}")
    start = _time(request, "start")
    end = _time(request, "end") if request.get("end") else now
    if start >= end:
        raise InvalidOrder(f"start: must be before end, was {start.isoformat()} and end {end.isoformat()}")
    return BarsRequest(text(request, "symbol").upper(), timeframe, start, end)


def _time(request: Mapping[str, Any], field: str) -> datetime:
    try:
        value = datetime.fromisoformat(text(request, field))
    except ValueError:
        raise InvalidOrder(f"{field}: must be an ISO 8601 time, was {request.get(field)!r}") from None
    if value.tzinfo is None:
        raise InvalidOrder(f"{field}: must carry a time zone, was {request.get(field)!r}")
    return value
