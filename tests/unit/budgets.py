"""A clock that passes when it is told to, and a shared count in memory that follows it."""

from __future__ import annotations

from worker.pacing.window import Away, TokensTaken


class HandClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountInMemory:
    """A shared count in memory, on the test's clock: what Redis does, without Redis."""

    def __init__(self, clock: HandClock) -> None:
        self.clock, self.peers, self.away = clock, 3, False
        self.taken: list[float] = []
        self.asked = 0
        self.word: tuple[float, float] | None = None
        self.charged: list[int] = []

    def _here(self) -> None:
        self.asked += 1
        if self.away:
            raise Away

    def take(self, wanted: int, limit: int, window_s: float) -> TokensTaken:
        self._here()
        inside = [at for at in self.taken if at > self.clock() - window_s]
        count = min(wanted, limit - len(inside))
        if count <= 0:
            return TokensTaken(0, inside[len(inside) - limit] + window_s - self.clock())
        self.taken += [self.clock()] * count
        return TokensTaken(count, 0.0)

    def charge(self, count: int, limit: int, window_s: float) -> None:
        self._here()
        self.charged.append(count)
        self.taken += [self.clock()] * count

    def must_charge(self, everything: int, uncounted: int) -> int:
        self._here()
        return uncounted

    def used(self, limit: int, window_s: float) -> int:
        self._here()
        return sum(at > self.clock() - window_s for at in self.taken)

    def tell(self, left: float, seconds: float) -> None:
        self.word = (left, seconds)

    def told(self) -> tuple[float, float] | None:
        return self.word
