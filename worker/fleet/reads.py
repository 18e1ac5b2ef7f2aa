"""Whether a broker can be read: when each kind of reading last succeeded, and why it fails since."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from models.troubles import trouble
from models.vocabulary import CANNOT_READ
from worker.runtime.clock import elapsed, utcnow

#: Seconds for which readings of a kind have to fail before that is told: one that fails is repeated first.
_PATIENCE_S = 10.0
#: Characters of a reason.
_LONGEST = 150


@dataclass(slots=True)
class _Kind:
    """How readings of one kind went: when the last good one was, since when they fail, and why."""

    read_at: datetime | None = None
    failing_since: float | None = None
    why: str = ""


class Reads:
    """The readings of one broker by one worker; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}

    @contextlib.contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Note how a reading goes; whatever it raises goes on.

        Args:
            kind: what is read, in the plural.
        """
        try:
            yield
        except Exception as error:
            with self._lock:
                found = self._kinds.setdefault(kind, _Kind())
                found.failing_since = elapsed() if found.failing_since is None else found.failing_since
                found.why = trouble(error)[:_LONGEST]
            raise
        with self._lock:
            self._kinds[kind] = _Kind(read_at=utcnow())

    def trouble(self) -> str:
        """Say which kinds cannot be read, since when and why; empty while all can."""
        now = elapsed()
        with self._lock:
            failing = {
                kind: found
                for kind, found in self._kinds.items()
                if found.failing_since is not None and now - found.failing_since >= _PATIENCE_S
            }
        return "; ".join(
            f"{CANNOT_READ} {kind} ({_last(found.read_at)}): {found.why}" for kind, found in failing.items()
        )


def _last(read_at: datetime | None) -> str:
    return f"last read {read_at:%Y-%m-%d %H:%M:%SZ}" if read_at else "never read by this worker"
