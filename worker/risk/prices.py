"""What symbols are worth: the newest of quotes, fills and readings of positions, and one quote where there is none.

`reference_prices` keeps the price by which orders were judged last, and where it came from. Each is in the currency
that its source says, else in that of its instrument; one whose currency nobody tells is no price.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypedDict

import structlog
from sqlalchemy import Connection, bindparam, select

from models.errors import CorroError
from models.instruments import SHARES_PER_OPTION, told_currency, told_multiplier
from models.legs import PackageLeg, unit_of
from models.record.asking import Questionnaire
from models.record.database import Database
from models.record.statements import Query, among, upsert
from models.record.tables import external_fills, fills, position_snapshots, reference_prices
from models.reports import QuoteReport
from models.risk.facts import ReferencePrice
from worker.brokers.base import BrokerInterface
from worker.runtime.clock import Stopwatch, utcnow

log = structlog.get_logger()

#: Seconds that a broker has to answer with quotes, all of them together.
PATIENCE_S = 1.0
#: Quotes asked for at once.
_AT_ONCE = 8
#: Executions looked at for the prices of symbols.
_MOST_FILLS = 500
#: Significant digits of a price that follows from a position's value.
_DIGITS = 12
#: A price may be so much newer than the time at which somebody asks. Of one that is newer still nobody knows how old it
#: is: a clock was set back since it was told, here or there.
_AHEAD = timedelta(seconds=5)
#: A price that is so much newer than the one that is kept is kept in its place.
_NEWER = timedelta(seconds=1)


@dataclass(slots=True)
class Quotes:
    """What one look at waiting orders has asked about prices."""

    #: A quote was asked for: there is nothing more to wait for.
    asked: bool = False
    #: Orders that wait for prices, and the symbols.
    ids: dict[str, list[str]] = field(default_factory=dict)


class _Kept(TypedDict):
    symbol: str
    price: Decimal
    at: datetime
    source: str
    currency: str


class _Held(TypedDict):
    symbol: str
    quantity: Decimal | None
    market_value: Decimal | None
    taken_at: datetime
    broker: str
    currency: str | None


class _Filled(TypedDict):
    symbol: str
    price: Decimal
    filled_at: datetime
    broker: str
    currency: str | None


_r, _p, _f = reference_prices.c, position_snapshots.c, fills.c
_KEPT = Query(
    select(_r.symbol, _r.price, _r.at, _r.source, _r.currency).where(among(_r.symbol, "symbols")), _Kept
)  # fmt: skip
_HELD = Query(
    select(_p.symbol, _p.quantity, _p.market_value, _p.taken_at, _p.broker, _p.currency)
    .where(among(_p.symbol, "symbols"), _p.market_value.is_not(None))
    .order_by(_p.taken_at),
    _Held,
)
_FILLED = Query(
    select(_f.symbol, _f.price, _f.filled_at, _f.broker, _f.currency)
    .where(among(_f.symbol, "symbols"), _f.filled_at > bindparam("since", type_=_f.filled_at.type))
    .where(_f.price.is_not(None), _f.quantity > 0)
    .order_by(_f.filled_at.desc())
    .limit(_MOST_FILLS),
    _Filled,
)


def known_prices(
    connection: Connection, symbols: Collection[str], now: datetime, age_s: float
) -> dict[str, ReferencePrice]:
    """Return the newest price of each symbol; what it comes from is kept as its reference.

    Args:
        connection: of a transaction that writes.
        symbols: of the orders.
        now: the time.
        age_s: fills older than this say nothing.
    """
    asking = Questionnaire(connection)
    asked = AskedPrices(asking, symbols, now, age_s)
    asking.answer()
    return asked.found()


class AskedPrices:
    """Asks for the prices of symbols, beside other questions: arguments as of `known_prices`."""

    def __init__(self, asking: Questionnaire, symbols: Collection[str], now: datetime, age_s: float) -> None:
        self._connection, self._now, wanted = asking.connection, now, sorted(symbols)
        self._kept, self._held, self._filled = list[_Kept](), list[_Held](), list[_Filled]()
        asking.ask(_KEPT, self._kept.extend, symbols=wanted)
        asking.ask(_HELD, self._held.extend, symbols=wanted)
        asking.ask(_FILLED, self._filled.extend, symbols=wanted, since=now - timedelta(seconds=age_s))

    def found(self) -> dict[str, ReferencePrice]:
        """Return the newest price of each symbol, once the questions are answered; it is kept as its reference."""
        found = {
            row["symbol"]: ReferencePrice(row["price"], row["at"], row["source"], row["currency"])
            for row in self._kept
            if row["at"] <= self._now + _AHEAD
        }
        news: dict[str, ReferencePrice] = {}
        for symbol, price in [*_of_positions(self._connection, self._held), *_of_fills(self._filled, self._now)]:
            if price.at > self._now + _AHEAD:
                continue
            before = news.get(symbol) or found.get(symbol)
            if before is None or price.at > before.at + _NEWER:
                news[symbol] = price
        keep_prices(self._connection, news)
        return found | news


def _of_fills(rows: Iterable[_Filled], now: datetime) -> Iterator[tuple[str, ReferencePrice]]:
    seen = set()
    for row in rows:
        symbol = row["symbol"]
        is_past = row["filled_at"] <= now + _AHEAD
        if symbol not in seen and is_past and (currency := row["currency"] or told_currency(symbol)):
            seen.add(symbol)
            at, source = min(row["filled_at"], now), f"fill {row['broker']}"
            yield symbol, ReferencePrice(row["price"], at, source, currency)


def _of_positions(connection: Connection, rows: Sequence[_Held]) -> Iterator[tuple[str, ReferencePrice]]:
    size = {symbol: multiplier_of(connection, symbol) for symbol in {row["symbol"] for row in rows}}
    for row in rows:
        currency = row["currency"] or told_currency(row["symbol"])
        if currency and row["quantity"] and row["market_value"] and (one := size[row["symbol"]]):
            price = _to_digits(abs(row["market_value"] / row["quantity"] / one))
            source = f"position {row['broker']}"
            yield row["symbol"], ReferencePrice(price, row["taken_at"], source, currency)


def _to_digits(price: Decimal) -> Decimal:
    """Round to digits, not to decimals: a coin may be worth a millionth, of which six decimals leave nothing."""
    return round(price, max(_DIGITS - 1 - price.adjusted(), 0)) if price else price


def multiplier_of(connection: Connection, symbol: str) -> Decimal | None:
    """Return money per unit and unit of price: as the symbol says it, else as executions told it; None: not known."""
    told = told_multiplier(symbol)
    if told is not None and told != SHARES_PER_OPTION:
        return told
    newest = [
        select(t.c.multiplier).where(t.c.symbol == symbol, t.c.multiplier.is_not(None)).order_by(t.c.id.desc()).limit(1)
        for t in (fills, external_fills)
    ]
    found: Iterable[Decimal | None] = (connection.execute(query).scalar() for query in newest)
    return next((size for size in found if size is not None), told)


def price_of_package(legs: Sequence[PackageLeg], prices: Mapping[str, ReferencePrice]) -> ReferencePrice | None:
    """Return what a package is worth at most: the sum of its legs, whichever way they trade; None where one is open.

    Prices in several currencies make no sum.
    """
    found = [prices.get(leg.symbol) for leg in legs]
    known = [price for price in found if price is not None]
    if len(known) < len(found) or len({price.currency for price in known}) > 1:
        return None
    worth = sum((leg.ratio * leg.multiplier * price.price for leg, price in zip(legs, known, strict=True)), Decimal(0))
    oldest = min(known, key=lambda price: price.at)
    return replace(oldest, price=worth / unit_of(legs), source=f"{len(known)} legs, {oldest.source}")


def keep_prices(connection: Connection, prices: dict[str, ReferencePrice]) -> None:
    """Keep prices as the reference of their symbols."""
    for symbol, price in sorted(prices.items()):
        values = {"price": price.price, "currency": price.currency, "at": price.at, "source": price.source}
        put = upsert(connection, reference_prices).values(symbol=symbol, **values)
        connection.execute(put.on_conflict_do_update(index_elements=[reference_prices.c.symbol], set_=values))


def middle(quote: QuoteReport) -> Decimal | None:
    """Return what a quote says a symbol is worth: between bid and ask, else the last price, else the side there is."""
    told = (quote.bid, quote.ask, quote.last)
    bid, ask, last = (price if price and price.is_finite() and price > 0 else None for price in told)
    return (bid + ask) / 2 if bid and ask else last or bid or ask


def ask_for_quotes(
    database: Database, broker: BrokerInterface, symbols: Collection[str], patience_s: float = PATIENCE_S
) -> None:
    """Ask the broker for one quote of each symbol, within its budget for data, and keep what it answers in time.

    Args:
        database: the record.
        broker: the adapter.
        symbols: without a fresh price.
        patience_s: seconds that all of them together may take.
    """
    found: dict[str, ReferencePrice] = {}
    waiting = list(symbols)
    lock, done = threading.Lock(), threading.Semaphore(0)

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    break
                symbol = waiting.pop()
            try:
                quote = broker.get_market_data(symbol)
                price, currency, now = middle(quote), quote.currency or told_currency(symbol), utcnow()
                if price is not None and currency is not None and not quote.delayed:
                    found[symbol] = ReferencePrice(price, min(quote.at or now, now), f"quote {broker.name}", currency)
            except CorroError as error:
                log.info("no_reference_price", broker=broker.name, symbol=symbol, error=str(error))
            except Exception:
                log.exception("quote_leaked", broker=broker.name, symbol=symbol)
        done.release()

    number, watch = min(_AT_ONCE, len(waiting)), Stopwatch()
    for n in range(number):
        threading.Thread(target=work, name=f"quote-{n}", daemon=True).start()
    for _ in range(number):
        done.acquire(timeout=max(patience_s - watch.age(), 0.001))
    with lock:
        waiting.clear()  # what has not been asked by now comes too late
    answered = dict(found)
    if answered:
        database.transact(lambda connection: keep_prices(connection, answered))
