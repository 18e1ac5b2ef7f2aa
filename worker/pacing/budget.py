"""Budgets: how often an account may be asked, who goes first, and what happens when the budget is used up.

A broker counts the requests of an account, whichever worker sends them. So the count is kept in Redis for all workers
of the account (`worker.pacing.shared`); a worker takes tokens from there in small blocks and spends them here, each
within a moment. Without Redis every worker keeps its part of the limit by its own count: pacing never stops trading.

Priority is a reserve: a use may only spend while less than its share of the window is used, so fetches can fill half of
it, orders four fifths, and the rest is there for what must not wait.

| use     | share | who                                                                            |
|---------|-------|--------------------------------------------------------------------------------|
| data    | 50 %  | fetches                                                                        |
| watch   | 60 %  | polling of orders in flight, where a broker pushes nothing                     |
| order   | 80 %  | orders that may open a position, and replaces                                  |
| status  | 90 %  | reconciliation: unknown outcomes, open orders, positions                       |
| closing | 95 %  | orders that close one (sell, buy_to_cover)                                     |
| urgent  | 100 % | cancels, tokens, reads that settle what was just sent, and replaces once begun |

A wait is short and comes before the first byte. What would wait longer is `QuotaExhausted`, with the time when it may
come again: nothing was sent, and routing decides.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from math import inf, isnan

import structlog

from models.errors import QuotaExhausted
from models.vocabulary import CLOSING, Side
from worker.pacing.window import Away, MovingWindow, Rate, SharedCount, TokensTaken, digest

log = structlog.get_logger()


class Use(StrEnum):
    """What a request is for, least urgent first."""

    DATA = "data"
    WATCH = "watch"
    ORDER = "order"
    STATUS = "status"
    CLOSING = "closing"
    URGENT = "urgent"


#: Part of the window that may be used up when a request of this kind still goes out.
SHARES: Mapping[Use, float] = {
    Use.DATA: 0.5,
    Use.WATCH: 0.6,
    Use.ORDER: 0.8,
    Use.STATUS: 0.9,
    Use.CLOSING: 0.95,
    Use.URGENT: 1.0,
}
#: Where nothing but data is asked for, data may have it all.
ALL: Mapping[Use, float] = dict.fromkeys(Use, 1.0)
#: Longest waits for a turn, seconds; and never more than half of the time that the request has in all. Long enough for
#: all senders of a worker to get a turn at IB, whose window is a second; a full minute is not waited for at all.
PATIENCE_S: Mapping[Use, float] = {
    Use.DATA: 2.0,
    Use.WATCH: 1.0,
    Use.ORDER: 2.0,
    Use.STATUS: 2.0,
    Use.CLOSING: 3.0,
    Use.URGENT: 4.0,
}
#: A broker's word on when to come again counts for no longer than this, seconds.
LONGEST_PAUSE_S = 300.0
#: Pause after "too many requests" where the broker names none, seconds.
USUAL_PAUSE_S = 5.0
#: Waits longer than this are worth a warning, seconds; one in ten of these at most.
_LONG_S, _WARN_EVERY_S = 1.0, 10.0

_use: ContextVar[Use] = ContextVar("use", default=Use.STATUS)


@contextmanager
def using(use: Use) -> Iterator[None]:
    """Count the requests of a block as this use, whatever use is in force around it; that one is back afterwards."""
    token = _use.set(use)
    try:
        yield
    finally:
        _use.reset(token)


def current_use() -> Use:
    """Return what the requests made here and now are for."""
    return _use.get()


def use_of(side: Side) -> Use:
    """Return what an order of this side counts as: what closes a position goes before what opens one."""
    return Use.CLOSING if side in CLOSING else Use.ORDER


class Budget:
    """The requests that one account allows; for many threads and loops at once.

    Args:
        name: the broker's, for words.
        rate: the limit.
        shared: the count of all workers; None counts this process alone.
        shares: what part of the window each use may fill.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        rate: Rate,
        shared: SharedCount | None = None,
        shares: Mapping[Use, float] = SHARES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.rate, self.shares = name, rate, shares
        self._shared, self._clock = shared, clock
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._mine = MovingWindow(rate.window_s)
        #: Tokens taken and not spent: for what use they were asked, how many, and until when they are good.
        self._stock: list[tuple[Use, int, float]] = []
        #: Until when it is known that there is nothing for a use.
        self._dry: dict[Use, float] = {}
        #: The broker's own word: what part is left, and until when that holds.
        self._word: tuple[float, float] = (1.0, 0.0)
        self._passed_on = 0.0
        #: When those that could not wait were told to come again.
        self._promises: dict[Use, deque[float]] = {use: deque() for use in Use}
        self._uncounted = 0
        #: Nobody has spoken of a limit yet.
        self._asleep = rate.presumed
        self.waiting = 0
        self._warned = -_WARN_EVERY_S

    # -- A TURN ---
    def spend(self, within_s: float = inf) -> None:
        """Wait for a turn of the use in force, not for long.

        Args:
            within_s: seconds that the request has in all, this wait included.

        Raises:
            QuotaExhausted: none comes soon enough; `retry_after` says when one will.
        """
        use, started = _use.get(), self._clock()
        with self._counted():
            while (wait := self.try_spend(use)) > 0:
                time.sleep(self._pause(use, started, within_s, wait))
        self._tell_of(use, started)

    async def turn(self, within_s: float = inf) -> None:
        """As `spend`, for a loop: the shared count is asked from a thread beside it."""
        use, started = _use.get(), self._clock()
        with self._counted():
            while (wait := await self._try_on_loop(use)) > 0:
                await asyncio.sleep(self._pause(use, started, within_s, wait))
        self._tell_of(use, started)

    async def _try_on_loop(self, use: Use) -> float:
        # Only asking goes to a thread: a token is spent here, so that a loop that was held up finds it too old.
        while (wait := self._from_stock(use)) is None:
            await asyncio.to_thread(self._ask_for, use)
        return wait

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request among those that wait, for the length of the block."""
        with self._lock:
            self.waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self.waiting -= 1

    def _pause(self, use: Use, started: float, within_s: float, wait: float) -> float:
        now = self._clock()
        if now + wait - started > min(PATIENCE_S[use], within_s / 2):
            raise self._exhausted(use, wait)
        return wait

    def _exhausted(self, use: Use, wait: float) -> QuotaExhausted:
        """Return the error for a request that would wait too long; `retry_after` is the seconds until its own turn.

        A turn is the moment at which a token spent earlier leaves the window. Requests that are turned away together
        get one turn each, so that they do not all come back for the same token.
        """
        with self._lock:
            now, promised = self._clock(), self._promises[use]
            while promised and promised[0] <= now:
                promised.popleft()
            promised.append(max(now + wait, now + self._mine.returns(len(promised), now), *list(promised)[-1:]))
            after = promised[-1] - now
        words = f"{self.name}: the budget of {self.rate.limit} requests in {self.rate.seconds:g} s is used up for {use}"
        return QuotaExhausted(f"{words}; the next turn is in {after:.1f} s", broker=self.name, retry_after=after)

    def _tell_of(self, use: Use, started: float) -> None:
        """Log that a request waited; loud where it was long, and not more often than now and then."""
        now = self._clock()
        waited = now - started
        if waited > _LONG_S and use is not Use.DATA and now - self._warned > _WARN_EVERY_S:
            self._warned = now
            log.warning("paced", broker=self.name, use=str(use), waited_s=round(waited, 2), waiting=self.waiting)
        elif waited > 0.001:
            log.debug("paced", broker=self.name, use=str(use), waited_s=round(waited, 3), waiting=self.waiting)

    # -- TOKENS ---
    def try_spend(self, use: Use) -> float:
        """Spend a token if there is one: returns 0, or the seconds until it is worth asking again."""
        while (wait := self._from_stock(use)) is None:
            self._ask_for(use)
        return wait

    def _ask_for(self, use: Use) -> None:
        with self._asking:  # one asks for all; whoever waited here finds the answer
            if self._from_stock(use, spend=False) is None:
                self._restock(use)

    def _from_stock(self, use: Use, *, spend: bool = True) -> float | None:
        """Spend a token at hand; returns 0, or the seconds to wait, or None if only asking can tell."""
        with self._lock:
            now = self._clock()
            if self._asleep:
                self._mine.used(now)  # lets the old ones go
                self._mine.add(now)  # they count, should somebody speak of a limit now
                self._uncounted += 1
                return 0.0
            left, until = self._word
            if now < until and left <= 1 - self.shares[use]:
                return until - now
            self._stock = [lot for lot in self._stock if lot[2] > now]
            for place, (asked_for, count, good) in enumerate(self._stock):
                if self.shares[asked_for] <= self.shares[use]:
                    if not spend:
                        return 0.0
                    self._stock[place : place + 1] = [(asked_for, count - 1, good)] if count > 1 else []
                    self._mine.add(now)
                    return 0.0
            return self._dry[use] - now if self._dry.get(use, 0.0) > now else None

    def _restock(self, use: Use) -> None:
        """Ask the shared count for as many tokens as are wanted just now, or count for ourselves."""
        wanted, limit = self._wanted(), self.rate.part(self.shares[use])
        try:
            got, wait, late = self._ask(min(wanted, limit), limit)
            is_counted = True
        except Away:
            got, wait, late = self._alone(limit)
            is_counted = False
        with self._lock:
            now = self._clock()
            if got:
                self._stock.append((use, got, now + self.rate.lease_s - late))
                self._uncounted += 0 if is_counted else got
            else:  # whoever has had more of the window asks a little later, so that the same one does not win again
                part = self._mine.used(now) / self.rate.limit
                self._dry[use] = now + max(wait, 0.005) + part * self.rate.lease_s / 4

    def _ask(self, wanted: int, limit: int) -> TokensTaken:
        """Take tokens out of the count that all workers of the account share.

        Raises:
            Away: it cannot be reached; this worker counts alone.
        """
        shared = self._shared
        if shared is None:
            raise Away
        if missing := shared.must_charge(self._mine.used(self._clock()), self._uncounted):
            shared.charge(min(missing, self.rate.limit), self.rate.limit, self.rate.window_s)
        self._uncounted = 0
        if (word := shared.told()) is not None:
            self._hear(*word)
        return shared.take(wanted, limit, self.rate.window_s)

    def _alone(self, limit: int) -> TokensTaken:
        """Keep our part of the limit by our own count."""
        peers = self._shared.peers if self._shared is not None else 1
        with self._lock:
            wait = self._mine.wait(max(1, limit // peers), self._clock())
        return TokensTaken(0, wait) if wait > 0 else TokensTaken(1, 0.0)

    def _wanted(self) -> int:
        with self._lock:
            lately = self._mine.since(self._clock() - self.rate.lease_s)
            return max(1, min(max(self.waiting, lately), self.rate.limit // 10))

    # -- THE BROKER'S OWN WORD ---
    def limited(self, seconds: float | None) -> None:
        """The broker said "too many requests": nobody asks again before that."""
        log.warning("broker_limits", broker=self.name, retry_after=seconds)
        self.hear(0.0, USUAL_PAUSE_S if seconds is None else max(seconds, 0.1))

    def hear(self, left: float, seconds: float) -> None:
        """The broker said what part of its limit is left, and for how long; other programs use it, too."""
        if isnan(left) or isnan(seconds):
            return  # it said nothing
        self._asleep = False
        seconds = min(max(seconds, 0.0), LONGEST_PAUSE_S)
        self._hear(left, seconds)
        now = self._clock()
        is_news = left <= 0 or now - self._passed_on > 0.25
        if self._shared is not None and is_news and left <= 1 - min(self.shares.values()):
            self._passed_on = now
            self._shared.tell(left, seconds)

    def _hear(self, left: float, seconds: float) -> None:
        with self._lock:
            now = self._clock()
            if self._word[0] <= 0 and self._word[1] > now and left > 0:
                return  # "too many" stands until its time is over, whatever answers under way say
            self._word = (left, now + seconds)

    # -- VIEW ---
    def left(self) -> int:
        """Return how many requests may go out now, as far as is known."""
        used = self._mine.used(self._clock())
        if self._shared is not None:
            try:
                used = self._shared.used(self.rate.limit, self.rate.window_s)
            except Away:
                used *= self._shared.peers
        return max(self.rate.limit - used, 0)

    def __str__(self) -> str:
        if self._asleep:
            return "no limit heard of"
        return f"budget {self.left()} of {self.rate.limit} in {self.rate.seconds:g} s left, {self.waiting} waiting"


class Limits:
    """Makes the budgets of one process, which counts for itself alone; `worker.pacing.shared` has the shared ones.

    Attributes:
        budgets: those made, by key.
    """

    def __init__(self) -> None:
        self.budgets: dict[str, Budget] = {}
        self._lock = threading.Lock()

    def budget(self, name: str, adapter: str, account: str, rate: Rate, shares: Mapping[Use, float] = SHARES) -> Budget:
        """Return the budget of an account, the same one for the same account.

        Args:
            name: of the broker in the settings, for words only: two names for one account share a budget.
            adapter: the kind of broker.
            account: what tells the account from others there; only its digest leaves this process.
            rate: the limit.
            shares: what part each use may fill.
        """
        key = f"{adapter}:{digest(account)}"
        with self._lock:
            if key not in self.budgets:
                self.budgets[key] = Budget(name, rate, self.window(key), shares)
            return self.budgets[key]

    def window(self, key: str) -> SharedCount | None:
        """Return the count of all workers of an account; None where this process counts for itself."""
        return None

    def words(self) -> str:
        """Say what is left of the budgets that were used."""
        return "; ".join(str(budget) for budget in list(self.budgets.values())[:3])

    def close(self) -> None:
        """Let go of what counts for all workers."""
