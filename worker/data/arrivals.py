"""The quote at which an order arrived at its broker: read after the send, by a thread of its own, never in its way.

Only orders that name a decision price are asked for (`[history] arrival`), each symbol once a second, out of the data
share of the broker's budget. A quote that cannot be had at once is not had at all: what is read later is no arrival.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, update

from models.errors import CorroError
from models.record.database import Database
from models.record.tables import attempts
from models.reports import QuoteReport
from models.vocabulary import ArrivalQuotes
from worker.brokers.base import BrokerInterface
from worker.data.quotes import clean
from worker.pacing.budget import Use, using
from worker.runtime.clock import Stopwatch, utcnow

log = structlog.get_logger()

#: Sends that wait for their quote; older ones give way.
_MOST = 1000
#: Seconds after the send within which a quote tells of the arrival, and for which a symbol's quote is shared.
_LATEST_S, _SHARED_S = 2.0, 1.0


@dataclass(slots=True)
class ArrivedOrder:
    """A send that is over."""

    client_order_id: str
    attempt_no: int
    symbol: str
    watch: Stopwatch


class Arrivals:
    """Writes arrival quotes beside attempts.

    Args:
        database: the record.
        broker: the adapter: it is asked where the order went.
        which: for which orders.
    """

    def __init__(self, database: Database, broker: BrokerInterface, which: ArrivalQuotes) -> None:
        self.database, self.broker, self.which = database, broker, which
        self._waiting: deque[ArrivedOrder] = deque(maxlen=_MOST)
        self._news, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._quotes: dict[str, tuple[Stopwatch, QuoteReport | None]] = {}

    def note(self, client_order_id: str, attempt_no: int, symbol: str, *, has_decision: bool) -> None:
        """Take note of a send; returns at once."""
        if self.which is ArrivalQuotes.NEVER or (self.which is ArrivalQuotes.ASKED and not has_decision):
            return
        self._waiting.append(ArrivedOrder(client_order_id, attempt_no, symbol, Stopwatch()))
        if self._thread is None:  # nobody pays for a thread who never asks
            self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)
            self._thread.start()
        self._news.set()

    def close(self) -> None:
        """Stop; what waits goes without."""
        self._stop.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(_LATEST_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._news.wait()
            self._news.clear()
            while self._waiting and not self._stop.is_set():
                self._look(self._waiting.popleft())

    def _look(self, order: ArrivedOrder) -> None:
        if order.watch.age() > _LATEST_S:
            return
        try:
            quote = self._quote(order.symbol)
            if quote is not None and quote.bid is not None and quote.ask is not None:
                self._write(order, quote)
        except Exception as error:  # the order is at its broker; nothing of this may matter to it
            log.info("no_arrival_quote", symbol=order.symbol, broker=self.broker.name, error=str(error))

    def _quote(self, symbol: str) -> QuoteReport | None:
        """Ask for a quote, or take the one of this second; None where the broker had none."""
        watch, quote = self._quotes.get(symbol, (None, None))
        if watch is not None and watch.age() < _SHARED_S:
            return quote
        self._quotes = {s: kept for s, kept in self._quotes.items() if kept[0].age() < _SHARED_S}
        asked = Stopwatch()
        try:
            with using(Use.DATA):
                quote = clean(self.broker.get_market_data(symbol))
        except CorroError as error:
            log.info("no_arrival_quote", symbol=symbol, broker=self.broker.name, error=str(error))
            quote = None
        self._quotes[symbol] = asked, quote
        return quote

    def _write(self, order: ArrivedOrder, quote: QuoteReport) -> None:
        a = attempts.c
        mine = (a.client_order_id == order.client_order_id) & (a.attempt_no == order.attempt_no)
        values = {"arrival_bid": quote.bid, "arrival_ask": quote.ask, "arrival_at": quote.at or utcnow()}

        def work(connection: Connection) -> None:
            connection.execute(update(attempts).where(mine).values(**values))

        self.database.transact(work)
