"""`corro web`: lists as the commands print them, events as they happen, health and metrics; for this machine alone."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update

from models.clock import utcnow
from models.lookups import InstrumentReport
from models.messages import OrderRequest
from models.record.instruments import keep_instruments
from models.record.tables import order_events, orders, position_snapshots, workers
from models.settings import load_settings
from models.vocabulary import AssetClass
from tests.kit import eventually
from tests.unit.page_site import Site
from tests.unit.trades import MadeTrade, TradeLedger
from tests.unit.words import Run
from worker.page.metrics import METRICS


@pytest.fixture
def site(corro: Run, bare: Path) -> Iterator[Site]:
    made = Site(load_settings(home=bare))
    for number in (1, 2, 3):
        terms: dict[str, Any] = {"client_order_id": f"o-{number}", "strategy": "dip" if number == 1 else None}
        made.client.submit(OrderRequest(symbol="KO", side="buy", quantity=number, **terms))
    made.client.cancel("o-1")
    yield made
    made.close()


def test_lists_are_what_the_commands_print(site: Site, corro: Run) -> None:
    for command in ("orders", "fills", "attempts"):
        assert site.json(f"/api/v1/{command}") == json.loads(corro(command, "--json")[1]), command
    assert site.json("/api/v1/orders/o-1") == json.loads(corro("order", "o-1", "--json")[1])
    assert [row["broker"] for row in site.json("/api/v1/fleet")] == ["ibkr", "alpaca", "tda"]
    told = {row["broker"]: (row["symbol"], row["error"]) for row in site.json("/api/v1/positions")}
    unseen = {broker: f"not known: never read; no worker of {broker} has been seen" for broker in told}
    assert told == {broker: (None, unseen[broker]) for broker in ("ibkr", "alpaca", "tda")}


def test_head_is_answered_as_get_is_without_the_body(site: Site) -> None:
    pages = ("/", "/fleet", "/orders/o-1", "/static/page.js")
    for path in ("/healthz", "/metrics", *pages, "/api/v1/orders", "/api/v1/orders/o-9"):
        (got, _), (head, body) = site.ask(path), site.ask(path, "HEAD")
        assert (head.status, head.headers["content-type"]) == (got.status, got.headers["content-type"]), path
        assert body == b"", path
        assert int(head.headers["content-length"]) > 0, path
    streams = {path: site.ask(path, "HEAD", Accept="text/event-stream") for path in ("/changes", "/api/v1/events")}
    assert [(answer.status, body) for answer, body in streams.values()] == [(200, b""), (200, b"")]
    refused, _ = site.ask("/api/v1/actions/halt", "HEAD")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    for path, allowed in {"/": "GET, HEAD", "/fleet": "GET, HEAD", "/login": "GET, HEAD, POST"}.items():
        asked = [site.ask(path, method)[0] for method in ("OPTIONS", "PUT")]
        assert [(answer.status, answer.headers["allow"]) for answer in asked] == [(405, allowed)] * 2, path
    eventually(lambda: not site.client.ear._waiting)  # no stream goes on to look


def test_an_empty_list_of_positions_says_as_of_when_each_broker_holds_nothing(site: Site) -> None:
    read = utcnow()
    with site.client.database.write() as connection:
        worker = {
            "worker": "alpaca@host:1",
            "broker": "alpaca",
            "host": "host",
            "boot": "b",
            "pid": 1,
            "state": "ready",
        }
        times = dict.fromkeys(("started_at", "heartbeat_at", "state_since", "positions_at"), read)
        connection.execute(insert(workers).values(**worker, **times))
    answer, body = site.ask("/api/v1/positions")
    assert [row["broker"] for row in json.loads(body)] == ["ibkr", "tda"], "not known; alpaca holds nothing"
    at = read.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert answer.headers["corro-positions-read"] == f'ibkr=never, alpaca="{at}", tda=never'
    assert "Read: alpaca 0." in site.page("/pnl")
    positions = site.json("/api/openapi.json")["paths"]["/api/v1/positions"]["get"]["responses"]["200"]
    assert list(positions["headers"]) == ["Corro-Positions-Read"]


def test_the_page_of_profit_says_where_its_lists_are_not_whole(site: Site) -> None:
    """Thousands of positions are megabytes, and seconds of one core, each time that somebody's page is as it is now."""
    TradeLedger(site.client.database).trade(*(MadeTrade(5, "10", symbol=f"S{number:03}") for number in range(203)))
    page = site.page("/pnl")
    assert page.count(">S1") == page.count(">S0") == 2 * 100, "a row each, in both tables"
    for what, command in (("sums", "corro pnl"), ("positions", "corro positions --at now")):
        assert f"These are the first 200 of 203 {what}; <code>{command}</code> has all of them." in page
    assert "These are the first" not in site.page("/pnl?limit=203")


