"""Cancels that overtake their order: remembered until the order comes, which then ends without being sent.

A bare message is all there is of an order until a worker reads it, and workers read cancels first. So a cancel sent
right behind its order is read before it wherever a worker was busy or away; forgotten then, the order would trade.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import structlog

from models.settings import Settings
from producers.bell import asking_the_queue, connect

log = structlog.get_logger()

_KEY = "corro.early_cancel:"
#: Seconds for one answer of the queue.
_PATIENCE_S = 1.0


class EarlyCancels:
    """The ids whose cancel came and whose order did not, in the queue's server: any worker may read either message.

    Args:
        settings: name the queue, and the longest life of an order, which is how long a cancel waits for one.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, connect_s=_PATIENCE_S, answer_s=_PATIENCE_S)
        self._life_s = math.ceil(settings.timing.longest_life)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def remember(self, ids: Sequence[str], key_id: str = "") -> None:
        """Remember cancels of orders that have no row yet, and whose key has signed them.

        Raises:
            QueueUnavailable: nothing was remembered; the message has to be kept.
        """
        for id_ in ids:
            log.warning("cancel_of_unknown_order", client_order_id=id_, waits_s=self._life_s)
        with asking_the_queue():
            pipe = self._client.pipeline()
            for id_ in ids:
                pipe.set(_KEY + id_, key_id or "1", ex=self._life_s)
            pipe.execute()

    def of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return those of these new orders whose cancel is there already, each with the key that signed the cancel.

        Raises:
            QueueUnavailable: nobody knows.
        """
        if not ids:
            return {}
        with asking_the_queue():
            found = cast("Sequence[object]", self._client.mget([_KEY + id_ for id_ in ids]))
            marks = {
                id_: mark.decode(errors="replace")
                for id_, mark in zip(ids, found, strict=True)
                if isinstance(mark, bytes)
            }
        return {id_: "" if mark == "1" else mark for id_, mark in marks.items()}

    def forget(self, ids: Sequence[str]) -> None:
        """Forget cancels that are on their orders now; what stays finds orders that have ended."""
        with asking_the_queue():
            self._client.delete(*(_KEY + id_ for id_ in ids))
