"""The database does not answer: what no row can say while it lasts.

A key in the queue decides who tells it, and remembers that it was told: whoever finds the database well again, in this
process or the next, takes the key away and has the end recorded. Without a queue each leader tells, and remembers it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import redis

from models import encoding
from models.errors import CorroError
from models.notify import TOPICS, NewsKind
from models.record.notice_rows import IncidentRow
from models.settings import Settings
from models.troubles import trouble
from producers.bell import asking_the_queue, connect
from worker.notify.plan import Message

T = TypeVar("T")

_KEY = "corro.notify.database_down"
#: Whoever is to tell is gone after so long without a word, seconds; and so long it is known that it was told.
_TELLING_S, _TOLD_S = 120, 30 * 86_400
#: Seconds for an answer of the queue.
_ANSWER_S = 0.5
_SUBJECT = "database"


class Outage:
    """What this leader knows of an outage of the database.

    Args:
        settings: where the queue is, and whether anybody wants to know.
        me: this worker's name.
    """

    def __init__(self, settings: Settings, me: str) -> None:
        self._settings, self._me = settings, me
        self._since: datetime | None = None
        #: What this leader is to tell, or has told, until it is over.
        self._mine: IncidentRow | None = None
        #: A process before this one may have told of an outage, and have died.
        self._may_be_left = True

    def lasts(self, error: Exception, now: datetime) -> Message | None:
        """Note that the database does not answer; returns the message where this leader is the one to send it."""
        kind = NewsKind.DATABASE_DOWN
        self._since, self._may_be_left = self._since or now, True
        if kind not in self._settings.notify.wanted or now - self._since < timedelta(seconds=TOPICS[kind].delay_s):
            return None
        if self._mine is not None:
            if self._mine["told_at"] is None:  # services do not take it: nobody else is to begin meanwhile
                self._asked(lambda queue: queue.expire(_KEY, _TELLING_S), otherwise=None)
            return None
        row = _row(self._since, trouble(error), None)
        if not self._asked(lambda queue: bool(queue.set(_KEY, _text(row), nx=True, ex=_TELLING_S)), otherwise=True):
            return None
        self._mine = row
        body = f"{TOPICS[kind].words}; `{TOPICS[kind].look}` shows more\n{_SUBJECT} since "
        return Message(str(kind), f"corro {kind}", f"{body}{self._since:%Y-%m-%d %H:%M:%S} UTC: {row['words']}")

    def told(self, now: datetime) -> None:
        """Note that people have been told; the queue remembers it, should this process be gone by the end."""
        if (mine := self._mine) is not None:
            self._mine = told = _row(mine["since"], mine["words"], now)
            self._asked(lambda queue: queue.set(_KEY, _text(told), xx=True, ex=_TOLD_S), otherwise=None)

    def over(self, now: datetime) -> IncidentRow | None:
        """Note that it answers; returns the outage whose end is to be told, where this leader is the one to do so."""
        self._since = None
        if not self._may_be_left:
            return None
        nobody_says: bytes | None = b""
        found = self._asked(_take, otherwise=nobody_says)
        if found == nobody_says and self._mine is None:
            return None  # the queue does not say: it is asked again
        row = self._mine or _read(found)
        self._mine, self._may_be_left = None, False
        if row is not None:
            row["over_at"] = max(now, row["since"])
        return row

    def _asked(self, question: Callable[[redis.Redis], T], otherwise: T) -> T:
        try:
            with asking_the_queue(), connect(self._settings, connect_s=_ANSWER_S, answer_s=_ANSWER_S) as queue:
                return question(queue)
        except CorroError:
            return otherwise


def _row(since: datetime, words: str, told_at: datetime | None) -> IncidentRow:
    return {
        "kind": str(NewsKind.DATABASE_DOWN), "subject": _SUBJECT, "since": since, "words": words, "told_at": told_at,
        "over_at": None,
    }  # fmt: skip


def _take(queue: redis.Redis) -> bytes | None:
    """Return what is remembered of an outage, and forget it: only one gets it."""
    with queue.pipeline(transaction=True) as both:
        both.get(_KEY)
        both.delete(_KEY)
        found: object = both.execute()[0]
    return found if isinstance(found, bytes) else None


def _text(row: IncidentRow) -> str:
    return encoding.text(encoding.to_json(dict(row)))


def _read(found: bytes | None) -> IncidentRow | None:
    """Return what another leader has told; None where nobody has, or it cannot be read."""
    if not found:
        return None
    try:
        row = encoding.loads(found)
        told_at = None if row["told_at"] is None else datetime.fromisoformat(row["told_at"])
        return _row(datetime.fromisoformat(row["since"]), str(row["words"]), told_at)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
