"""How everything stands, read at most every two seconds for all pages together, and what of it has to be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from models.clock import utcnow
from models.errors import DatabaseUnavailable
from models.record.database import Database
from models.record.evidence import unresolved
from models.record.gauges import Gauges, gauges
from models.record.holds import APPROVAL
from models.record.reading import count_held, lease_holders, leave_no_trace
from models.settings import Settings
from worker.fleet.picture import Picture, dead_here, picture
from worker.messaging.queue_look import QueueLook, QueueLooker
from worker.page.shared import FRESH_S, Cached

#: Seconds for which what takes longer to find serves all pages.
_SLOW_S = 60.0
#: A change that fits no execution is shown for so long, unless a person has noted it: as `corro unresolved`.
_UNEXPLAINED_FOR = timedelta(days=4)
#: An order that waits for longer is worth a line, and so are events that are held back for longer; seconds.
_WAITS_S, _HELD_S = 15.0, 1.0


class Alarm(NamedTuple):
    """One line that has to be seen: how bad it is (bad, warn), its words, and the page that has more."""

    tone: str
    words: str
    link: str


@dataclass(frozen=True)
class Overview:
    """The fleet and its record at one moment.

    Args:
        at: the moment.
        seen: workers, leaders, troubles.
        now: counts and ages.
        queue: whether it answers, and what it has set aside.
        unknown: what may be live at a broker without our knowing, as `corro unresolved` lists it.
        unwritable: why the record takes no write; empty where it does, or where nobody had a reason to ask.
        for_approval: orders that wait for somebody to approve them.
    """

    at: datetime
    seen: Picture
    now: Gauges
    queue: QueueLook
    unknown: Sequence[Mapping[str, object]]
    unwritable: str = ""
    for_approval: int = 0

    @property
    def waits_for_a_person(self) -> int:
        """How many things nobody but a person can settle."""
        locks, letters = sum(self.now.locks.values()), sum(self.queue.waiting.values())
        return len(self.unknown) + locks + letters + self.for_approval

    @property
    def alarms(self) -> list[Alarm]:
        """What has to be seen, the worst first."""
        found = [Alarm("bad", f"the record takes no write: {self.unwritable}", "/fleet")] if self.unwritable else []
        found += [Alarm("bad", trouble, "/fleet") for trouble in self.seen.troubles]
        found += [Alarm("warn", remark, "/fleet#controls") for remark in self.seen.remarks]
        if not self.queue.up:
            found.append(Alarm("warn", self.queue.words, "/fleet#queue"))
        for broker, at in sorted(self.now.oldest_queued.items()):
            if (age := (self.at - at).total_seconds()) > _WAITS_S:
                words = f"{broker}: an order has been queued for {age:.0f} s"
                found.append(Alarm("warn", words, f"/?status=queued&broker={broker}"))
        if self.now.held.seconds > _HELD_S:
            words = f"events are held back for {self.now.held.seconds:.0f} s by {self.now.held.words}"
            found.append(Alarm("warn", words, "/fleet"))
        counted = (
            ("bad", len(self.unknown), "outcome nobody knows", "outcomes nobody knows", "#unresolved"),
            ("bad", sum(self.now.locks.values()), "symbol locked", "symbols locked", "#locks"),
            ("warn", self.for_approval, "order waits for approval", "orders wait for approval", "#held"),
            ("warn", sum(self.queue.waiting.values()), "message set aside", "messages set aside", "#dead-letters"),
        )
        found += [
            Alarm(tone, f"{count} {one if count == 1 else several}", f"/attention{place}")
            for tone, count, one, several, place in counted
            if count
        ]
        return sorted(found, key=lambda alarm: alarm.tone != "bad")


class Overlook:
    """Reads overviews for pages.

    Args:
        settings: which brokers there are, and what is late.
        database: the record.
        queue: looks at the queue.
    """

    def __init__(self, settings: Settings, database: Database, queue: QueueLooker) -> None:
        self.settings, self.database, self.queue = settings, database, queue
        self._now = Cached[Overview](FRESH_S)
        self._whole = Cached[list[dict[str, object]]](_SLOW_S)

    def now(self, *, anew: bool = False) -> Overview:
        """Return how everything stands, as of a moment ago.

        Args:
            anew: as for `Cached.get`.

        Raises:
            DatabaseUnavailable: nobody can say.
        """
        return self._now.get(self._read, anew=anew)

    def unresolved(self, overview: Overview) -> list[Mapping[str, object]]:
        """Return what a person has to look at with the evidence, also executions that were changed unexplained.

        The latter are found among all events of four days, so they are looked for once a minute.
        """
        now = overview.unknown
        known = {(row["client_order_id"], row["attempt_no"]) for row in now}
        more = [
            row
            for row in self._whole.get(self._unresolved_and_unexplained)
            if (row["client_order_id"], row["attempt_no"]) not in known
        ]
        return [*now, *(row for row in more if row["unexplained"])]

    def forget(self) -> None:
        """Have everything read anew: something was changed."""
        self._now.forget()
        self._whole.forget()

    def _read(self) -> Overview:
        timing, at = self.settings.timing, utcnow()
        with self.database.read() as connection:
            now, approvals = gauges(connection, at, timing.alert_after), count_held(connection, APPROVAL)
            leaders = set(lease_holders(connection, at).values())
        dead_after = timedelta(seconds=timing.dead_after)
        brokers = list(self.settings.all_brokers)
        seen = picture(now.workers, leaders, now.controls, brokers, at, dead_after, dead_here(now.workers))
        unknown = unresolved(
            self.database, timing.deadline, cancel_alert_s=timing.cancel_alert_after, dead_after_s=timing.dead_after
        )
        unwritable = self._why_unwritable() if seen.troubles else ""
        return Overview(at, seen, now, self.queue.look(), unknown, unwritable, approvals)

    def _why_unwritable(self) -> str:
        """Try to write: a full disk, or a database that only reads, silences workers and can still be read."""
        try:
            with self.database.write() as connection:
                leave_no_trace(connection, utcnow())
        except DatabaseUnavailable as error:
            return str(error)
        except Exception:  # a role that may only read is no fault
            return ""
        return ""

    def _unresolved_and_unexplained(self) -> list[dict[str, object]]:
        timing = self.settings.timing
        return unresolved(
            self.database, timing.deadline, cancel_alert_s=timing.cancel_alert_after,
            dead_after_s=timing.dead_after, unexplained_since=utcnow() - _UNEXPLAINED_FOR,
        )  # fmt: skip
