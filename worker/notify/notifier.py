"""A leader's two threads for notifications: one sees what is to be told and writes messages, the other sends them.

Leaders of all brokers run them; a row decides. Whoever holds the lease `notify` looks, and writes what it has seen and
the messages in the transaction that renews the lease; a message is taken by a conditional update before it is sent.
Nothing here is in the way of an order: both threads wait for the database and for services by themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from models.errors import CorroError, DatabaseUnavailable
from models.notify import Concern, NewsKind
from models.record import notices
from models.record.database import Database
from models.record.notice_rows import IncidentRow, NotificationRow
from models.settings import Settings
from models.troubles import trouble
from producers.bell import asking
from worker.fleet.members import take_lease
from worker.messaging.dead_letters import DeadLetters
from worker.messaging.unread import refusal
from worker.notify import sending
from worker.notify.concerns import concerns_of, of_dead_letters
from worker.notify.outage import Outage
from worker.notify.plan import Message, decide_news
from worker.runtime.clock import Stopwatch, utcnow
from worker.runtime.loops import Loop

log = structlog.get_logger()

#: Seconds between looks, and how long whoever looked is the only one.
_LOOK_EVERY_S, _LEASE_S = 2.0, 10.0
#: Seconds between looks for messages to send.
_SEND_EVERY_S = 1.0
#: A message that somebody is sending is nobody else's for so long: more than all its services may take.
_BUSY_S = 90.0
#: No service is begun with after so long.
_SENDING_S = 60.0
#: Pauses between tries: from this, doubled, to that; and after so long nobody tries any more, seconds.
_FIRST_S, _LONGEST_S, _GIVEN_UP_S = 5.0, 300.0, 86_400.0
#: Seconds between heartbeats.
_HEARTBEAT_S = 60.0
#: Seconds for an answer of the queue; messages set aside that are read at most.
_ANSWER_S, _LETTERS = 0.5, 50
#: While one of these stands there is no heartbeat.
_UNHEALTHY = frozenset({NewsKind.WORKER_SILENT, NewsKind.BROKER_DISCONNECTED, NewsKind.QUEUE_DOWN})


class Notifier:
    """Tells people, for the whole fleet or not at all: as the lease says.

    Args:
        settings: whom to tell, and of what.
        database: the record.
        me: this worker's name.
        stopping: set when the process is to end.
    """

    def __init__(self, settings: Settings, database: Database, me: str, stopping: threading.Event) -> None:
        self.settings, self.database, self.me, self.stopping = settings, database, me, stopping
        self._outage = Outage(settings, me)
        #: What is said of an outage, and the services that have not taken it yet.
        self._unrecorded: tuple[Message, list[str]] | None = None
        #: An outage that is over, until that is recorded.
        self._ended: IncidentRow | None = None
        self._beaten: Stopwatch | None = None
        self._said = ""
        #: Messages set aside, as many as the queue had counted at the last look.
        self._letters_seen = -1
        self._sender: Loop | None = None

    def loops(self, lead: Callable[[Callable[[], None]], Callable[[], None]]) -> list[Loop]:
        """Return the two threads, not started yet; none where nobody is to be told.

        Args:
            lead: makes a duty a leader's.
        """
        if not self.settings.notify.is_used:
            return []
        self._sender = Loop("post", _SEND_EVERY_S, lead(self.send))
        return [Loop("news", _LOOK_EVERY_S, lead(self.look)), self._sender]

    # -- LOOKING ---
    def look(self) -> None:
        """See what is to be told, if no other leader does; then the heartbeat."""
        queue, now = self._ask_queue(), utcnow()
        try:
            found = self.database.transact(lambda connection: self._look(connection, queue, now))
        except DatabaseUnavailable as error:
            if (message := self._outage.lasts(error, now)) is not None:
                self._unrecorded = (message, self.settings.notify.addresses)
                self._nudge()
            return
        self._ended = self._outage.over(now) or self._ended
        if self._ended is not None:
            self._record_outage(self._ended, now)
            self._ended = None
        if found is None:
            return
        self._letters_seen = -1 if isinstance(queue, str) else queue[0]
        if found[0]:
            self._nudge()
        if found[1]:
            self._beat()

    def _look(
        self, connection: Connection, queue: tuple[int, list[dict[str, object]]] | str, now: datetime
    ) -> tuple[int, bool] | None:
        """Look and write, in one transaction; None where another leader is the one to look.

        Returns:
            How many messages there are to send, and whether all is well.
        """
        if not take_lease(connection, "notify", self.me, now, _LEASE_S):
            return None
        brokers, timing = self.settings.all_brokers, self.settings.timing
        noted = notices.noted(connection, now, timing.alert_after)
        concerns = concerns_of(noted, set(brokers), now, timing.dead_after)
        if isinstance(queue, str):
            concerns.append(Concern(NewsKind.QUEUE_DOWN, "queue", now, queue))
        else:
            concerns += of_dead_letters(queue[1], notices.new_dead_letters(connection, queue[0]), now)
        before = notices.incident_rows(connection)
        plan = decide_news(concerns, before, notices.last_made(connection), self.settings.notify, now)
        messages = [_row(message, now) for message in plan.messages] if self.settings.notify.urls else []
        notices.put_incidents(connection, plan.changed, plan.gone)
        notices.put_messages(connection, messages)
        notices.forget_old(connection, now)
        return len(messages), self._is_healthy(concerns, before, now)

    def _record_outage(self, ended: IncidentRow, now: datetime) -> None:
        """Have it told that the outage is over, by whoever looks next; another leader may have seen to that already."""
        told = Message(ended["kind"], f"corro {ended['kind']}", "told while the database was away")
        row: NotificationRow = {**_row(told, ended["told_at"] or now), "done_at": now}

        def work(connection: Connection) -> None:
            last = notices.last_made(connection).get(ended["kind"])
            if last is not None and last >= ended["since"]:
                return
            notices.put_incidents(connection, [ended], [])
            if ended["told_at"] is not None:
                notices.put_told(connection, row, "sent")

        self._unrecorded = None  # whoever could not be told that it began is told both at once
        self.database.transact(work)

    def _is_healthy(self, concerns: Sequence[Concern], before: Sequence[IncidentRow], now: datetime) -> bool:
        since = {(row["kind"], row["subject"]): row["since"] for row in before}
        return not any(
            c.kind in _UNHEALTHY
            and now - since.get(c.key, c.since) >= timedelta(seconds=self.settings.notify.delay(c.kind))
            for c in concerns
        )

    def _ask_queue(self) -> tuple[int, list[dict[str, object]]] | str:
        """Return how many messages were ever set aside, and the newest; or why the queue serves nobody."""
        try:
            with asking(self.settings, _ANSWER_S) as client:
                if refused := refusal(client):
                    return f"the queue refuses writes: {refused}"
                letters = DeadLetters(client)
                total = sum(letters.counts().values())
                return total, letters.kept(_LETTERS) if total not in (0, self._letters_seen) else []
        except CorroError as error:
            return trouble(error)

    def _beat(self) -> None:
        url = self.settings.notify.heartbeat_url.get_secret_value()
        if not url or (self._beaten is not None and self._beaten.age() < _HEARTBEAT_S):
            return
        self._beaten = Stopwatch()
        said = sending.beat(url) or ""
        if said and said != self._said:
            log.warning("heartbeat_not_taken", error=said)
        self._said = said

    # -- SENDING ---
    def send(self) -> None:
        """Send what is due; what is said of an outage first."""
        if (unrecorded := self._unrecorded) is not None and not self.stopping.is_set():
            left = self._deliver(*unrecorded)
            self._unrecorded = (unrecorded[0], left) if left else None
            if len(left) < len(unrecorded[1]):
                self._outage.told(utcnow())
            if left:
                self.stopping.wait(_FIRST_S)
            return
        while not self.stopping.is_set():
            row = self.database.transact(lambda connection: notices.take_message(connection, utcnow(), _BUSY_S))
            if row is None:
                return
            self._send(row)

    def _send(self, row: NotificationRow) -> None:
        left = row["left"]
        urls = [url for url in self.settings.notify.addresses if left is None or sending.digest(url) in left]
        failed = list(map(sending.digest, self._deliver(Message(row["kind"], row["title"], row["body"]), urls)))
        now = utcnow()
        given_up = now - row["made_at"] > timedelta(seconds=_GIVEN_UP_S)
        result = "sent" if not failed else "given_up" if given_up else "failed"
        pause = None if result != "failed" else min(_FIRST_S * 2 ** min(row["tries"] - 1, 10), _LONGEST_S)
        if result == "given_up":
            log.error("notification_given_up", kind=row["kind"], services=len(failed), tries=row["tries"])
        self._note(row, failed, result, now, pause)

    def _note(self, row: NotificationRow, left: Sequence[str], result: str, now: datetime, pause: float | None) -> None:
        """Note what came of a try; what was sent is not to be sent again, so the database is waited for."""
        while True:
            try:
                return self.database.transact(
                    lambda connection: notices.put_back(connection, row, left, result=result, now=now, pause_s=pause)
                )
            except DatabaseUnavailable:
                if self.stopping.is_set() or (utcnow() - now).total_seconds() > _BUSY_S / 2:
                    raise
                time.sleep(_SEND_EVERY_S)

    def _deliver(self, message: Message, urls: Sequence[str]) -> list[str]:
        """Tell the services; returns the URLs of those that did not take it, or found no time."""
        urgency = sending.SUCCESS if " over:" in message.title else sending.WARNING
        watch, failed = Stopwatch(), []
        for url in urls:
            late = watch.age() > _SENDING_S or self.stopping.is_set()
            why = "no time was left" if late else sending.send(url, message.title, message.body, urgency)
            if why is not None:
                failed.append(url)
                log.warning("notification_not_sent", kind=message.kind, service=sending.shown(url), error=why)
        return failed

    def _nudge(self) -> None:
        if self._sender is not None:
            self._sender.nudge()


def _row(message: Message, now: datetime) -> NotificationRow:
    return {
        "kind": message.kind, "title": message.title, "body": message.body, "made_at": now, "try_at": now, "tries": 0,
        "left": None, "done_at": None,
    }  # fmt: skip
