"""A page's server of this process, asked over a socket; and a scene for it: real records of two brokers that obey."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from models.clock import utcnow
from models.messages import OrderRequest
from models.settings import Settings
from producers import OrderClient
from tests.kit import eventually
from worker.brokers.fake import FakeBroker
from worker.control.controls import stop
from worker.control.scopes import Scope
from worker.page.serving import server
from worker.rehearsal import rehearsal

#: What a broker may say to whoever shows it, with a secret in it.
EVIL = "<script>alert(1)</script> \u202e token=abcdef123456 & more"


class Site:
    """A server of this process, asked over a socket."""

    def __init__(self, settings: Settings, client: OrderClient | None = None) -> None:
        self._own = None if client else OrderClient(settings)
        self.client: OrderClient = client or self._own  # type: ignore[assignment]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._server = server(settings, self.client)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        eventually(lambda: self._server.started, 10)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            line.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = line.getresponse()
            return answer, answer.read()
        finally:
            line.close()

    def json(self, path: str) -> Any:
        answer, body = self.ask(path)
        assert answer.status == 200, body
        return json.loads(body)

    def page(self, path: str, status: int = 200) -> str:
        """Ask as a browser does."""
        answer, body = self.ask(path, Accept="text/html,application/xhtml+xml")
        assert answer.status == status, body
        assert answer.headers["content-type"].startswith("text/html")
        return body.decode()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        if self._own:
            self._own.close()


@contextmanager
def desk_of_orders(home: Path, **settings: Any) -> Iterator[tuple[Site, FakeBroker, FakeBroker]]:
    """Have real orders in a real record: filled, fallen back, resting, halted, held, of unknown outcome."""
    alpaca, tda = FakeBroker("alpaca"), FakeBroker("tda")
    with rehearsal(home, alpaca, tda, **settings) as client:

        def send(name: str, until: str, quantity: int = 10, **terms: Any) -> None:
            request = OrderRequest(client_order_id=name, symbol="KO", side="buy", quantity=quantity, **terms)
            order = client.submit(request).wait(timeout=20, until=lambda o: o.status == until)
            assert order.status == until, (name, order.status, order.reason)

        send("p-filled", "filled", strategy="dip")
        alpaca.account.refusal = EVIL
        alpaca.account.will("refuse")
        send("p-fell", "filled", strategy="dip")
        alpaca.account.will("refuse")
        send("p-refused", "rejected", route=["alpaca"])
        resting = {"order_type": "limit", "limit_price": "1", "time_in_force": "gtc"}
        send("p-rests", "accepted", **resting)
        stop(client.database, Scope.of(strategy="mad"), "halt", "it <b>sells</b> everything", "ann")
        send("p-halted", "denied", strategy="mad")
        send("p-held", "held", not_before=utcnow() + timedelta(hours=1))
        tda.account.unreadable.add("orders")
        tda.account.will("lose_order")
        send("p-unknown", "submitted", quantity=3, route=["tda"])
        eventually(lambda: client.order("p-unknown").row["attempt_no"] == 1)
        site = Site(client.settings, client)
        try:
            yield site, alpaca, tda
        finally:
            site.close()
