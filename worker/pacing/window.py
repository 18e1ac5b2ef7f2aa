"""What is counted, and where: a limit, the requests in its window, and the account that they are counted for."""

from __future__ import annotations

import hashlib
import socket
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from models.errors import ConfigurationError
from models.explaining import shown
from models.settings import BrokerSettings


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in any window of so many seconds.

    Args:
        limit: requests.
        seconds: the window.
        presumed: the broker's documents say so, but nobody has said that this very host counts: a proxy or a simulator
            is believed when it speaks of a limit, and not held to one before.
    """

    limit: int
    seconds: float
    presumed: bool = False

    @property
    def lease_s(self) -> float:
        """How long a token taken from the shared window may wait to be spent."""
        return min(0.25, self.seconds / 20)

    @property
    def window_s(self) -> float:
        """The window as counted here: longer, by the lease and by what requests vary on their way."""
        return self.seconds * 1.02 + 0.05 + self.lease_s

    def part(self, share: float) -> int:
        """Return how many requests may be in the window when one more of this share goes out, that one included."""
        return max(1, int(self.limit * share))


def rate_from(broker: str, settings: BrokerSettings, key: str, default: int, *, is_theirs: bool = True) -> Rate | None:
    """Read a budget from `[brokers.NAME]`: requests per minute, counted over `budget_window` seconds; 0 is no limit.

    Args:
        broker: its name.
        settings: its table.
        key: of the setting.
        default: what the broker's documents say.
        is_theirs: the host is the broker's own, so that its documents hold there.

    Raises:
        ConfigurationError: it is no such number, or less than one request in a window.
    """
    if str(settings.get(key, default)) in ("0", "0.0"):
        return None
    per_minute, seconds = (_positive(broker, settings, k, d) for k, d in ((key, default), ("budget_window", 60)))
    limit = int(per_minute * seconds / 60 + 1e-9)
    if limit < 1:
        raise ConfigurationError(
            f"brokers.{broker}.{key} of {per_minute:g} is less than one request in {seconds:g} s: raise budget_window"
        )
    return Rate(limit, seconds, presumed=not is_theirs and settings.get(key) is None)


def _positive(broker: str, settings: BrokerSettings, key: str, default: float) -> float:
    """Return a number of the settings.

    Raises:
        ConfigurationError: it is no number above 0.
    """
    try:
        return settings.number(key, default, 0.001, 1_000_000)
    except ValueError:
        given = shown(settings.get(key))
        raise ConfigurationError(f"brokers.{broker}.{key} must be a number above 0, was {given}") from None


class MovingWindow:
    """The requests of this process in the last seconds: exact, and never shared."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spent: deque[float] = deque()

    def add(self, now: float) -> None:
        """Count one request."""
        self._spent.append(now)

    def used(self, now: float) -> int:
        """Return how many are in the window."""
        while self._spent and now - self._spent[0] >= self._seconds:
            self._spent.popleft()
        return len(self._spent)

    def since(self, then: float) -> int:
        """Return how many were counted after a time."""
        count = 0
        for at in reversed(self._spent):
            if at < then:
                break
            count += 1
        return count

    def wait(self, limit: int, now: float) -> float:
        """Return the seconds until fewer than `limit` are in the window; 0 if that is so now."""
        used = self.used(now)
        return 0.0 if used < limit else self._spent[used - limit] + self._seconds - now

    def returns(self, place: int, now: float) -> float:
        """Return the seconds until the one at this place, the oldest being 0, leaves the window.

        Places beyond the newest are those of the windows to come, each taken to be like this one.
        """
        used = self.used(now)
        if not used:
            return 0.0
        windows, place = divmod(place, used)
        return self._spent[place] + (1 + windows) * self._seconds - now


class Away(Exception):
    """The shared count cannot be had now."""


class TokensTaken(NamedTuple):
    """What the shared count gave.

    Attributes:
        tokens: how many; 0 if there were none.
        wait_s: seconds until asking again is worth it; 0 with tokens.
        late_s: seconds by which the answer came after the moment for which the tokens are counted; the time in which
            they may be spent began then.
    """

    tokens: int
    wait_s: float
    late_s: float = 0.0


class SharedCount(Protocol):
    """The count of all workers of an account."""

    peers: int

    def take(self, wanted: int, limit: int, window_s: float, part: str = "") -> TokensTaken:
        """Take up to `wanted` tokens while fewer than `limit` are used.

        Args:
            wanted: tokens.
            limit: tokens that fit into the window.
            window_s: the window, seconds.
            part: of the account, where that is counted by itself.

        Raises:
            Away: it cannot be reached; returns within a fraction of a second in any case.
        """

    def once(self, what: str, seconds: float) -> float:
        """Mark something as done for so many seconds; returns 0, or the seconds for which another mark stands.

        Raises:
            Away: as for `take`.
        """

    def charge(self, count: int, limit: int, window_s: float) -> None:
        """Count requests that went out without being counted there."""

    def must_charge(self, everything: int, uncounted: int) -> int:
        """Return how many of this worker's requests are to be charged: all of them if the count was wiped."""

    def used(self, limit: int, window_s: float) -> int:
        """Return how many tokens are in the window."""

    def tell(self, left: float, seconds: float) -> None:
        """Pass the broker's own word on to the other workers: what part is left, for so many seconds."""

    def told(self) -> tuple[float, float] | None:
        """Return the last word of the broker to any worker, while it holds."""


# -- WHOSE REQUESTS ---
def digest(text: str) -> str:
    """Return what stands for an account in a key: keys of a server are seen by many, secrets must not be among them."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def location(url: str) -> str:
    """Return host and port of a URL as other machines would tell them: loopback means this one."""
    parts = urlsplit(url)
    name = (parts.hostname or "").rstrip(".")
    is_here = name in ("localhost", "::1") or name.startswith("127.")
    return f"{socket.gethostname() if is_here else name}:{parts.port or ''}"
