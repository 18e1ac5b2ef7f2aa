"""What a scrape asks the queue: whether it answers, and what was set aside; bounded in time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from models.errors import CorroError
from models.settings import Settings
from models.troubles import trouble
from worker.messaging.dead_letters import KEPT, DeadLetters

#: Seconds for one answer.
_ANSWER_S = 0.5


@dataclass(frozen=True)
class QueueLook:
    """The queue at one moment.

    Args:
        up: it answers.
        waiting: messages set aside that are kept, by reason.
        total: how many there have been since the queue's data was made, by reason.
        error: what it said no with.
    """

    up: bool = False
    waiting: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


class QueueLooker:
    """Looks at the queue; what was set aside is read again only where something has changed. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._seen: tuple[int, Mapping[str, int]] | None = None
        self._waiting: Mapping[str, int] = {}

    def look(self) -> QueueLook:
        """Look; never raises for a queue that is away or refuses."""
        try:
            with self._lock, closing(DeadLetters.of(self._settings, _ANSWER_S)) as letters:
                total = {str(reason): int(count) for reason, count in letters.counts().items()}
                now = (letters.size(), total)
                if now != self._seen:
                    self._waiting = Counter(str(row["reason"]) for row in letters.kept(KEPT)) if now[0] else {}
                    self._seen = now
                return QueueLook(True, self._waiting, total)
        except CorroError as error:
            return QueueLook(error=trouble(error))
