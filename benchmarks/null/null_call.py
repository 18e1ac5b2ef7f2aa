"""The call to the null broker, the same for corro and for every peer: note the order's id and the moment, and accept.

The moment is CLOCK_MONOTONIC, which all processes of a machine share. One short append to a file is atomic, so any
number of threads and processes may call at once. Standard library only: each peer's interpreter imports it.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import time
from pathlib import Path

_STAMP = struct.Struct("=36sq")
_COUNT = struct.Struct("=q")


class NullCall:
    """A broker that accepts at once.

    Args:
        path: the file of stamps.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def place(self, client_order_id: str) -> str:
        """Take an order; returns the broker's id of it."""
        os.write(self._file, _STAMP.pack(client_order_id.encode(), time.monotonic_ns()))
        return "N" + client_order_id


def stamps(path: str | Path) -> list[tuple[str, int]]:
    """Return (client_order_id, nanoseconds) of every call so far, in the order of the calls."""
    data = Path(path).read_bytes()
    whole = len(data) // _STAMP.size * _STAMP.size
    return [(name.decode().rstrip("\0"), at) for name, at in _STAMP.iter_unpack(data[:whole])]


def stamp_count(path: str | Path) -> int:
    """Return how many calls there were."""
    try:
        return os.path.getsize(path) // _STAMP.size
    except FileNotFoundError:
        return 0


class NullMarks(dict[str, object]):
    """Notes when each of corro's named points was reached; stands in for the points that a test has armed.

    Args:
        path: the file of stamps; the moments stand in a file beside it.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = os.open(f"{path}.marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __contains__(self, point: object) -> bool:
        self.note(str(point))
        return False

    def note(self, name: str) -> None:
        """Note this moment under a name."""
        os.write(self._file, _STAMP.pack(name.encode(), time.monotonic_ns()))


def moments(path: str | Path) -> dict[str, list[int]]:
    """Return the nanoseconds at which each point was reached, in their order."""
    found: dict[str, list[int]] = {}
    for name, at in sorted(stamps(f"{path}.marks"), key=lambda one: one[1]):
        found.setdefault(name, []).append(at)
    return found


class Commits:
    """Counts this process's commits where another process can read them.

    Args:
        path: the file of stamps; the count stands in a file beside it, one for each process.
    """

    def __init__(self, path: str) -> None:
        with Path(f"{path}.commits.{os.getpid()}").open("w+b") as file:
            file.write(_COUNT.pack(0))
            file.flush()
            self._memory = mmap.mmap(file.fileno(), _COUNT.size)
        self._numbers = itertools.count(1)

    def add(self, *_: object) -> None:
        """Count one."""
        _COUNT.pack_into(self._memory, 0, next(self._numbers))


def commit_count(path: str | Path) -> int:
    """Return the commits of all processes so far."""
    files = Path(path).parent.glob(f"{Path(path).name}.commits.*")
    return sum(_COUNT.unpack(file.read_bytes())[0] for file in files)
