"""The end of the journal in memory: one look at the database serves everybody who follows it.

A follower that has read up to the end waits; one that is behind, however far, reads the database by itself. So a slow
reader holds nobody up, and the database is asked as often with twenty readers as with one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from models.errors import DatabaseUnavailable
from models.record.database import Database
from models.record.stream import LOOK, EventRow, EventStream
from producers.ear import EVERYTHING, Ear

#: Events in memory.
_KEPT = 5_000
#: Seconds between looks where nothing was heard, or nobody is told more often; and where much is and somebody follows.
_EVERY_S, _OFTEN_S = 1.0, 0.1
#: Seconds after which a follower without an event is given a sign of life.
_SIGN_S = 15.0


class Tail:
    """Follows the journal while somebody reads.

    Args:
        database: the record.
        ear: hears when there is something new.
    """

    def __init__(self, database: Database, ear: Ear) -> None:
        self.database, self.ear = database, ear
        self._rows = deque[EventRow](maxlen=_KEPT)
        #: Everything after this id, up to `_end`, is in memory; None while nobody looks.
        self._begin: int | None = None
        self._end = 0
        #: Whoever is there, and those of them who want the events themselves, soon.
        self._readers = self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()

    async def follow(self, since: int | None, strategy: str | None = None) -> AsyncIterator[list[EventRow]]:
        """Yield events after an id, as many as are there, and none now and then as a sign of life.

        Args:
            since: the id; None begins with what is yet to come.
            strategy: only events of its orders.
        """
        own = EventStream(self.database, since or 0, strategy)
        if since is None:
            await asyncio.to_thread(own.latest, 0)
        self._readers += 1
        self._followers += 1
        try:
            while True:
                self._begin_to_look()
                grown = self._grown
                found = self._held(own.since, strategy)
                if found is None:
                    found = await asyncio.to_thread(own.look)
                else:
                    own.since = max(own.since, self._end)
                if found:
                    yield found
                elif own.since >= self._end:
                    try:
                        await asyncio.wait_for(grown.wait(), _SIGN_S)
                    except TimeoutError:
                        yield []
        finally:
            self._readers -= 1
            self._followers -= 1

    async def changes(self, least_s: float) -> AsyncIterator[int | None]:
        """Yield the newest event's id whenever there is a newer one, and None now and then as a sign of life.

        Args:
            least_s: seconds between two of them, whatever happens meanwhile.
        """
        told: int | None = None
        self._readers += 1
        try:
            while True:
                self._begin_to_look()
                grown, newest = self._grown, self._end
                if self._begin is not None and newest != told:
                    told = newest
                    yield newest
                    await asyncio.sleep(least_s)
                    continue
                try:
                    await asyncio.wait_for(grown.wait(), _SIGN_S)
                except TimeoutError:
                    yield None
        finally:
            self._readers -= 1

    def _held(self, since: int, strategy: str | None) -> list[EventRow] | None:
        """Return what is in memory after an id; None where that is not all."""
        if self._begin is None or since < self._begin:
            return None
        return [r for r in self._rows if r["id"] > since and strategy in (None, r["strategy"])]

    def _begin_to_look(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Look while there are readers; begins at the newest.

        What a look finds is seen by readers once it is in memory: the place where they are moves with the rows.
        """
        with self.ear.listening(EVERYTHING) as heard:
            stream: EventStream | None = None
            while self._readers:
                heard.clear()
                found: list[EventRow] = []
                with suppress(DatabaseUnavailable):
                    if stream is None:
                        stream = await asyncio.to_thread(self._newest)
                        self._rows.clear()
                        self._begin = self._end = stream.since
                        self._wake()
                    found = await asyncio.to_thread(stream.look)
                    self._keep(found, stream.since)
                if len(found) == LOOK:
                    continue  # there is more: whoever waits here falls behind
                await asyncio.sleep(_OFTEN_S if self._followers else _EVERY_S)
                await asyncio.to_thread(heard.wait, _EVERY_S)
        self._task = self._begin = None

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _newest(self) -> EventStream:
        stream = EventStream(self.database)
        stream.latest(0)
        return stream

    def _keep(self, found: list[EventRow], end: int) -> None:
        dropped = max(0, len(self._rows) + len(found) - _KEPT)
        if dropped:
            everything = [*self._rows, *found]
            self._begin = everything[dropped - 1]["id"]
        self._rows.extend(found)
        self._end = end
        if found:
            self._wake()
