"""`corro events`: the journal by rising ids, as a list and as it grows; and an order's own part of it in Python."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from models.errors import DatabaseUnavailable, InvalidRequest
from models.messages import OrderRequest
from models.record.stream import LOOK, EventStream
from models.settings import load_settings
from producers import OrderClient
from tests.unit.words import Run

_KEYS = {"id", "client_order_id", "at", "kind", "from_status", "to_status", "detail", "strategy"}


@pytest.fixture
def client(corro: Run, bare: Path) -> OrderClient:
    """Two orders, one of them canceled before it was sent."""
    opened = OrderClient(load_settings(home=bare))
    opened.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="o-1", strategy="dip"))
    opened.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="o-2"))
    opened.cancel("o-1")
    return opened


def test_the_list_has_every_event_by_its_id_with_the_strategy_it_belongs_to(client: OrderClient, corro: Run) -> None:
    status, out, _ = corro("events", "--json")
    found = json.loads(out)
    assert (status, [event["id"] for event in found]) == (0, [1, 2, 3, 4])
    assert all(set(event) == _KEYS for event in found)
    assert [(event["client_order_id"], event["kind"], event["strategy"]) for event in found] == [
        ("o-1", "queued", "dip"), ("o-2", "queued", None), ("o-1", "cancel_requested", "dip"),
        ("o-1", "canceled", "dip"),
    ]  # fmt: skip
    client.close()


def test_since_goes_on_behind_an_id_and_a_strategy_has_its_own(client: OrderClient, corro: Run) -> None:
    def ids(*options: str) -> list[int]:
        return [event["id"] for event in json.loads(corro("events", "--json", *options)[1])]

    assert ids("--since", "2") == [3, 4]
    assert ids("--since", "4") == []
    assert ids("--strategy", "dip") == [1, 3, 4]
    assert ids("--strategy", "dip", "--since", "1", "--limit", "1") == [3]
    assert ids("--limit", "2") == [3, 4]
    assert ids("--strategy", "dip", "--limit", "2") == [3, 4]
    client.close()


def test_until_leaves_out_what_happened_then_or_later(client: OrderClient, corro: Run) -> None:
    with client.database.write() as connection:
        connection.exec_driver_sql("UPDATE order_events SET at = '2026-01-05 14:30:0' || id || '.000000'")

    def ids(*options: str) -> list[int]:
        return [event["id"] for event in json.loads(corro("events", "--json", *options)[1])]

    assert ids("--until", "2026-01-05T14:30:03Z") == [1, 2]
    assert ids("--until", "2026-01-05T14:30:03Z", "--since", "1") == [2]
    assert ids("--until", "2026-01-05T14:30:04Z", "--limit", "2") == [2, 3], "the newest, as without --until"
    assert ids("--until", "2026-01-05T14:30:04Z", "--limit", "2", "--since", "0") == [1, 2]
    assert ids("--until", "2026-01-05") == []
    assert corro("events", "--follow", "--until", "2099-01-01")[0] == 2
    client.close()


def test_a_list_that_goes_on_is_one_object_a_line(client: OrderClient, corro: Run) -> None:
    later = threading.Timer(0.3, lambda: client.cancel("o-2"))
    later.start()
    status, out, _ = corro("events", "--follow", "--json", "--since", "3", "--limit", "3")
    later.join()
    assert status == 0
    assert [(e["id"], e["kind"]) for e in map(json.loads, out.splitlines())] == [
        (4, "canceled"), (5, "cancel_requested"), (6, "canceled"),
    ]  # fmt: skip
    client.close()


def test_piped_it_is_tab_separated_below_one_header(client: OrderClient, corro: Run) -> None:
    _, out, _ = corro("events", "--follow", "--limit", "2")
    head, *lines = out.splitlines()
    assert head.split("\t")[:3] == ["id", "at", "client_order_id"]
    assert [line.split("\t")[0] for line in lines] == ["1", "2"]
    client.close()


def test_an_order_knows_its_events_and_fills_as_they_were_when_it_was_read(client: OrderClient) -> None:
    order = client.order("o-1")
    assert [event["kind"] for event in order.events] == ["queued", "cancel_requested", "canceled"]
    assert order.fills == []
    other = client.order("o-2")
    assert [event["kind"] for event in other.events] == ["queued"]
    client.cancel("o-2")
    assert [event["kind"] for event in other.events] == ["queued"]
    assert [event["kind"] for event in other.refresh().events] == ["queued", "cancel_requested", "canceled"]
    client.close()


def test_more_events_than_one_look_reads_all_come(client: OrderClient) -> None:
    many = [OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id=f"m-{n}") for n in range(LOOK + 5)]
    client.submit_many(many)
    seen = [event["id"] for event in client.events(timeout=0)]
    assert seen == list(range(1, LOOK + 10))
    client.close()


def test_the_iteration_ends_when_nothing_has_come_for_a_while(client: OrderClient) -> None:
    assert [event["id"] for event in client.events(since=3, timeout=0.05)] == [4]
    assert list(client.events(since=4, timeout=0.05)) == []
    client.close()


@pytest.mark.parametrize("place", [5, -1, True, 1.0, "1", 2**63])
def test_a_place_that_no_event_has_had_is_refused(client: OrderClient, corro: Run, place: object) -> None:
    with pytest.raises(InvalidRequest, match="since"):
        client.events(since=place)  # type: ignore[arg-type]
    if place == 5:
        for more in ((), ("--follow",)):
            status, out, err = corro("events", "--since", "5", *more)
            assert (status, out) == (2, "")
            assert "the newest is 4" in err
    client.close()


def test_a_database_that_is_away_leaves_the_reader_where_it_was(client: OrderClient, bare: Path) -> None:
    stream = EventStream(client.database)
    client.database.engine.dispose()
    (bare / "corro.db").rename(bare / "away.db")
    (bare / "corro.db").mkdir()
    with pytest.raises(DatabaseUnavailable):
        stream.look()
    (bare / "corro.db").rmdir()
    (bare / "away.db").rename(bare / "corro.db")
    assert [event["id"] for event in stream.look()] == [1, 2, 3, 4]
    client.close()
