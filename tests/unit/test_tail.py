"""The end of the journal that all followers of a page share: none of them misses an event."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from models.messages import OrderRequest
from models.record.stream import EventRow, EventStream
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
        assert [(await anext(early) or {})["id"] for _ in range(2)] == [1, 2]
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
        return [event["id"] for event in found if event]

    with OrderClient(load_settings(home=bare)) as client:
        for name in ("o-1", "o-2"):
            client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id=name))
        assert asyncio.run(follow(client)) == [3, 3]
