"""What a message asks of a worker, and where it goes when no worker can do it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from models.settings import Settings
from models.troubles import trouble
from producers.bell import envelope
from worker.messaging.dead_letters import DeadLetters


@dataclass(frozen=True, slots=True)
class AskedFor:
    """One message, read.

    Args:
        task: its name in the contract.
        queue: where it was.
        kwargs: of the task.
        id: of the message, where it has one.
    """

    task: str
    queue: str
    kwargs: Mapping[str, object]
    id: str | None = None

    def set_aside(self, settings: Settings, reason: str, why: Exception | str) -> None:
        """Keep the message for a person.

        Args:
            settings: of the queue.
            reason: one of a few words, to count by.
            why: what exactly is wrong.
        """
        words = trouble(why) if isinstance(why, Exception) else why
        with closing(DeadLetters.of(settings)) as letters:
            letters.put(self.queue, envelope(self.task, self.queue, self.kwargs), reason, words)
