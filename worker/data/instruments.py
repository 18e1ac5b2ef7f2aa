"""What brokers tell of instruments: kept in the record, and held against orders before they are sent.

| what is known of an instrument | an order is not sent where                                               |
|--------------------------------|--------------------------------------------------------------------------|
| price_increment                | a limit or stop price lies between two steps                             |
| price_bands                    | the same, by the step of the range that the price is in                  |
| lot_size                       | its quantity is no multiple                                              |
| expiry                         | it is over: of an option its text says so, of a future its broker        |

A step without ranges is the finest that there is, so what is refused here no broker takes. Nor is a closed market a
reason: brokers queue orders for the next session. Shares in the United States below a dollar
have steps of their own, and go unchecked. What nobody has told is not checked: then the broker says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import structlog

from models.errors import DatabaseUnavailable, Unsupported
from models.instruments import Instrument
from models.lookups import EXPIRING, InstrumentReport
from models.messages import OrderRequest, plain
from models.record.database import Database
from models.record.fetches import from_json
from models.record.instruments import InstrumentRow, keep_instruments, kept_instruments
from models.trading_hours import PriceBand, step_of
from models.vocabulary import AssetClass
from worker.brokers.lookups import Lookups
from worker.runtime.clock import utcnow
from worker.runtime.sessions import is_over

log = structlog.get_logger()

#: How old what was told may be to be held against an order: exchanges change their steps now and then.
_GOOD_FOR = timedelta(days=7)
#: A name means the same for so long: tickers are given anew now and then.
_SAME_FOR = timedelta(days=1)
#: Instruments that wait to be written; the oldest give way, and are told again.
_MOST = 10_000
_PRICES = ("limit_price", "stop_price")


@dataclass(frozen=True, slots=True)
class InstrumentRules:
    """What orders in one instrument have to keep; nothing of what nobody has told."""

    increment: Decimal | None = None
    lot: Decimal | None = None
    bands: tuple[PriceBand, ...] = ()
    #: As its broker tells it: the text of a future says its month alone.
    last_day: date | None = None

    def step_at(self, price: Decimal) -> Decimal | None:
        """Return the step that a price has to keep."""
        return (step_of(self.bands, price) if self.bands else None) or self.increment


class KnownInstruments:
    """What one broker has told.

    Args:
        database: the record.
        broker: the adapter: what it resolves on the way of an order is kept, too, after the order.
    """

    def __init__(self, database: Database, broker: Lookups) -> None:
        self._database, self._broker = database, broker.name
        self._rules: dict[tuple[str, AssetClass], InstrumentRules] = {}
        self._waiting: deque[InstrumentReport] = deque(maxlen=_MOST)
        self._is_read = False
        self._details: dict[tuple[str, AssetClass, str], tuple[datetime, Mapping[str, str]]] = {}
        broker.resolutions(self.note, self.check, self.recall)

    def note(self, found: InstrumentReport) -> None:
        """Take in what was resolved; `write` keeps it. Never blocks."""
        self._learn(found)
        self._waiting.append(found)

    def keep(self, found: Sequence[InstrumentReport]) -> None:
        """Take in what was looked up, and keep it now."""
        for one in found:
            self._learn(one)
        self._database.transact(lambda c: keep_instruments(c, self._broker, found, utcnow()))

    def write(self) -> None:
        """Keep what was resolved since the last time; and read, once, what workers before have kept."""
        if not self._is_read:
            self._read()
        found: list[InstrumentReport] = []
        while self._waiting:
            found.append(self._waiting.popleft())
        if not found:
            return
        unique = {(one.symbol, one.asset_class, one.currency): one for one in found}
        try:
            self._database.transact(lambda c: keep_instruments(c, self._broker, unique.values(), utcnow()))
        except DatabaseUnavailable:
            self._waiting.extendleft(unique.values())
            raise

    def _read(self) -> None:
        since = utcnow() - _GOOD_FOR
        with self._database.read() as connection:
            rows = kept_instruments(connection, brokers=[self._broker], detail=True)
        for row in rows:
            if row["resolved_at"] >= since:
                key = (row["symbol"], AssetClass(row["asset_class"]))
                self._rules.setdefault(key, _rules_of(row))
                if detail := row.get("detail"):
                    self._details.setdefault((*key, row["currency"]), (row["resolved_at"], detail))
        self._is_read = True

    def recall(self, instrument: Instrument) -> Mapping[str, str] | None:
        """Return what an adapter said of an instrument within a day; None where it has to ask.

        Not of a listing whose currency nobody has given: whether there are several is the broker's to say.
        """
        if instrument.currency is None:
            return None
        at, detail = self._details.get((instrument.symbol, instrument.asset_class, instrument.currency), (None, None))
        return detail if at is not None and utcnow() - at < _SAME_FOR else None

    def _learn(self, one: InstrumentReport) -> None:
        rules = InstrumentRules(one.price_increment, one.lot_size, one.price_bands or (), one.expiry)
        self._rules[one.symbol, one.asset_class] = rules
        if one.detail is not None:
            self._details[one.symbol, one.asset_class, one.currency] = utcnow(), one.detail

    def check(self, order: OrderRequest) -> None:
        """Hold an order against what is known of its instrument.

        Raises:
            Unsupported: with the field, the value and the rule.
        """
        instrument, wrong = order.instrument, None
        rules = self._rules.get((order.symbol, instrument.asset_class)) if self._rules else None
        if instrument.asset_class in EXPIRING or order.legs is not None:
            wrong = expired(order, utcnow(), rules.last_day if rules else None)
        if rules is not None and wrong is None:
            wrong = off_the_steps(order, rules)
        if wrong is not None:
            raise Unsupported(f"{self._broker}: {wrong}", broker=self._broker)


def _rules_of(row: InstrumentRow) -> InstrumentRules:
    bands = tuple(from_json(list[PriceBand], row["price_bands"] or []))
    return InstrumentRules(row["price_increment"], row["lot_size"], bands, row["expiry"])


def expired(order: OrderRequest, now: datetime, last_day: date | None = None) -> str | None:
    """Return why an order, or a leg of it, can trade no more: it has expired; None where it has not: pure.

    Args:
        order: the order.
        now: the time.
        last_day: as its broker has told it, for a text that says none.
    """
    if order.legs is None:
        over = [(order.instrument, order.instrument.expiry or last_day)]
    else:
        over = [(leg.instrument, leg.instrument.expiry) for leg in order.legs]
    for instrument, last in over:
        if is_over(instrument, now, last):
            return f"symbol: {instrument} has expired, its last day was {last}: nothing is sent"
    return None


def off_the_steps(order: OrderRequest, rules: InstrumentRules) -> str | None:
    """Return the rule that an order breaks, with the field and the value; None where it keeps them: pure."""
    if order.legs is not None:  # its price is a net one, and its symbol names the underlying
        return None
    is_share = order.instrument.asset_class is AssetClass.US_EQUITY
    for name in _PRICES:
        price = getattr(order, name)
        step = None if price is None else rules.step_at(price)
        if step is not None and price % step and not (is_share and price < 1):
            here = " at that price" if rules.bands and step != rules.increment else ""
            return f"{name}: prices of {order.symbol} go in steps of {plain(step)}{here}, was {plain(price)}"
    if rules.lot is not None and order.quantity is not None and order.quantity % rules.lot:
        return f"quantity: {order.symbol} trades in lots of {plain(rules.lot)}, was {plain(order.quantity)}"
    return None
