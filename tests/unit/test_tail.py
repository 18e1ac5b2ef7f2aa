"""The end of the journal that all followers of a page share: none of them misses an event."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from sqlalchemy import insert

from models.clock import utcnow
from models.messages import OrderRequest
from models.record.stream import LOOK, EventRow, EventStream
from models.record.tables import order_events
from models.settings import load_settings
from producers import OrderClient
from worker.page import tail as tails
from worker.page.tail import Tail


def test_who_comes_while_a_look_is_under_way_misses_nothing_of_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared look has read the newest events, and they are not in memory yet."""
    looked, go_on = threading.Event(), threading.Event()

    class LateStream(EventStream):
        def look(self) -> list[EventRow]:
            found = super().look()
            if found and looked.is_set() is False and self.since > 2:
                looked.set()
                assert go_on.wait(10)
            return found

    monkeypatch.setattr(tails, "EventStream", LateStream)

    async def follow(client: OrderClient) -> list[int]:
        tail = Tail(client.database, client.ear)
        early = tail.follow(0)
        assert [event["id"] for event in await anext(early)] == [1, 2]
        waiting = asyncio.create_task(anext(early))
        while tail._begin is None:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(client.submit, OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="o-3"))
        assert await asyncio.to_thread(looked.wait, 10)
        late = tail.follow(2)
        newest = asyncio.create_task(anext(late))
        while tail._readers < 2:  # from there it sees what is in memory, and waits, without a pause in between
            await asyncio.sleep(0)
        go_on.set()
        found = [await asyncio.wait_for(one, 5) for one in (waiting, newest)]
        await early.aclose()
        await late.aclose()
        return [event["id"] for events in found for event in events]

    with OrderClient(load_settings(home=bare)) as client:
        for name in ("o-1", "o-2"):
            client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id=name))
        assert asyncio.run(follow(client)) == [3, 3]


def test_who_follows_is_not_a_look_behind_for_each_thousand_events(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is heard, and what one look finds is as much as a look can find: there is more, and nobody waits."""
    monkeypatch.setattr(tails, "_EVERY_S", 30.0)
    count = 2 * LOOK + 500

    class LaggingStream(EventStream):
        def latest(self, most: int) -> None:
            super().latest(most)
            if most == 0 and threading.current_thread() is not threading.main_thread():
                with self.database.write() as connection:
                    row = {"client_order_id": "o-1", "at": utcnow(), "kind": "noted"}
                    connection.execute(insert(order_events), [row] * count)

    async def follow(client: OrderClient) -> list[int]:
        found: list[int] = []
        reader = Tail(client.database, client.ear).follow(1)
        monkeypatch.setattr(tails, "EventStream", LaggingStream)
        while len(found) < count:
            found += [event["id"] for event in await asyncio.wait_for(anext(reader), 10)]
        await reader.aclose()
        return found

    with OrderClient(load_settings(home=bare)) as client:
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="o-1"))
        found = asyncio.run(follow(client))
    assert found == sorted(set(found))
