"""What money of a day was worth in another currency, by prices of pairs that somebody has told: never a guess.

| what tells it                                        | its time               |
|------------------------------------------------------|------------------------|
| an execution in the pair: ours, archived, of others  | when it traded         |
| a stored bar of a day or shorter: its close, where   | the end of the bar     |
| it was over when its broker was asked for it         |                        |
| the price by which limits judged an order            | as `reference_prices`  |

The newest by the end of the day in New York counts, or by now; one that is older than a week is none. The pair may be
written either way round; nothing goes by a third currency, for nobody has told such a rate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Connection, FromClause, String, literal, or_, select, union_all

from models.clock import utcnow
from models.errors import InvalidRequest
from models.history.views import QueryOf, Row
from models.record.archive_tables import archived_fills
from models.record.balances import known
from models.record.lots import UNKNOWN, money
from models.record.tables import bars, external_fills, fills, reference_prices
from models.record.trading_days import begin_of, day_of
from models.timeframes import TIMEFRAMES

#: Columns that tell of a conversion: what was counted as how much, as of when and by whose word, and where nobody said.
COLUMNS = ("rate", "rate_at", "rate_source", "rates_missing")
#: A rate that is older is none.
OLDEST = timedelta(days=7)
_AMOUNTS = ("realized", "unrealized", "fees")
#: Decimals of a rate: whoever multiplies by the one that is told has what was reckoned.
_PLACES = 12
_ZERO, _ONE_DAY = Decimal(0), timedelta(days=1)


class ToldRate(NamedTuple):
    """How much one unit of a currency is in the wanted one."""

    value: Decimal
    at: datetime
    source: str


def wanted_currency(text: str) -> str:
    """Read the name of a currency.

    Raises:
        InvalidRequest: it is none.
    """
    name = text.strip().upper()
    if not re.fullmatch("[A-Z]{3,5}", name):
        raise InvalidRequest(f"in: must be a currency such as USD, was {text!r}")
    return name


class Rates:
    """The rates into one currency.

    Args:
        connection: to read by.
        into: the currency.
    """

    def __init__(self, connection: Connection, into: str) -> None:
        self._connection, self._into = connection, into
        self._known: dict[tuple[str, date], ToldRate | None] = {}
        self._bars: dict[str, list[tuple[str, str]]] = {}

    def convert(self, rows: Iterable[Row]) -> list[Row]:
        """Return rows of days in the wanted currency: `traded_in` is what each was in, `by` its rate, or None.

        An amount for which there is no rate is not known, and counted; nothing is nothing in any currency.
        """
        return [self._converted(row) for row in rows]

    def _converted(self, row: Row) -> Row:
        new = row | {"traded_in": row["currency"], "currency": self._into, "by": None, "rates_missing": 0}
        worth = [name for name in _AMOUNTS if row[name] is not None and not row[name].is_nan() and row[name]]
        if row["currency"] == self._into or not worth:
            return new
        rate = self._of(row["currency"], row["day"])
        value = UNKNOWN if rate is None else rate.value
        return new | {name: row[name] * value for name in worth} | {"by": rate, "rates_missing": int(rate is None)}

    def _of(self, currency: str, day: date) -> ToldRate | None:
        if (currency, day) not in self._known:
            self._known[currency, day] = self._newest(currency, min(begin_of(day + _ONE_DAY), utcnow()))
        return self._known[currency, day]

    def _newest(self, currency: str, until: datetime) -> ToldRate | None:
        found = list[tuple[datetime, str, Decimal]]()
        for base, quote in ((currency, self._into), (self._into, currency)):
            for at, source, price in self._told(f"{base}/{quote}", quote, until):
                if at >= until - OLDEST and price > 0:
                    found.append((at, f"{base}/{quote} {source}", price if base == currency else 1 / price))
        if not found:
            return None
        at, source, value = max(found)
        return ToldRate(round(value, _PLACES).normalize() + _ZERO, at, source)  # no exponent

    def _told(self, pair: str, quote: str, until: datetime) -> list[tuple[datetime, str, Decimal]]:
        """Return the newest price of a pair of each that tells one."""
        f, e, r = fills.c, external_fills.c, reference_prices.c
        whole = (f.voided_at.is_(None), f.inferred.is_(False))
        asked = [_executions(fills, "fill", pair, quote, until).where(*whole)]
        asked += [_executions(archived_fills, "fill", pair, quote, until)]
        asked += [_executions(external_fills, "fill of others", pair, quote, until).where(e.voided_at.is_(None))]
        judged = select(r.at, r.source, literal("", String).label("whose"), r.price)
        asked += [judged.where(r.symbol == pair, r.currency == quote, r.at <= until)]
        newest = [select(one.order_by(one.selected_columns[0].desc()).limit(1).subquery()) for one in asked]
        rows = self._connection.execute(union_all(*newest)).all()
        return [*((at, f"{what} {whose}".strip(), price) for at, what, whose, price in rows), *self._bar(pair, until)]

    def _bar(self, pair: str, until: datetime) -> list[tuple[datetime, str, Decimal]]:
        b = bars.c
        if pair not in self._bars:
            kept = select(b.broker, b.timeframe).where(b.symbol == pair).distinct()
            self._bars[pair] = [(row.broker, row.timeframe) for row in self._connection.execute(kept)]
        found = []
        for broker, frame in self._bars[pair]:
            if (last := _last_begin(frame, until)) is None:
                continue
            mine = (b.broker == broker, b.symbol == pair, b.timeframe == frame, b.start <= last, b.complete)
            bar = self._connection.execute(
                select(b.start, b.close).where(*mine).order_by(b.start.desc()).limit(1)
            ).first()
            if bar is not None:
                found.append((TIMEFRAMES[frame].end(bar.start), f"bar {frame} {broker}", bar.close))
        return found


def _executions(table: FromClause, what: str, pair: str, quote: str, until: datetime) -> QueryOf:
    c = table.c
    told = select(c.filled_at, literal(what, String).label("what"), c.broker, c.price)
    in_it = or_(c.currency.is_(None), c.currency == quote)
    return told.where(c.symbol == pair, c.filled_at <= until, c.price.is_not(None), in_it)


def _last_begin(frame: str, until: datetime) -> datetime | None:
    """Return when the last bar begins that is over by a time; None of frames that are longer than a day."""
    if frame == "1Day":
        return begin_of(day_of(until) - _ONE_DAY)
    known = TIMEFRAMES.get(frame)
    return until - timedelta(minutes=known.minutes) if known and known.minutes else None


def told(rows: Sequence[Row]) -> Row:
    """Return the columns that tell of the conversion of some rows together.

    `rate` is of all of them alike, else null; `rate_at` is the time of the oldest.
    """
    rates = {row["by"] for row in rows if row["by"] is not None}
    values = {rate.value for rate in rates}
    return {
        "rate": values.pop() if len(values) == 1 else None,
        "rate_at": min((rate.at for rate in rates), default=None),
        "rate_source": ", ".join(sorted({rate.source for rate in rates})) or None,
        "rates_missing": sum(row["rates_missing"] for row in rows),
    }


def alone(row: Row) -> Row:
    """Return one converted row as it is shown."""
    shown = {name: money(known(row[name])) for name in _AMOUNTS}
    return {name: value for name, value in row.items() if name != "by"} | shown | told([row])
