"""An OCO at a server that is none of ours: it answers as Alpaca's page on OCO orders writes, and knows no corro."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from models.groups import GroupKind, Membership
from models.messages import OrderRequest
from models.reports import BrokerStatus, Found
from models.settings import BrokerSettings
from tests.contract.doors import UNPACED
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.base import LinkedOrder, OrderRef, Ticket
from worker.runtime.clock import utcnow

AT = "2026-11-30T15:00:00Z"


class AlpacaByItsPage:
    """Two orders, as the page shows them: the take profit is the outer one, the stop loss is in its `legs`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = {"outer": "new", "leg": "held"}
        house = self

        class OcoPageHandler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                house.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(200, house.order(nested=True))

            def do_GET(self) -> None:
                self._answer(*house.answer(self.path))

            def _answer(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), OcoPageHandler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer(self, target: str) -> tuple[int, object]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path.endswith("/account"):
            return 200, {
                "id": "a",
                "account_number": "PA1",
                "status": "ACTIVE",
                "cash": "1",
                "equity": "1",
                "currency": "USD",
            }
        if path.endswith("/orders:by_client_order_id") and self.bodies:  # which shows no legs
            return 200, self.order(nested=False)
        if path.endswith("/orders/outer"):
            return 200, self.order(nested="nested" in query)
        if path.endswith("/orders"):
            return 200, [self.order(nested="nested" in query)]
        return (200, []) if not path.endswith("account_id") else (404, {"code": 40410000, "message": "order not found"})

    def order(self, *, nested: bool) -> dict[str, Any]:
        sent = self.bodies[-1]
        outer = self._row("outer", sent["client_order_id"], "limit", sent["take_profit"])
        leg = self._row("leg", "f8a1c7f2-6a5e-4c6d-8f6f-2f6c0c0a7b11", "stop", sent["stop_loss"])
        return outer | {"legs": [leg] if nested else None}

    def _row(self, name: str, client_order_id: str, kind: str, prices: dict[str, str]) -> dict[str, Any]:
        status, sent = self.status[name], self.bodies[-1]
        filled = sent["qty"] if status == "filled" else "0"
        blank = ("limit_price", "stop_price", "trail_price", "trail_percent", "notional", "replaced_by", "replaces")
        return dict.fromkeys(blank) | prices | {
            "id": name, "client_order_id": client_order_id, "symbol": sent["symbol"], "asset_class": "us_equity",
            "side": sent["side"], "type": kind, "order_type": kind, "order_class": "oco", "qty": sent["qty"],
            "filled_qty": filled, "filled_avg_price": "300" if filled != "0" else None, "status": status, "legs": None,
            "time_in_force": sent["time_in_force"], "extended_hours": False, "created_at": AT, "submitted_at": AT,
            "updated_at": AT,
        }  # fmt: skip


@pytest.fixture
def alpaca() -> Iterator[AlpacaByItsPage]:
    found = AlpacaByItsPage()
    yield found
    found.close()


@pytest.fixture
def broker(alpaca: AlpacaByItsPage) -> Iterator[AlpacaBroker]:
    table = {"base_url": alpaca.url, "data_url": alpaca.url, "key_id": "k", "secret_key": "s"}
    found = AlpacaBroker("alpaca", BrokerSettings(adapter="alpaca", **(table | UNPACED)))
    found.updates(lambda _: None)
    found.connect()
    yield found
    found.disconnect()


def leg(name: str, **terms: Any) -> OrderRequest:
    group = Membership("o", GroupKind.OCO, name)
    usual = {"symbol": "SPY", "side": "sell", "quantity": 100, "time_in_force": "gtc", "version": 2}
    return OrderRequest(**usual, client_order_id=f"o.{name}", group=group, **terms)


FIRST = leg("first", order_type="limit", limit_price="301")
SECOND = leg("second", order_type="stop", stop_price="299")
LINKED = (LinkedOrder(order=SECOND, broker_client_order_id="o.second"),)


def test_what_is_sent_is_what_the_page_writes(alpaca: AlpacaByItsPage, broker: AlpacaBroker) -> None:
    ticket = Ticket(order=FIRST, broker_client_order_id="o.first", deadline_s=5, still_mine=lambda: None, legs=LINKED)
    report = broker.place_order(ticket)
    (body,) = alpaca.bodies
    assert body["take_profit"] == {"limit_price": "301"}
    assert body["stop_loss"] == {"stop_price": "299"}
    names = ("symbol", "side", "qty", "type", "time_in_force", "order_class", "client_order_id")
    assert [body[name] for name in names] == ["SPY", "sell", "100", "limit", "gtc", "oco", "o.first"]
    (second,) = report.legs
    assert (report.status, second.status, second.broker_order_id) == (
        BrokerStatus.ACCEPTED,
        BrokerStatus.ACCEPTED,
        "leg",
    )


@pytest.mark.parametrize(("outer", "inner"), [("filled", "canceled"), ("canceled", "filled"), ("expired", "expired")])
def test_how_both_ended_is_read_whichever_was_filled_though_the_answer_by_our_id_shows_no_legs(
    alpaca: AlpacaByItsPage, broker: AlpacaBroker, outer: str, inner: str
) -> None:
    ticket = Ticket(order=FIRST, broker_client_order_id="o.first", deadline_s=5, still_mine=lambda: None, legs=LINKED)
    broker.place_order(ticket)
    alpaca.status = {"outer": outer, "leg": inner}
    ref = OrderRef(order=FIRST, broker_client_order_id="o.first", broker_order_id=None, sent_at=utcnow(), legs=LINKED)
    found = broker.find_order(ref)
    assert isinstance(found, Found)
    (second,) = found.report.legs
    assert (str(found.report.status), str(second.status)) == (outer, inner)
    listed = {one.broker_order_id: str(one.status) for one in broker.get_orders(open_only=False)}
    assert listed == {"outer": outer, "leg": inner}
