"""Which process a worker is: told from every other one on its host, before it and after it."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from models.record.rows import WorkerRow


def boot_id() -> str:
    """Return what tells this host's boot and process namespace from any other; pids are comparable within it."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:18])
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "/".join(parts) or socket.gethostname()


def process_started(pid: int) -> str | None:
    """Return a mark of when a process of this host started, or None where there is no such process."""
    try:
        # The command name may hold blanks and brackets; what follows the last ")" does not. Field 22 is starttime.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def process_state(pid: int) -> str | None:
    """Return the kernel's letter for a process (R, S, T, Z ...), or None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


class Processes:
    """The processes of this host; a simulation has others."""

    def started(self, pid: int) -> str | None:
        """Return `process_started`."""
        return process_started(pid)

    def state(self, pid: int) -> str | None:
        """Return `process_state`."""
        return process_state(pid)


@dataclass
class Identity:
    """This worker process."""

    broker: str
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    boot: str = field(default_factory=boot_id)
    #: Tell whether other workers of this host are there.
    processes: Processes = field(default_factory=Processes, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.name = f"{self.broker}@{self.host}:{self.pid}.{uuid.uuid4().hex[:6]}"


def is_on_this_host(worker: WorkerRow, here: Identity) -> bool:
    """Tell whether a worker's process, if it lives, is among those that can be seen from here."""
    return bool(worker["boot"].rpartition("/")[0] == here.boot and worker["host"] == here.host)


def process_is_over(worker: WorkerRow, here: Identity) -> bool:
    """Tell whether a worker of this host is dead: no process has its pid, another one has it, or it is a zombie."""
    started = worker["boot"].rpartition("/")[2]
    return here.processes.started(worker["pid"]) != started or here.processes.state(worker["pid"]) == "Z"
