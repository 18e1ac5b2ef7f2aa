"""What many pages ask at once is read once; whoever comes to look is shown what is now."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from models.errors import DatabaseUnavailable
from models.messages import OrderRequest
from models.settings import load_settings
from tests.kit import eventually
from tests.unit.page_site import Site
from worker.page import shared
from worker.page.shared import Cached, Shared


def test_pages_that_are_open_share_a_reading_and_who_comes_to_look_has_one_of_his_own() -> None:
    readings, read = Shared(), iter(range(100)).__next__
    assert [readings.get("/", read, anew=anew) for anew in (False, False, True, False)] == [0, 0, 1, 1]
    assert readings.get("/?symbol=KO", read, anew=False) == 2
    readings.forget()
    assert readings.get("/", read, anew=False) == 3


def test_a_reading_that_is_made_of_another_is_no_older_than_that_one() -> None:
    readings, read, parts = Shared(), iter(range(100)).__next__, [object(), object()]
    asked = [readings.get("/fleet", read, anew=False, made_of=parts[part]) for part in (0, 0, 1, 1)]
    assert asked == [0, 0, 1, 1]


def test_what_takes_long_to_read_is_read_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "FRESH_S", 0.0)
    readings, counted = Shared(), iter(range(100)).__next__

    def slow() -> int:
        time.sleep(0.1)
        return counted()

    assert readings.get("/pnl", slow, anew=False) == 0
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        assert readings.get("/pnl", slow, anew=False) == 0
    assert readings.get("/", counted, anew=False) == 1
    eventually(lambda: readings.get("/", counted, anew=False) > 1)


def test_a_sick_database_is_waited_for_once_not_in_turn() -> None:
    cached, asked, tries = Cached[int](1.0), threading.Barrier(5), []

    def read() -> int:
        tries.append(1)
        time.sleep(0.5)
        raise DatabaseUnavailable("away")

    def ask() -> None:
        asked.wait(10)
        with pytest.raises(DatabaseUnavailable, match="away"):
            cached.get(read)

    with ThreadPoolExecutor(5) as threads:
        for done in [threads.submit(ask) for _ in range(5)]:
            done.result(20)
    assert len(tries) == 1
    assert cached.get(lambda: 7) == 7, "the next one tries anew"


def test_an_open_page_says_as_of_when_it_is_and_a_reload_shows_what_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "FRESH_S", 60.0)
    site = Site(load_settings(home=tmp_path))
    try:
        again = {"Corro-Again": "1", "Accept": "text/html"}
        before = site.ask("/", **again)[1].decode()
        site.client.submit(OrderRequest(client_order_id="o-new", symbol="KO", side="buy", quantity=1))
        assert "o-new" not in (old := site.ask("/", **again)[1].decode())
        assert _as_of(old) == _as_of(before)
        assert "o-new" in (new := site.page("/"))
        assert _as_of(new) > _as_of(old)
        assert "o-new" in site.ask("/", **again)[1].decode(), "what has been shown does not go away again"
    finally:
        site.close()


def _as_of(page: str) -> str:
    return page.partition('<time datetime="')[2].partition('"')[0]
