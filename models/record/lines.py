"""Connections to PostgreSQL that stay open for statements that are transactions of their own: one round trip each.

A connection from the pool is asked whether it lives, begins, is written to and commits: four round trips. One of these
is simply used. Where it turns out to be dead, as after a restart of the server, the statement goes out once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Connection, Engine

from models.crash_points import reached
from models.record import told

T = TypeVar("T")

#: Connections that are kept while nobody needs them; the pool has the rest.
_KEPT = 4


class OpenLines:
    """Thread-safe: as many as are used at once.

    Args:
        engine: of PostgreSQL; its pool hands out a connection only after asking whether it lives.
        tell: called with the ids that some work has changed.
    """

    def __init__(self, engine: Engine, tell: Callable[[Collection[str]], None]) -> None:
        self._tell = tell
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._idle = deque[Connection]()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work over a connection on which every statement commits itself; over a dead one, once more."""
        line = self._pick_up()
        try:
            return self._over(line, work)
        except Exception:
            if not _is_dead(line):
                raise
        finally:
            self._put_down(line)
        self.close()  # the others may have met the same end
        line = self._engine.connect()
        try:
            return self._over(line, work)
        finally:
            self._put_down(line)

    def _over(self, line: Connection, work: Callable[[Connection], T]) -> T:
        with line.begin():  # nothing is sent for that: who counts transactions hears of it
            done = work(line)
            reached("after_statement")
            changed = told.taken(line)
        self._tell(changed)
        return done

    def _pick_up(self) -> Connection:
        with suppress(IndexError):
            return self._idle.pop()
        return self._engine.connect()

    def _put_down(self, line: Connection) -> None:
        if _is_dead(line) or len(self._idle) >= _KEPT:
            _hang_up(line)
        else:
            self._idle.append(line)

    def close(self) -> None:
        """Give back what is kept."""
        while self._idle:
            with suppress(IndexError):
                _hang_up(self._idle.pop())


def _is_dead(line: Connection) -> bool:
    if line.closed or line.invalidated:
        return True
    return bool(getattr(line.connection.driver_connection, "closed", True))


def _hang_up(line: Connection) -> None:
    if _is_dead(line) and not line.closed:
        line.invalidate()
    line.close()
