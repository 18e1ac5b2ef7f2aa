"""The count of an account's requests in Redis, for all its workers: the moving window of the library `limits`.

Its scripts do the counting (https://limits.readthedocs.io/en/stable/strategies.html#moving-window). They are called
with milliseconds of the server's clock instead of the seconds of ours: machines whose clocks differ, or jump, would
give each other too much or nothing, and a window of one second needs parts of one.

A token is spent after the answer came, and the server's clock is known as well as its answer was quick. So tokens are
counted for the moment at which an answer as slow as the last ones comes, and what is not known of the clock makes the
window longer; an answer later than expected leaves its tokens less time to be spent, or none.

Redis away, frozen or slow costs one call a fraction of a second; then it is left alone for a while, and the workers
count for themselves (`worker.pacing.budget`).
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from models.settings import Settings
from models.troubles import trouble
from worker.pacing.budget import Limits
from worker.pacing.window import Away, TokensTaken, digest
from worker.runtime.said import LastingTrouble

if TYPE_CHECKING:
    from limits.storage import RedisStorage

T = TypeVar("T")

#: Seconds for one connect and for one answer: as long as a call may be held up by a sick Redis.
CONNECT_S, ANSWER_S = 0.2, 0.2
#: Seconds that a Redis which did not answer is left alone.
SILENCE_S = 2.0
#: Seconds for which a trouble is told after it was met last: a key that others have spoilt is met now and then.
TOLD_FOR_S = 30.0
#: Pause between two readings of the server's clock and of who else is here; a peer silent for twice as long is gone.
SYNC_S = 10.0
#: Pause between two looks at what brokers told the other workers.
WORD_S = 0.1
_PREFIX = "corro.budget"
#: A reading of the server's clock that may be wrong by more than so many milliseconds is taken again, so many times.
_DOUBT_MS, _READINGS = 2.0, 3
#: Part of the slowness of answers that is still expected after one that was quick.
_FORGOTTEN = 0.9
#: Longest time for which a broker's word is passed on, or believed: no broker tells anybody to wait for longer.
LONGEST_WORD_S = 300.0
#: Workers that can share an account; a larger number is not believed.
_MOST_PEERS = 64
#: Keys of accounts that nobody uses any more go after a day.
_KEPT_S = 86_400


class Link:
    """One process's connection to Redis for counting; opened at the first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._silent_until = 0.0
        self._storage: RedisStorage | None = None
        self._lock = threading.Lock()
        self.me = uuid.uuid4().hex
        #: How often Redis was asked.
        self.trips = 0
        #: Counts the times that it did not answer.
        self.losses = 0
        self._trouble, self._met_at = "", -math.inf
        self._away = LastingTrouble()

    def do(self, work: Callable[[RedisStorage], T]) -> T:
        """Do something there.

        Raises:
            Away: it does not answer, or has not answered a moment ago.
        """
        if time.monotonic() < self._silent_until:
            raise Away
        self.trips += 1
        try:
            done = work(self._open())
        except Exception as error:  # whatever a reply, or what others have written there, makes of it
            self._silent_until = time.monotonic() + SILENCE_S
            self.losses += 1
            self._trouble, self._met_at = trouble(error)[:200], time.monotonic()
            self._away.lasts("budgets_not_shared", trouble(error), hint="every worker keeps its part of the limit")
            raise Away from None
        self._away.is_over()
        return done

    def words(self) -> str:
        """Say why the budgets are not shared, for `corro fleet`; empty while they are."""
        is_over = time.monotonic() - self._met_at > TOLD_FOR_S
        return "" if is_over else f"budgets are not shared, every worker keeps its part: {self._trouble}"

    def _open(self) -> RedisStorage:
        with self._lock:
            if self._storage is None:
                from limits.storage import RedisStorage  # here: no other process needs it, nor the queue's client

                from producers.bell import connect

                client = connect(self._settings, connect_s=CONNECT_S, answer_s=ANSWER_S)
                self._storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=_PREFIX)
            return self._storage

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._storage is not None:
                self._storage.storage.close()
                self._storage.storage.connection_pool.disconnect()
                self._storage = None


class _Reading(NamedTuple):
    """The server's clock against ours, known but for `error_ms`; which count it is, and how many workers it serves."""

    offset_ms: float
    error_ms: float
    epoch: str
    peers: int