def test_profit_is_what_the_command_prints(site: Site, corro: Run) -> None:
    trades = (MadeTrade(5, "10"), MadeTrade(-5, "12", fee="1"), MadeTrade(1, "3", symbol="KO", broker="ibkr"))
    TradeLedger(site.client.database).trade(*trades)
    asked = {"": (), "by=day,broker&symbol=aapl": ("--by", "day,broker", "--symbol", "AAPL"),
             "broker=ibkr&method=average": ("--broker", "ibkr", "--method", "average")}  # fmt: skip
    for query, options in asked.items():
        rows = site.json(f"/api/v1/pnl?{query}" if query else "/api/v1/pnl")
        assert rows == json.loads(corro("pnl", "--json", *options)[1]), query
        assert rows, query
    (row,) = site.json("/api/v1/pnl?strategy=dip&symbol=AAPL")
    assert (row["realized"], row["fees"], row["fees_missing"], row["currency"]) == ("10", "1", 0, "USD")
    assert len(site.json("/api/v1/pnl?limit=1")) == 1
    assert site.json("/api/v1/pnl?since=2099-01-01") == []
    strange = {"by=fun": 400, "method=fun": 400, "limit=1001": 422}
    assert {query: site.ask(f"/api/v1/pnl?{query}")[0].status for query in strange} == strange
    assert "/api/v1/pnl" in site.json("/api/openapi.json")["paths"]


def test_lists_are_filtered_by_account_as_the_commands_are(site: Site, corro: Run) -> None:
    with site.client.database.write() as connection:
        connection.exec_driver_sql("UPDATE orders SET account = 'ira' WHERE client_order_id = 'o-2'")
    for query, options in {"account=ira": ("--account", "ira"), "account=ibkr:ira": ("--account", "ibkr:ira")}.items():
        rows = site.json(f"/api/v1/orders?{query}")
        assert [row["client_order_id"] for row in rows] == ["o-2"], query
        assert rows == json.loads(corro("orders", "--json", *options)[1])
    assert site.json("/api/v1/orders?account=alpaca:ira") == []
    assert site.ask("/api/v1/orders?account=ibkr:ira&broker=tda")[0].status == 400


def test_a_position_says_its_broker_and_its_account_apart(site: Site) -> None:
    row = {"symbol": "KO", "quantity": Decimal(5), "currency": "USD", "taken_at": datetime.now(UTC)}
    with site.client.database.write() as connection:
        for place in ("ibkr:ira", "tda"):
            connection.execute(insert(position_snapshots).values(broker=place, **row))
    found = [one for one in site.json("/api/v1/positions") if one["symbol"]]
    assert {(one["broker"], one["account"], one["quantity"]) for one in found} == {
        ("ibkr", "ira", "5"),
        ("tda", None, "5"),
    }


def test_instruments_are_those_that_brokers_have_told_of(site: Site, corro: Run) -> None:
    ko = InstrumentReport(symbol="KO", asset_class=AssetClass.US_EQUITY, underlying="KO", currency="USD")
    with site.client.database.write() as connection:
        keep_instruments(connection, "ibkr", [ko], datetime.now(UTC))
    (row,) = site.json("/api/v1/instruments?query=ko&asset_class=us_equity")
    assert [row] == json.loads(corro("instruments", "KO", "--kept", "--json")[1])
    assert site.json("/api/v1/instruments?query=KO&broker=tda") == []
    assert site.ask("/api/v1/instruments?expiry=soon")[0].status == 400
    assert site.ask("/api/v1/instruments?query=KO&ask=true")[0].status == 401


