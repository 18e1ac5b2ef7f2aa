"""A client of the TDA and Schwab door: the least that speaks either dialect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.sandbox.tda.door import TdaDoor

BOTH = ("tda", "schwab")


class Client:
    """The least that speaks either dialect."""

    def __init__(self, door: TdaDoor, dialect: str) -> None:
        self.door, self.dialect = door, dialect
        self.session = requests.Session()
        self.timeout = 3.0
        self.account = f"/accounts/{door.account_path}"
        self.orders = f"{self.account}/orders"
        self.log_in()

    def token(self, refresh_token: str = "rt", secret: str = "s", **more: str) -> requests.Response:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **more}
        if self.dialect == "tda":
            return self.session.post(f"{self.door.url}/v1/oauth2/token", data={**form, "client_id": "K@AMER.OAUTHAP"})
        return self.session.post(f"{self.door.url}/v1/oauth/token", data=form, auth=("k", secret))

    def log_in(self) -> None:
        self.session.headers["Authorization"] = ""
        token = self.token().json()["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(
            method, self.door.url + self.door.dialect.trader + path, timeout=self.timeout, **more
        )

    def data(self, path: str, **params: Any) -> requests.Response:
        return self.session.get(self.door.url + self.door.dialect.data + path, params=params, timeout=3)

    def place(self, **change: Any) -> requests.Response:
        return self.call("POST", self.orders, json=order(**change))

    def placed(self, **change: Any) -> str:
        answer = self.place(**change)
        assert answer.status_code == 201, answer.text
        assert answer.content == b""
        return answer.headers["Location"].rpartition("/")[2]

    def order(self, number: str) -> Any:
        return self.call("GET", f"{self.orders}/{number}").json()

    def listed(self, **params: str) -> Any:
        if self.dialect == "schwab":
            now = datetime.now(UTC)
            params.setdefault("fromEnteredTime", f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%S}.000Z")
            params.setdefault("toEnteredTime", f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%S}.000Z")
        answer = self.call("GET", self.orders, params=params)
        assert answer.ok, answer.text
        return answer.json()


def order(symbol: str = "AAPL", instruction: str = "BUY", quantity: Any = 10, **change: Any) -> dict[str, Any]:
    leg = {"instruction": instruction, "quantity": quantity, "instrument": {"assetType": "EQUITY", "symbol": symbol}}
    body = {"session": "NORMAL", "duration": "DAY", "orderType": "MARKET", "orderStrategyType": "SINGLE"}
    return {**body, "orderLegCollection": [leg], **change}


@contextmanager
def client_of(house: SandboxThread, dialect: Any) -> Iterator[Client]:
    """Open a door and log in."""
    door: Any = house.open(lambda market: TdaDoor(market, dialect, dialect))
    found = Client(door, dialect)
    yield found
    found.session.close()


def filled(client: Client, number: str) -> Any:
    eventually(lambda: client.order(number)["status"] == "FILLED")
    return client.order(number)
