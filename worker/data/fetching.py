"""Data requests: recorded in `fetches`, answered by one broker, handed to the next when it cannot.

Reads may always be repeated, so there is no unknown outcome here. What keeps a long one from starting anew is its
cursor: it moves in the transaction that stores a page, so whoever takes the request over goes on from there.

| what the broker says                             | what follows                                                  |
|--------------------------------------------------|---------------------------------------------------------------|
| no data, no permission, cannot                   | the next broker, from the beginning                           |
| our keys or our account are refused altogether   | the next one; where there is none, the same again once it is  |
|                                                  | connected anew. The gate closes for orders too                |
| too many requests                                | the next broker; the same one after a pause of seconds        |
| not asked, our budget is used up                 | the same, and it is no try                                    |
| anything else (connection, timeout, odd answer)  | bars under way: the same broker again; otherwise the next one |
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial

import structlog

from models.errors import (
    AccessLost,
    ConfigurationError,
    CorroError,
    DatabaseUnavailable,
    DataNotPermitted,
    InvalidRequest,
    NoData,
    NoSuchSymbol,
    NotPermitted,
    PacingViolation,
    QuotaExhausted,
    RateLimited,
    Unsupported,
)
from models.explaining import shown
from models.lookups import InstrumentQuery
from models.messages import FetchRequest
from models.record.database import Database
from models.record.fetches import (
    MARKET_DATA,
    BarsRequest,
    as_json,
    check,
    insert_fetch,
    parse_bars,
    parse_orders,
    parse_preview,
    symbol_of,
)
from models.record.rows import FetchRow, Json
from models.reports import AccountReport, Bars
from models.settings import Settings
from models.timeframes import Timeframe
from models.troubles import trouble
from producers.bell import Bell
from worker.brokers.base import BrokerInterface
from worker.brokers.lookups import previewed
from worker.data.instruments import KnownInstruments
from worker.data.quotes import clean
from worker.data.rows import FetchRows, Taken, add_error, left_out, next_broker
from worker.gate import Gate
from worker.pacing.budget import Use, using
from worker.runtime.clock import utcnow
from worker.runtime.loops import Loop

log = structlog.get_logger()

#: What takes long.
_LONG_KINDS = frozenset({"bars", "instruments"})
#: Requests that one worker answers at a time; long ones never hold up short ones, and orders wait for neither.
LONG_LANES, SHORT_LANES = 2, 4
#: Failures at one broker, without a page in between, after which the next one is asked.
TRIES = 8
#: Pause where a broker says "too many requests" and not for how long, seconds.
BUSY_PAUSE_S = 5.0
#: A busy broker is waited for up to so many seconds where another one could be asked.
PATIENCE_S = 5.0
#: Seconds that a stopping worker gives to requests under way.
CLOSE_S = 3.0

_BUSY = (PacingViolation, RateLimited, QuotaExhausted)
_FINAL = (NoData, NoSuchSymbol, DataNotPermitted, NotPermitted, Unsupported)


class Stopping(Exception):
    """This worker ends: somebody else goes on from the cursor."""


class Fetcher:
    """Answers data requests at one broker."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        bell: Bell,
        gate: Gate,
        instruments: KnownInstruments | None = None,
    ) -> None:
        self.settings, self.timing = settings, settings.timing
        self.database, self.broker, self.worker, self.bell = database, broker, worker, bell
        self.gate, self.instruments = gate, instruments
        self.rows = FetchRows(database, broker.name, worker, settings.timing)
        self._long = ThreadPoolExecutor(LONG_LANES, thread_name_prefix="bars")
        self._short = ThreadPoolExecutor(SHORT_LANES, thread_name_prefix="data")
        self._pages = ThreadPoolExecutor(LONG_LANES, thread_name_prefix="page")
        self._lock = threading.Lock()
        self._here: dict[str, Future[None]] = {}
        self._stopping = threading.Event()
        self._renewal = Loop("data_leases", self.timing.lease / 3, self._renew)
        self._renews = False
        self._answers: dict[str, Callable[[FetchRow], object]] = {
            "quote": lambda row: as_json(clean(self.broker.get_market_data(symbol_of(row["request"])))),
            "bars": self._bars,
            "account": lambda row: as_json(self._account(row["request"].get("account"))),
            "positions": lambda _: [as_json(p) for p in self.broker.get_positions()],
            "orders": self._orders,
            "instruments": self._instruments,
            "preview": lambda row: as_json(previewed(self.broker, *parse_preview(row["request"]))),
        }

    def _account(self, name: str | None) -> AccountReport:
        """Return the money of an account behind the login; of the usual one where none is named."""
        if name is None:
            return self.broker.get_account_info()
        found = [one for one in self.broker.get_accounts() if name in self.broker.accounts and one.account_id == name]
        if not found:
            known = ", ".join(self.broker.accounts) or "none by name"
            raise InvalidRequest(f"account: {self.broker.name} has no account {name!r}; it has {known}")
        return found[0]

    def close(self) -> None:
        """Give requests under way a moment, then leave them to other workers, with what they have stored."""
        with self._lock:
            self._stopping.set()
            asked = list(self._here.values())
        self._pages.shutdown(wait=False)
        for lanes in (self._long, self._short):
            lanes.shutdown(wait=False, cancel_futures=True)
        if wait([future for future in asked if not future.cancelled()], CLOSE_S).not_done:
            try:
                self.rows.release_all()
            except DatabaseUnavailable as error:  # their leases run out
                log.warning("fetches_not_released", error=str(error))
        if self._renews:
            self._renewal.stop()

    # -- IN ---
    def take(self, kind: str, fetch_id: str | int, request: Mapping[str, object]) -> None:
        """Record a request that came by message, if it is new, and answer it in its lane."""
        now, fields, error = utcnow(), dict(request), None
        route: Sequence[str] = [self.broker.name]
        try:
            route = self._route(kind, fields.pop("route", None))
            check(kind, fields, now)
        except InvalidRequest as wrong:
            fields, error = {"unreadable": repr(fields)[:1000]}, str(wrong)
        fetch = FetchRequest(kind=kind, fetch_id=str(fetch_id), request=fields)
        self.database.transact(lambda connection: insert_fetch(connection, fetch, route, now, error))
        if route[0] == self.broker.name:
            self._enqueue(fetch.fetch_id, kind)
        else:
            self.bell.ring([(f"data.{kind}", f"data.{route[0]}", fetch.to_wire())])

    def _route(self, kind: str, given: object) -> Sequence[str]:
        """Return the brokers to ask: those of the request, or this one and, for market data, the others."""
        if given is None:
            others = self.settings.brokers_in_order if kind in MARKET_DATA else ()
            return [self.broker.name, *(name for name in others if name != self.broker.name)]
        if not isinstance(given, list) or not given or len({str(name) for name in given}) != len(given):
            raise InvalidRequest(f"route: must be a list of brokers, each once, was {shown(given)}")
        for name in given:
            try:
                self.settings.broker(name if isinstance(name, str) else repr(name))
            except ConfigurationError as error:
                raise InvalidRequest(f"route: {error}") from None
        return given

    def sweep(self) -> None:
        """Answer what has waited too long for its message, or whose worker died; move what is stranded."""
        for fetch_id, kind in self.rows.waiting(utcnow()):
            self._enqueue(fetch_id, kind)
        for row in self.rows.stranded(utcnow()):
            with contextlib.suppress(Taken):
                self._hand_on(row, f"{row['broker']}: no worker of {row['broker']} is alive")

    def _enqueue(self, fetch_id: str, kind: str) -> None:
        """Put a request into its lane, once: bars take long, everything else does not wait for them."""
        with self._lock:
            if fetch_id in self._here or self._stopping.is_set():
                return
            lane = self._long if kind in _LONG_KINDS else self._short
            self._here[fetch_id] = lane.submit(self._run, fetch_id)
            if not self._renews:
                self._renews = True
                self._renewal.start()

    def _renew(self) -> None:
        with self._lock:
            here = list(self._here)
        if here:
            self.rows.renew(here)

    # -- WORK ---
    def _run(self, fetch_id: str) -> None:
        """Claim a request and answer it; whatever happens, the row says so."""
        try:
            row = self.rows.claim(fetch_id) if self._is_ready() else None
            if row is not None:
                self._answer(row)
        except Taken:
            log.info("fetch_taken_over", fetch_id=fetch_id)
        except CorroError as error:
            log.warning("fetch_postponed", fetch_id=fetch_id, error=str(error))
        except Exception:
            log.exception("fetch_error", fetch_id=fetch_id)
        finally:
            with self._lock:
                self._here.pop(fetch_id, None)

    def _is_ready(self) -> bool:
        """A worker that has not tried to reach its broker yet leaves requests to the sweep, which comes again."""
        return self.gate.has_tried.is_set() or self.broker.is_connected()

    def _answer(self, row: FetchRow) -> None:
        """Ask the broker, and write down the result, or what failed."""
        try:
            with using(Use.DATA):
                result = self._answers[row["kind"]](row)
        except (Taken, DatabaseUnavailable):
            raise
        except Stopping:
            self.rows.put_back(row, pause=0)
        except InvalidRequest as error:  # no broker could answer this
            self.rows.finish(row, status="failed", error=add_error(row["error"], str(error)))
        except CorroError as error:
            self._failed_here(row, error)
        except Exception as error:
            log.exception("fetch_error", fetch_id=row["fetch_id"])
            self._failed_here(row, error)
        else:
            self.rows.finish(row, status="done", result=result, progress=Decimal(1))

    def _failed_here(self, row: FetchRow, error: Exception) -> None:
        """Let another broker answer, or this one later; end the request where nobody can."""
        if isinstance(error, AccessLost):
            self.gate.heeded(error)
        if self._stopping.is_set():  # the connection went because we go
            self.rows.put_back(row, pause=0)
            return
        words = trouble(error)
        words = words if words.startswith(f"{self.broker.name}: ") else f"{self.broker.name}: {words}"
        pause = self._pause(row, error)
        if pause is None:
            self._hand_on(row, words)
        else:
            log.info("fetch_pauses", fetch_id=row["fetch_id"], kind=row["kind"], error=words, seconds=pause)
            self.rows.put_back(
                row, pause=pause, error=add_error(row["error"], words), tries=row["tries"] + (not _held_back(error))
            )

    def _pause(self, row: FetchRow, error: Exception) -> float | None:
        """Return after how many seconds to ask the same broker again; None: not this one."""
        if isinstance(error, _FINAL) or (row["tries"] + 1 >= TRIES and not _held_back(error)):
            return None
        if isinstance(error, _BUSY):
            pause = getattr(error, "retry_after", None) or BUSY_PAUSE_S
            has_others = next_broker(row) is not None
            return None if has_others and (row["kind"] == "quote" or pause > PATIENCE_S) else pause
        if isinstance(error, AccessLost):  # whoever else can be asked has its access
            return self.timing.retry_pause if next_broker(row) is None else None
        return self.timing.retry_pause if row["cursor"] is not None else None

    def _hand_on(self, row: FetchRow, error: str) -> None:
        """Give a request to the next broker on its route; at the end of the route it has failed."""
        following = self.rows.hand_on(row, error)
        log.warning("fetch_failed_here", fetch_id=row["fetch_id"], kind=row["kind"], error=error, next=following)
        if following is not None:
            request = {"fetch_id": row["fetch_id"], **row["request"]}
            self.bell.ring([(f"data.{row['kind']}", f"data.{following}", request)])

    # -- ANSWERS ---
    def _orders(self, row: FetchRow) -> list[Json]:
        open_only, since = parse_orders(row["request"])
        return [as_json(report) for report in self.broker.get_orders(open_only=open_only, since=since)]

    def _instruments(self, row: FetchRow) -> Json:
        wanted = InstrumentQuery.of(row["request"])
        found = self.broker.find_instruments(wanted)
        if self.instruments is not None and not wanted.search:  # a search tells less than is kept
            self.instruments.keep(found)
        return {"instruments": [as_json(replace(each, detail=None)) for each in found], "more": found.more}

    def _bars(self, row: FetchRow) -> Mapping[str, object]:
        """Read bars page by page, each stored before the next is asked for: who takes it over goes on from there."""
        wanted = parse_bars(row["request"], row["created_at"])
        for page, until in self._pages_of(wanted, row["cursor"]):
            self.rows.store(row, wanted, page, until)
        if not row["stored"]:
            raise NoData(f"no {wanted.frame.name} bars of {wanted.symbol} from {wanted.start} to {wanted.end}")
        return {**self.rows.summary(wanted), "left_out": left_out(row)}

    def _pages_of(self, wanted: BarsRequest, cursor: datetime | None) -> Iterator[tuple[Bars, datetime]]:
        """Yield the bars of each page and where it ends; the broker is asked for the next one while one is stored.

        Raises:
            Stopping: this worker ends.
        """
        spans = wanted.pages(cursor)
        coming = self._ask(wanted, next(spans, None))
        while coming is not None:
            (future, until), span = coming, next(spans, None)
            page, stopping = future.result(), self._stopping.is_set()
            coming = None if stopping else self._ask(wanted, span)
            yield page, until
            if stopping and span is not None:
                raise Stopping

    def _ask(self, wanted: BarsRequest, span: tuple[datetime, datetime] | None) -> tuple[Future[Bars], datetime] | None:
        if span is None:
            return None
        read = partial(self._page, wanted.symbol, wanted.frame, *span)
        try:
            return self._pages.submit(copy_context().run, read), span[1]
        except RuntimeError:  # these threads take nothing more
            raise Stopping from None

    def _page(self, symbol: str, frame: Timeframe, start: datetime, end: datetime) -> Bars:
        """Read the bars of one page, in whole bars, under corro's labels; none is an answer."""
        first, last = frame.around(start, end)
        try:
            found = self.broker.get_historical_data(symbol, frame.name, first, max(end, min(last, utcnow())))
        except NoData:
            return Bars()
        labelled = {frame.label(bar.start): bar for bar in found}
        found_there = ((at, bar) for at, bar in sorted(labelled.items()) if start <= at < end)
        good = (bar if bar.start == at else replace(bar, start=at) for at, bar in found_there)
        return Bars(good, left_out=found.left_out if isinstance(found, Bars) else 0)


def _held_back(error: Exception) -> bool:
    """Tell whether our own budget held a request back: the broker has not failed, it was not asked."""
    return isinstance(error, QuotaExhausted) or (isinstance(error, PacingViolation) and error.ours)