def test_lists_are_filtered_and_bounded(site: Site) -> None:
    def ids(query: str) -> list[str]:
        return [row["client_order_id"] for row in site.json(f"/api/v1/orders?{query}")]

    assert ids("status=queued,canceled&symbol=ko") == ["o-3", "o-2", "o-1"]
    assert ids("strategy=dip") == ids("status=canceled") == ["o-1"]
    assert ids("limit=1") == ["o-3"]
    assert ids("status=open") == ["o-3", "o-2"]
    assert ids("broker=tda") == []
    assert ids("since=2099-01-01") == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/orders/no-such", 404, "not_found"),
        ("/api/v1/orders?since=yesterdayish", 400, "invalid_request"),
        *(
            (f"/api/v1/{query}", 400, "invalid_request")
            for query in (
                "orders?status=bogus",
                "orders?status=filled,bogus",
                "orders?broker=bogus",
                "orders?status=",
                "orders?broker=,",
                "attempts?outcome=bogus",
                "fills?broker=bogus",
                "instruments?broker=bogus",
                "events?since=999999999",
                "events?strategy=",
            )
        ),
        *((path, 400, "invalid_request") for path in ("/?broker=bogus", "/orders.csv?broker=bogus")),
    ],
)
def test_errors_are_problem_documents_with_a_code(site: Site, path: str, status: int, code: str) -> None:
    answer, body = site.ask(path)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (json.loads(body)["code"], json.loads(body)["status"]) == (code, status)
    assert site.ask("/api/v1/orders?limit=1001")[0].status == 422


def test_events_are_a_list_by_rising_ids(site: Site) -> None:
    assert [event["id"] for event in site.json("/api/v1/events")] == [1, 2, 3, 4, 5]
    assert [event["id"] for event in site.json("/api/v1/events?limit=2")] == [4, 5]
    assert [event["id"] for event in site.json("/api/v1/events?since=3&strategy=dip")] == [4, 5]


def read_events(site: Site, count: int, query: str = "", then: Any = None, **headers: str) -> list[dict[str, Any]]:
    """Read so many server-sent events; `then` is called once the stream is open."""
    line = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    asked = {name.replace("_", "-"): value for name, value in headers.items()}
    line.request("GET", f"/api/v1/events{query}", headers={"Accept": "text/event-stream", **asked})
    answer = line.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.readline() == b"retry: 2000\n"
    if then is not None:
        then()
    found: list[dict[str, Any]] = []
    number = 0
    while len(found) < count:
        text = answer.readline().decode().strip()
        assert text.isprintable()
        if text.startswith("data: "):
            found.append(json.loads(text.removeprefix("data: ")))
            assert number == found[-1]["id"]
        elif text.startswith("id: "):
            number = int(text.removeprefix("id: "))
    line.close()
    return found


def test_a_stream_goes_on_with_what_happens_and_resumes_behind_the_last_id(site: Site) -> None:
    seen = read_events(site, 7, "?since=0", lambda: site.client.cancel("o-2"))
    assert [event["id"] for event in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["kind"] for event in seen[-2:]] == ["cancel_requested", "canceled"]
    assert [event["id"] for event in read_events(site, 2, "?since=1", Last_Event_ID="5")] == [6, 7]
    assert [event["id"] for event in read_events(site, 3, "?since=0&strategy=dip")] == [1, 4, 5]


@pytest.mark.parametrize("place", ["999999999", "abc", "-1", "1.5", "5,6", "9" * 30])
def test_a_place_in_the_stream_that_no_event_has_had_is_refused(site: Site, place: str) -> None:
    answer, body = site.ask("/api/v1/events", Accept="text/event-stream", Last_Event_ID=place)
    assert (answer.status, json.loads(body)["code"], place in body.decode()) == (400, "invalid_request", True)


def test_two_streams_and_one_that_begins_now_have_the_same_events(site: Site) -> None:
    seen: list[list[int]] = []

    def read(query: str, count: int, then: Any = None) -> None:
        seen.append([event["id"] for event in read_events(site, count, query, then)])

    def act() -> None:
        eventually(lambda: site.json("/api/v1/events?limit=1")[0]["id"] == 5)
        site.client.cancel("o-3")

    first = threading.Thread(target=read, args=("?since=5", 2))
    first.start()
    read("", 2, act)
    first.join()
    assert seen == [[6, 7], [6, 7]]


def test_health_says_what_keeps_brokers_from_taking_orders(site: Site) -> None:
    told = site.json("/healthz")
    assert (told["ok"], told["database"], told["queue"]) == (False, True, False)
    assert [trouble.partition(":")[0] for trouble in told["troubles"]] == ["ibkr", "alpaca", "tda"]
    (remark,) = (remark for remark in told["remarks"] if "queue" in remark)
    assert remark.startswith("the queue does not answer: ")
    assert (remark.count("the queue"), remark.count("; orders go on from the database")) == (1, 1)


