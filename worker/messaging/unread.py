"""Lists in the queue's server that nobody reads: a mistyped queue, or a `send_task` without one, is no silent loss.

A producer without our package that forgets `queue=` puts its message on Celery's own default, the list `celery`; one
that mistypes the broker makes a new list. The first is taken into the dead letters, `check` and `fleet` tell both.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

import redis

from models import encoding
from models.settings import Settings
from models.troubles import trouble
from producers.bell import connect
from worker.messaging.dead_letters import DeadLetters
from worker.messaging.guard import TASKS

#: The list on which Celery puts messages that name no queue.
DEFAULT = "celery"
#: How our own lists begin: what was set aside, and who waits for an account's budget.
_OURS = "corro."
KINDS = ("control", "orders", "data")
#: Between a queue's name and a priority in the names of kombu's lists.
_SEPARATOR = "\x06\x16"
#: Keys looked at, and messages taken, in one go: a server that others use too may have millions.
_MOST_KEYS, _MOST_TAKEN = 100_000, 100


def refusal(client: redis.Redis, *, to_all: bool = False) -> str | None:
    """Return what the queue says no with to the writes of producers and workers; None while it takes them.

    A PING, and the waiting of a worker that has nothing to do, go on where writes are refused: no memory left, a
    replica, no disk, an ACL. Nothing of what is written stays.

    Args:
        client: of whoever asks.
        to_all: leave out what the ACL does not let this user do; others may be allowed to.

    Raises:
        redis.RedisError: it does not answer.
    """
    name = f"corro.check.{uuid.uuid4().hex[:12]}"
    pipe = client.pipeline(transaction=False)
    pipe.lpush(name, "1")
    pipe.rpop(name)
    pipe.hdel("unacked", name)
    pipe.zrem("unacked_index", name)
    pipe.srem("_kombu.binding.celery", name)
    answers = pipe.execute(raise_on_error=False)
    left_out = redis.exceptions.NoPermissionError if to_all else ()
    said = next((no for no in answers if isinstance(no, redis.RedisError) and not isinstance(no, left_out)), None)
    # redis-py takes OOM, READONLY and the like off the words, and makes a class of them.
    return None if said is None else trouble(said)


def unread_lists(client: redis.Redis, brokers: Iterable[str]) -> dict[str, int]:
    """Return the lists that no worker of these brokers reads, with their lengths.

    Raises:
        redis.RedisError: from the queue.
    """
    read = {f"{kind}.{name}" for name in brokers for kind in KINDS}
    found: dict[str, int] = {}
    for seen, key in enumerate(client.scan_iter(count=1000, _type="list")):
        name = key.decode(errors="replace").split(_SEPARATOR)[0]
        if name not in read and not name.startswith(_OURS):
            found[name] = found.get(name, 0) + int(client.llen(key))
        if seen > _MOST_KEYS:
            break
    return found


def take_default(client: redis.Redis) -> int:
    """Set aside what stands on Celery's default list for a task of ours; returns how many. Others' messages stay.

    Raises:
        redis.RedisError: from the queue.
    """
    letters, taken = DeadLetters(client), 0
    items = cast("list[bytes]", client.lrange(DEFAULT, -_MOST_TAKEN, -1))
    for item in items:
        if _is_ours(item) and client.lrem(DEFAULT, 1, item):  # type: ignore[arg-type]  # who removes it keeps it
            letters.put(DEFAULT, item, "no_queue", "sent without queue=: nobody reads this list; name orders.<broker>")
            taken += 1
    return taken


def look(settings: Settings) -> None:
    """Take what stands on the default list; a queue that says no is told by those who cannot do without it."""
    with suppress(Exception), connect(settings, connect_s=1.0, answer_s=1.0) as client:
        take_default(client)


def _is_ours(item: bytes) -> bool:
    with suppress(Exception):
        return bool(encoding.loads(item)["headers"]["task"] in TASKS)
    return False


def words(found: dict[str, int]) -> str:
    """Say which lists nobody reads."""
    named = ", ".join(f"{name} ({count})" for name, count in sorted(found.items())[:10])
    return f"nobody reads {named}" if found else ""
