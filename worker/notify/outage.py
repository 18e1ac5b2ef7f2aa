"""The database does not answer: what no row can say. The queue decides who tells it; without one each leader does."""

from __future__ import annotations

from datetime import datetime, timedelta

import redis

from models.notify import TOPICS, NewsKind
from models.record.notice_rows import IncidentRow
from models.settings import Settings
from producers.bell import connect
from worker.notify.plan import Message

#: The key that one leader sets; it goes by itself when that leader is gone, seconds.
_KEY, _KEPT_S = "corro.notify.database_down", 600
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
        self._told_at: datetime | None = None

    def lasts(self, error: Exception, now: datetime) -> Message | None:
        """Note that the database does not answer; returns the message where this leader is the one to send it."""
        kind = NewsKind.DATABASE_DOWN
        self._since = self._since or now
        if kind not in self._settings.notify.wanted or now - self._since < timedelta(seconds=TOPICS[kind].delay_s):
            return None
        mine = self._is_mine()
        if self._told_at is not None or not mine:
            return None
        self._told_at = now
        body = f"{TOPICS[kind].words}; `{TOPICS[kind].look}` shows more\n{_SUBJECT} since "
        return Message(str(kind), f"corro {kind}", f"{body}{self._since:%Y-%m-%d %H:%M:%S} UTC: {error}")

    def over(self, now: datetime) -> IncidentRow | None:
        """Note that it answers; returns what is to be told where this leader has told of the outage."""
        since, told_at, self._since, self._told_at = self._since, self._told_at, None, None
        if since is None or told_at is None:
            return None
        self._give_up()
        return {
            "kind": str(NewsKind.DATABASE_DOWN), "subject": _SUBJECT, "since": since, "words": "", "told_at": told_at,
            "over_at": now,
        }  # fmt: skip

    def _is_mine(self) -> bool:
        """Ask the queue whether this leader is to tell; where it does not answer, every leader is."""
        try:
            with connect(self._settings, connect_s=_ANSWER_S, answer_s=_ANSWER_S) as queue:
                if queue.set(_KEY, self._me, nx=True, ex=_KEPT_S):
                    return True
                holder: object = queue.get(_KEY)
                mine = holder == self._me.encode()
                if mine:
                    queue.expire(_KEY, _KEPT_S)
                return mine
        except (redis.RedisError, OSError):
            return True

    def _give_up(self) -> None:
        try:
            with connect(self._settings, connect_s=_ANSWER_S, answer_s=_ANSWER_S) as queue:
                queue.delete(_KEY)
        except (redis.RedisError, OSError):
            return
