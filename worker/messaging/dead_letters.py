"""Messages set aside: what no worker can take is kept for a person to look at, counted by reason, and never fatal.

A Redis list has the newest of them, cut to a length, with length and digest of the whole; a hash has the counts, which
nothing but a person resets. Both are in the queue's server, so they outlive every worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import redis
import structlog

from models.errors import NotFound
from models.settings import Settings
from models.troubles import trouble
from producers.bell import asking_the_queue, connect

log = structlog.get_logger()

#: The list, newest first; a key of the wrong type is renamed to this and its own name.
SET_ASIDE = "corro.set_aside"
#: The hash: reason -> how many, ever.
COUNTS = "corro.set_aside.count"
#: At most so many are kept, of each at most so many bytes: together they stay below 100 MB, whatever arrives.
KEPT, KEPT_BYTES = 1_000, 16_384
#: A count that nobody but a worker has written.
_COUNT = re.compile(rb"[0-9]{1,15}")
_START = 300


class DeadLetters:
    """The messages set aside in one Redis.

    Args:
        client: any client of it; its timeouts bound every call.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @classmethod
    def of(cls, settings: Settings, answer_s: float = 2.0) -> DeadLetters:
        """Return those of the settings' queue."""
        return cls(connect(settings, connect_s=min(answer_s, 1.0), answer_s=answer_s))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # -- WRITING ---
    def put(self, queue: str, message: bytes, reason: str, why: str) -> None:
        """Keep a message that cannot be taken; a queue that refuses it costs the copy, not the worker.

        Args:
            queue: where it was.
            message: as it came.
            reason: one of a few words, to count by.
            why: what exactly is wrong.
        """
        log.error("message_set_aside", queue=queue, reason=reason, why=why, message=repr(message[:_START]))
        try:
            try:
                self._put(queue, message, reason, why)
            except redis.ResponseError:  # somebody has put something else where these belong
                self.displace({SET_ASIDE: "list", COUNTS: "hash"}, report=False)
                self._put(queue, message, reason, why)
        except Exception as error:
            log.error("message_not_kept", error=trouble(error), queue=queue, size=len(message))

    def _put(self, queue: str, message: bytes, reason: str, why: str) -> None:
        """Write one letter and count its reason; the oldest go when there are too many."""
        kept = {
            "id": uuid.uuid4().hex[:12],
            "at": datetime.now(UTC).isoformat(),
            "worker": f"{queue.partition('.')[2]}@{socket.gethostname()}:{os.getpid()}",
            "queue": queue,
            "reason": reason,
            "why": why[:1000],
            "size": len(message),
            "sha256": hashlib.sha256(message).hexdigest(),
            "message": message[:KEPT_BYTES].decode(errors="backslashreplace"),
        }
        pipe = self._client.pipeline()
        pipe.lpush(SET_ASIDE, json.dumps(kept))
        pipe.ltrim(SET_ASIDE, 0, KEPT - 1)
        pipe.hincrby(COUNTS, reason, 1)
        pipe.execute()

    def displace(self, types: dict[str, str], *, report: bool = True) -> None:
        """Move keys out of the way that are not of the type they have to be; the newest of each name is kept.

        Args:
            types: key -> the Redis type it has to have.
            report: have it in the list, too.

        Raises:
            redis.RedisError: from the queue.
        """
        for key, needed in types.items():
            found = self._client.type(key)
            kind = found.decode() if isinstance(found, bytes) else str(found)
            if kind in ("none", needed):
                continue
            name = key.split("\x06")[0]
            away = f"{SET_ASIDE}.{name}"
            self._client.rename(key, away)
            why = f"the key {name} was a {kind} and has to be a {needed}; it is {away} now"
            log.error("key_set_aside", key=name, kind=kind, needed=needed, now=away)
            if report:
                self.put(name, b"", "wrong_key_type", why)

    # -- READING ---
    def kept(self, limit: int = KEPT) -> list[dict[str, object]]:
        """Return what is kept, newest first.

        Raises:
            QueueUnavailable: the queue does not answer.
        """
        return [_read(item) for item in self._items(limit)]

    def size(self) -> int:
        """Return how many are kept.

        Raises:
            QueueUnavailable: the queue does not answer.
        """
        with asking_the_queue():
            return int(self._client.llen(SET_ASIDE))

    def one(self, id_: str) -> dict[str, object]:
        """Return one of them by its id.

        Raises:
            NotFound: there is none, or not any more.
            QueueUnavailable: the queue does not answer.
        """
        return _read(self._find(id_))

    def drop(self, id_: str | None) -> int:
        """Forget one of them, or all with None; the counts stay. Returns how many there were.

        Raises:
            NotFound: there is none of this id.
            QueueUnavailable: the queue does not answer.
        """
        if id_ is None:
            with asking_the_queue():
                pipe = self._client.pipeline()
                pipe.llen(SET_ASIDE)
                pipe.delete(SET_ASIDE)
                return int(pipe.execute()[0])
        item = self._find(id_)
        with asking_the_queue():
            return int(self._client.lrem(SET_ASIDE, 1, item))  # type: ignore[arg-type]

    def counts(self) -> dict[str, int]:
        """Return how many were set aside, ever, by reason; the most frequent first.

        Raises:
            QueueUnavailable: the queue does not answer.
        """
        with asking_the_queue():
            found = cast("dict[bytes, bytes]", self._client.hgetall(COUNTS))
            pairs = [(name.decode(errors="replace"), int(n)) for name, n in found.items() if _COUNT.fullmatch(n)]
        return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

    def _items(self, limit: int = KEPT) -> Sequence[bytes]:
        with asking_the_queue():
            found: object = self._client.lrange(SET_ASIDE, 0, limit - 1)
            if not isinstance(found, list):
                raise TypeError(f"no list, but {str(found)[:100]!r}")
            return [item for item in found if isinstance(item, bytes)]

    def _find(self, id_: str) -> bytes:
        for item in self._items():
            if _read(item)["id"] == id_:
                return item
        raise NotFound(f"no message set aside has the id {id_!r}")


_BLANK = dict.fromkeys(("id", "at", "worker", "queue", "reason", "why", "size", "sha256", "message"))


def _read(item: bytes) -> dict[str, object]:
    """Read an entry; one that is none, or of a version before, is shown as far as it goes."""
    try:
        found = json.loads(item)
    except (ValueError, RecursionError):
        found = None
    return {**_BLANK, **(found if isinstance(found, dict) else {"message": repr(item[:_START])})}