class SharedWindow:
    """One account's window; implements `worker.pacing.window.SharedCount`.

    Args:
        link: to Redis.
        key: of the account, without a secret in it.
    """

    def __init__(self, link: Link, key: str) -> None:
        self._link, self._key = link, key
        #: Workers that share the account, as last seen; two until somebody has looked.
        self.peers = 2
        self._synced_at, self._word_at = -SYNC_S, -WORD_S
        self._losses = 0
        self._offset_ms = 0.0
        #: What is not known of the server's clock, and how long an answer takes lately, milliseconds.
        self._error_ms, self._lag_ms = 0.0, 0.0
        self._epoch: str | None = None
        #: What was found there that no worker writes; empty while all is well.
        self.oddity = ""

    # -- TOKENS ---
    def take(self, wanted: int, limit: int, window_s: float, part: str = "") -> TokensTaken:
        """Take tokens; see `worker.pacing.window.SharedCount.take`."""
        self._sync()
        key, window_ms = f"{self._key}:{digest(part)}" if part else self._key, int(window_s * 1000)
        for count in (wanted, 1) if wanted > 1 else (1,):
            asked_at, lag_s = time.monotonic(), self._lag_ms / 1000
            if self._acquire(key, count, limit, window_ms):
                took = time.monotonic() - asked_at
                self._lag_ms = max(took * 1000, self._lag_ms * _FORGOTTEN)
                return TokensTaken(count, 0.0, max(took - lag_s, 0.0))
        oldest, used = self._look(key, limit, window_ms)
        now = self._now_ms()
        if oldest is not None and oldest > now + 1000:  # the server's clock was put back
            self._link.do(lambda storage: storage.clear(key))
            return TokensTaken(0, 0.01)
        if oldest is None or used < limit:
            return TokensTaken(0, 0.01)  # one came back between the two calls
        return TokensTaken(0, max((oldest + window_ms - now) / 1000, 0.001))

    def charge(self, count: int, limit: int, window_s: float) -> None:
        """Count what went out unseen, whatever is in the window already."""
        self._acquire(self._key, count, limit + count, int(window_s * 1000))

    def used(self, limit: int, window_s: float) -> int:
        """Return how many tokens are in the window."""
        self._sync()
        return self._look(self._key, limit, int(window_s * 1000))[1]

    def _acquire(self, key: str, count: int, limit: int, window_ms: int) -> bool:
        """Count tokens for when they can be spent, if those of the window before now leave room for them."""
        ahead = self._lag_ms + self._error_ms
        arguments = [int(self._now_ms() + ahead), limit, int(window_ms + ahead + self._error_ms), count]
        return bool(self._link.do(lambda s: s.lua_acquire_moving_window([s.prefixed_key(key)], arguments)))

    def _look(self, key: str, limit: int, window_ms: int) -> tuple[float | None, int]:
        arguments = [self._now_ms() - window_ms, limit]
        found = self._link.do(lambda s: s.lua_moving_window([s.prefixed_key(key)], arguments))
        return (float(found[0]), int(found[1])) if found else (None, 0)

    def _now_ms(self) -> int:
        return int(time.monotonic() * 1000 + self._offset_ms)

    # -- WHO ELSE, AND WHAT TIME ---
    def must_charge(self, everything: int, uncounted: int) -> int:
        """Look around if it is time to; see `worker.pacing.window.SharedCount.must_charge`."""
        known = self._epoch
        self._sync()
        wiped = known is not None and self._epoch != known
        return everything if wiped else uncounted

    def _sync(self) -> None:
        """Read the server's clock, count the workers, and see whether the count is still the one we know."""
        if time.monotonic() - self._synced_at < SYNC_S and self._losses == self._link.losses:
            return
        losses = self._link.losses
        readings = [self._link.do(self._look_around)]
        while readings[-1].error_ms > _DOUBT_MS and len(readings) < _READINGS:
            readings.append(self._link.do(self._look_around))
        best = min(readings, key=lambda reading: reading.error_ms)
        self._offset_ms, self._error_ms = best.offset_ms, best.error_ms
        self._epoch, self.peers = readings[-1].epoch, min(max(readings[-1].peers, 1), _MOST_PEERS)
        self._synced_at, self._losses = time.monotonic(), losses

    def _look_around(self, storage: RedisStorage) -> _Reading:
        epoch, members = (storage.prefixed_key(f"{self._key}:{what}") for what in ("epoch", "peers"))
        pipe: Any = storage.storage.pipeline(transaction=False)
        now = time.time()
        pipe.time()
        pipe.set(epoch, uuid.uuid4().hex, nx=True, ex=_KEPT_S)
        pipe.get(epoch)
        pipe.zadd(members, {self._link.me: now})
        pipe.zremrangebyscore(members, "-inf", now - 2 * SYNC_S)
        pipe.expire(members, _KEPT_S)
        pipe.zcard(members)
        asked_at = time.monotonic()  # not before the connection was there: its making is no part of the answer's way
        moment, _, found, _, _, _, peers = pipe.execute()
        half_ms = (time.monotonic() - asked_at) * 500
        offset_ms = moment[0] * 1000 + moment[1] / 1000 - asked_at * 1000 - half_ms
        return _Reading(offset_ms, half_ms, str(found), int(peers))

    # -- THE BROKER'S OWN WORD ---
    def tell(self, left: float, seconds: float) -> None:
        """Pass the broker's word on; lost if Redis is away, because the others will hear it themselves."""
        seconds = min(seconds, LONGEST_WORD_S)
        try:
            self._sync()
            until = self._now_ms() + seconds * 1000
            self._link.do(
                lambda s: s.storage.set(s.prefixed_key(f"{self._key}:word"), f"{left:.4f} {until:.0f}", px=_ms(seconds))
            )
        except Away:
            pass

    def told(self) -> tuple[float, float] | None:
        """Return the broker's last word to any worker; asks at most every `WORD_S` seconds."""
        if time.monotonic() - self._word_at < WORD_S:
            return None
        self._word_at = time.monotonic()
        found = self._link.do(lambda s: s.storage.get(s.prefixed_key(f"{self._key}:word")))
        if not found:
            return None
        text = found.decode() if isinstance(found, bytes) else str(found)
        word = read_word(text, self._now_ms())
        self.oddity = "" if word is not None else f"what stands as the broker's word is none: {text[:40]!r}"
        return word if word is not None and word[1] > 0 else None

    # -- ONCE ---
    def once(self, what: str, seconds: float) -> float:
        """Mark something as done for so many seconds; returns 0, or the seconds for which another mark stands."""

        def mark(storage: RedisStorage) -> float:
            key = storage.prefixed_key(f"{self._key}:{digest(what)}")
            if storage.storage.set(key, "1", nx=True, px=_ms(seconds)):
                return 0.0
            return min(max(int(storage.storage.pttl(key)) / 1000, 0.01), seconds)  # whoever wrote it, for however long

        return self._link.do(mark)


