"""What goes wrong outside of the doors: processes killed and suspended. The rest is in :mod:`tests.soak.outages`."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit import World
from worker.local.processes import Process

POINTS = ("after_claim", "before_send", "after_send", "before_commit", "after_commit", "after_look",
          "between_legs")  # fmt: skip
#: One more, of PostgreSQL alone: what commits itself is committed, and nobody has seen it.
SELF_COMMITTED = "after_statement"
PAUSES = ("after_claim", "before_send")


@dataclass
class Struck:
    """One fault that happened: when, what, and whom (`ids`; or whatever was under way at `broker`, None: anywhere)."""

    at: float
    label: str
    broker: str | None = None
    ids: tuple[str, ...] | None = None


@dataclass
class Slot:
    """A place for one worker process, filled anew when it dies."""

    label: str
    broker: str
    process: Process | None = None
    #: Point at which it is to die, or to be suspended.
    dies: str | None = None
    stops: str | None = None
    shot: bool = False
    stopped_until: float | None = None
    again_at: float = 0.0


@dataclass
class Crew:
    """The workers of a world: kept alive, killed and suspended."""

    world: World
    dice: random.Random
    lease: float
    slots: list[Slot]
    struck: list[Struck] = field(default_factory=list)
    #: Ends that nobody asked for.
    died: list[str] = field(default_factory=list)

    def start(self, slot: Slot, *, armed: bool) -> None:
        """Start a worker; armed ones carry the hour of their death with them."""
        slot.dies = slot.stops = None
        slot.shot, slot.stopped_until = False, None
        more: dict[str, str] = {}
        fate = self.dice.random() if armed else 1.0
        if fate < 0.55:
            points = POINTS if self.world.database.is_sqlite else (*POINTS, SELF_COMMITTED)
            slot.dies = self.dice.choice(points)
            more["CORRO_CRASH"] = f"{slot.dies}:{self.dice.randint(1, 25)}"
        elif fate < 0.75:
            slot.stops = self.dice.choice(PAUSES)
            more["CORRO_PAUSE"] = f"{slot.stops}:{self.dice.randint(1, 25)}"
        slot.process = self.world.fleet.start(slot.broker, label=slot.label, ready=False, **more)

    def watch(self, *, armed: bool) -> None:
        """See who died or was suspended, wake up whose time is over, and start the dead again."""
        now = time.time()
        for slot in self.slots:
            if slot.process is None:
                if now >= slot.again_at:
                    self.start(slot, armed=armed)
                continue
            status = slot.process.popen.poll()
            if status is not None:
                self._is_dead(slot, status, now)
            elif slot.stopped_until is None:
                self._may_be_stopped(slot, now)
            elif now >= slot.stopped_until:
                slot.process.popen.send_signal(signal.SIGCONT)
                slot.stopped_until, slot.stops = None, None

    def _is_dead(self, slot: Slot, status: int, now: float) -> None:
        if status == -signal.SIGKILL:
            point = "at random" if slot.shot or slot.dies is None else slot.dies
            self.struck.append(Struck(now, f"worker kill -9 {point}", slot.broker))
        else:
            self.died.append(f"worker {slot.label} ended with {status}, see {slot.process and slot.process.log.name}")
        slot.process, slot.again_at = None, now + self.dice.choice((0.0, 0.0, 0.5, 4.0))

    def _may_be_stopped(self, slot: Slot, now: float) -> None:
        assert slot.process is not None
        if state_of(slot.process.popen.pid) == "T":
            self.struck.append(Struck(now, f"worker SIGSTOP {slot.stops or 'at random'}", slot.broker))
            slot.stopped_until = now + self.lease + self.dice.uniform(0.5, 2.0)

    def shoot(self) -> None:
        """Kill a worker at a random moment."""
        alive = [slot for slot in self.slots if slot.process is not None and slot.process.popen.poll() is None]
        if alive:
            slot = self.dice.choice(alive)
            assert slot.process is not None
            slot.shot = True
            slot.process.popen.send_signal(signal.SIGKILL)

    def suspend(self) -> None:
        """Suspend a worker at a random moment, for longer than its lease."""
        alive = [s for s in self.slots if s.process is not None and s.process.popen.poll() is None]
        if alive:
            slot = self.dice.choice(alive)
            assert slot.process is not None
            slot.stops = None
            slot.process.popen.send_signal(signal.SIGSTOP)

    def calm(self) -> None:
        """Have every worker alive, awake and unarmed."""
        for slot in self.slots:
            if slot.process is None:
                self.start(slot, armed=False)
            elif slot.process.popen.poll() is None:
                slot.process.popen.send_signal(signal.SIGCONT)


def state_of(pid: int) -> str | None:
    """Return the state of a process in the words of proc: T is suspended, Z is dead; None once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


def is_database(error: Any) -> bool:
    """Tell the trouble that we made from a mistake."""
    from models.errors import DatabaseUnavailable

    return isinstance(error, DatabaseUnavailable)
