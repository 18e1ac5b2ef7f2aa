"""Alerts of TradingView: which order each becomes, and who may send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from models.errors import ConfigurationError
from models.record.database import Database
from models.settings import load_settings
from tests.unit.door_site import DoorSite, Heard
from worker.page import sessions
from worker.page.hooks import order_id

TRADINGVIEW = "52.89.214.238"
ALERT = {
    "id": "long-2026-01-05T14:30:00Z", "symbol": "NASDAQ:AAPL", "side": "buy", "quantity": 10, "strategy": "tv",
}  # fmt: skip


@pytest.fixture
def site(bare: Path, database: Database) -> Iterator[DoorSite]:
    tradingview = {
        "allow_from": [TRADINGVIEW, "10.0.0.0/8"], "symbols": {"BRK/B": "BRK.B"}, "defaults": {"time_in_force": "gtc"},
    }  # fmt: skip
    web = {"allowed_hosts": ["corro.example"], "proxies": ["192.0.2.1"], "tradingview": tradingview}
    made = DoorSite(load_settings(home=bare, web=web))
    yield made
    made.close()


def alert(site: DoorSite, token: str, body: object, peer: str = "192.0.2.1", **headers: str) -> Heard:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = {"x_forwarded_for": TRADINGVIEW, "host": "corro.example", "content_type": "text/plain"} | headers
    return site.ask("POST", f"/hooks/tradingview/{token}", raw, peer=peer, **asked)


def orders(site: DoorSite) -> Any:
    return site.ask("GET", "/api/v1/orders").json


def test_an_alert_becomes_one_order_however_often_it_is_sent(site: DoorSite) -> None:
    token = site.token(strategies=["tv"])
    told = [alert(site, token, ALERT) for _ in range(2)]
    assert [heard.status for heard in told] == [202, 202]
    [row] = orders(site)
    assert told[0].json == {"client_order_id": ALERT["id"], "status": "queued"}
    assert (row["client_order_id"], row["symbol"], row["time_in_force"]) == (ALERT["id"], "AAPL", "gtc")
    assert alert(site, token, ALERT | {"quantity": 11}).code == "idempotency_conflict"


def test_an_alert_without_an_id_has_one_of_key_and_body(site: DoorSite) -> None:
    first, second = site.token(), site.token("k-2")
    body = {name: value for name, value in ALERT.items() if name != "id"}
    ids = {alert(site, token, body).json["client_order_id"] for token in (first, first, second)}
    assert len(ids) == len(orders(site)) == 2
    assert all(id_.startswith("tv-") for id_ in ids)


@pytest.mark.parametrize("given", ["two words", "", None, 7, ["x"], "{{strategy.order.id}}", "\ud800"])
def test_an_id_that_may_be_none_is_digested_and_never_mended(given: object) -> None:
    made = order_id("k", given, b"body")
    assert made == order_id("k", given, b"body")
    assert made.startswith("tv-")
    assert made != order_id("other", given, b"body")
    assert order_id("k", "two words", b"") != order_id("k", "two-words", b"")


@pytest.mark.parametrize(
    ("given", "meant"), [("BRK/B", "BRK.B"), ("NYSE:KO", "KO"), ("aapl", "AAPL"), ("BINANCE:BTCUSD", None)]
)
def test_symbols_are_those_of_the_map_else_their_own(site: DoorSite, given: str, meant: str | None) -> None:
    heard = alert(site, site.token(), ALERT | {"symbol": given})
    assert heard.status == (202 if meant else 422), heard.body
    assert [row["symbol"] for row in orders(site)] == ([meant] if meant else [])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"buy AAPL", 400), (b"", 400), (b"[]", 400), (ALERT | {"client_order_id": "x"}, 400),
        (ALERT | {"side": "{{strategy.order.action}}"}, 422), (ALERT | {"quantity": "NaN"}, 422),
        (ALERT | {"strategy": "other"}, 403), (ALERT | {"symbol": 7}, 422), (ALERT | {"symbol": None}, 422),
    ],
)  # fmt: skip
def test_what_is_no_order_of_its_key_is_refused_and_logged(
    site: DoorSite, body: object, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    token = site.token(strategies=["tv"])
    assert alert(site, token, body).status == status
    assert orders(site) == []
    said = capsys.readouterr().out
    assert "alert_refused" in said
    assert token not in said


def test_alerts_come_from_where_they_may_and_by_a_key_that_is_no_operators(site: DoorSite) -> None:
    token, ops = site.token(), site.token("ops", operator=True)
    assert alert(site, token, ALERT, x_forwarded_for="203.0.113.7").status == 403
    assert alert(site, token, ALERT, x_forwarded_for=f"{TRADINGVIEW}, 203.0.113.7").status == 403, "the last is told"
    assert alert(site, token, ALERT, peer="203.0.113.7").status == 400, "plain HTTP past the proxy"
    assert alert(site, token, ALERT, peer="203.0.113.7", scheme="https").status == 403, "no proxy of ours"
    assert alert(site, ops, ALERT).status == 403
    assert site.ask("GET", f"/hooks/tradingview/{token}").status == 405
    told = [alert(site, token[:-1], ALERT).status for _ in range(sessions.TRIES + 1)]
    assert (told[0], told[-1], orders(site)) == (401, 429, [])
    assert alert(site, token, ALERT, x_forwarded_for="10.1.2.3").status == 202


def test_defaults_are_fields_of_an_order(bare: Path) -> None:
    for name in ("client_order_id", "surprise"):
        with pytest.raises(ConfigurationError, match=name):
            load_settings(home=bare, web={"tradingview": {"defaults": {name: "x"}}})
    with pytest.raises(ConfigurationError, match="allow_from"):
        load_settings(home=bare, web={"tradingview": {"allow_from": ["nowhere"]}})
