"""What a scrape and a page ask the queue: does it answer, and take messages, what was set aside; bounded in time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.errors import CorroError
from models.settings import Settings
from models.troubles import trouble
from producers.bell import asking
from worker.messaging.dead_letters import KEPT, DeadLetters
from worker.messaging.unread import refusal

#: Seconds for one answer.
_ANSWER_S = 0.5


@dataclass(frozen=True)
class QueueLook:
    """The queue at one moment.

    Args:
        up: it answers, and takes messages.
        waiting: messages set aside that are kept, by reason.
        total: how many there have been since the queue's data was made, by reason.
        trouble: why it is not up.
    """

    up: bool = False
    waiting: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""

    @property
    def words(self) -> str:
        """What an operator is told of a queue that is not up; empty of another one."""
        return f"{self.trouble.rstrip('.')}; orders go on from the database" if self.trouble else ""


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
            with self._lock, asking(self._settings, _ANSWER_S) as client:
                if refused := refusal(client, to_all=True):
                    return QueueLook(trouble=f"the queue refuses writes: {refused}")
                letters = DeadLetters(client)
                total = {str(reason): int(count) for reason, count in letters.counts().items()}
                now = (letters.size(), total)
                if now != self._seen:
                    self._waiting = Counter(str(row["reason"]) for row in letters.kept(KEPT)) if now[0] else {}
                    self._seen = now
                return QueueLook(True, self._waiting, total)
        except CorroError as error:
            return QueueLook(trouble=trouble(error))