def test_health_is_503_only_where_the_record_cannot_be_read(site: Site, bare: Path) -> None:
    site.client.database.close()
    (bare / "corro.db").rename(bare / "away")
    (bare / "corro.db").mkdir()
    answer, body = site.ask("/healthz")
    assert (answer.status, json.loads(body)["database"]) == (503, False)
    assert site.ask("/metrics")[0].status == 200
    answer, body = site.ask("/api/v1/orders")
    assert (answer.status, json.loads(body)["code"]) == (503, "database_unavailable")
    (bare / "corro.db").rmdir()
    (bare / "away").rename(bare / "corro.db")


def test_metrics_are_those_of_the_table(site: Site) -> None:
    answer, body = site.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert {family.name for family in text_string_to_metric_families(body.decode())} == set(METRICS)


def test_another_sites_page_cannot_ask_in_its_own_name(site: Site) -> None:
    """DNS rebinding: the name in the Host header is not this machine's."""
    assert site.ask("/api/v1/orders", Host="evil.example")[0].status == 400
    for name in ("localhost", f"127.0.0.1:{site.port}"):
        answer, _ = site.ask("/api/v1/orders", Host=name, Origin="https://evil.example")
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/orders"), ("DELETE", "/api/v1/orders/o-1"), ("POST", "/api/v1/actions/halt"),
        ("POST", "/logout"),
    ],
)  # fmt: skip
def test_nothing_is_written_by_nobody(site: Site, method: str, path: str) -> None:
    answer, body = site.ask(path, method)
    assert (answer.status, json.loads(body)["code"]) == (401, "not_authenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_interface_describes_itself(site: Site) -> None:
    paths = site.json("/api/openapi.json")["paths"]
    assert {"/metrics", "/healthz", "/api/v1/orders", "/api/v1/events"} <= set(paths)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_the_command_serves_this_machine_alone(corro: Run, host: str) -> None:
    status, _, said = corro("web", "--host", host, "--port", "0")
    assert status == 2
    assert "--host" in said


def test_elsewhere_it_takes_a_proxy_or_https_and_a_token(corro: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_WEB__PROXIES", "192.0.2.9")
    status, _, said = corro("web", "--host", "192.0.2.1", "--port", "0")
    assert (status, "corro keys add" in said) == (2, True)
    assert corro("keys", "add", "ops", "--alg", "token", "--operator")[0] == 0
    status, _, said = corro("web", "--host", "192.0.2.1", "--port", "0")
    assert (status, "cannot be used" in said) == (2, True), "allowed, and no address of this machine"
    monkeypatch.setenv("CORRO_WEB__TLS_CERT", "cert.pem")
    assert "both" in corro("web", "--port", "0")[2]


def test_a_database_that_was_removed_is_told_of_though_it_can_still_be_read(site: Site, bare: Path) -> None:
    assert "Every broker takes orders" not in site.page("/")
    (bare / "corro.db").rename(bare / "away")
    answer, body = site.ask("/healthz")
    assert (answer.status, json.loads(body)["database"]) == (503, False)
    assert b"corro_database_up 0.0" in site.ask("/metrics")[1]
    for path in ("orders", "orders/o-1", "fills", "attempts", "positions", "fleet", "events", "instruments"):
        answer, body = site.ask(f"/api/v1/{path}")
        assert (answer.status, b"was removed while in use" in body) == (503, True), path
    eventually(lambda: site.ask("/", Accept="text/html")[0].status == 503, 10)
    text = site.page("/fleet", 503)
    assert "was removed while in use" in text
    assert "nothing is claimed and nothing is sent" in text


def test_no_answer_has_a_raw_sign_that_steers_a_screen(site: Site) -> None:
    """A person reads them with curl: JSON escapes only what is below the blank."""
    evil = "\u202eevil\x9b2J\x7f\u2028\U000e0041"
    with site.client.database.write() as connection:
        connection.execute(insert(order_events).values(
            client_order_id="o-2", at=datetime.now(UTC), kind="not_sent", from_status="queued", to_status="queued",
            detail=evil,
        ))  # fmt: skip
        connection.execute(update(orders).where(orders.c.client_order_id == "o-2").values(reason=evil))
    asked = [
        "/api/v1/orders",
        "/api/v1/orders/o-2",
        "/api/v1/events",
        f"/api/v1/orders?status={quote(evil)}",
        "/healthz",
    ]
    for path in asked:
        body = site.ask(path)[1].decode()
        assert body.isprintable(), (path, body)
    assert site.json("/api/v1/orders/o-2")["reason"] == evil
    assert read_events(site, 6, "?since=0")[-1]["detail"] == evil