def read_word(text: str, now_ms: float) -> tuple[float, float] | None:
    """Read a broker's word that a worker has passed on: what is left of the budget, and for how many seconds.

    Anybody may have written it. What no worker writes is None, and no word holds for longer than `LONGEST_WORD_S`.
    """
    try:
        left, until = (float(part) for part in text.split())
    except ValueError:
        return None
    if not (math.isfinite(left) and math.isfinite(until) and left >= 0):
        return None
    return left, min((until - now_ms) / 1000, LONGEST_WORD_S)


def _ms(seconds: float) -> int:
    return max(int(seconds * 1000), 1)


class SharedLimits(Limits):
    """Makes budgets that all workers of an account share through Redis."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._link = Link(settings)
        self._windows: dict[str, SharedWindow] = {}

    def window(self, key: str) -> SharedWindow:
        """Return an account's window in Redis."""
        return self._windows.setdefault(key, SharedWindow(self._link, key))

    def words(self) -> str:
        """Say what is left of the budgets that were used, and what is odd about the shared count."""
        odd = [window.oddity for window in list(self._windows.values()) if window.oddity]
        if trouble := self._link.words():
            odd.insert(0, trouble)
        return "; ".join([*odd[:3], *filter(None, [super().words()])])

    @property
    def trips(self) -> int:
        """How often Redis was asked."""
        return self._link.trips

    def close(self) -> None:
        """Close the connection to Redis."""
        self._link.close()
