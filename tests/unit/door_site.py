"""The page's application in this process, asked from any address, with any headers; over a real record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

from models.settings import Settings
from producers import OrderClient
from worker.control.keys import add
from worker.page.app import create_app

ORDER = {"symbol": "KO", "side": "buy", "quantity": "5"}


@dataclass
class Heard:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


class DoorSite:
    """One application.

    Args:
        settings: of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self.client = OrderClient(settings)
        self.app = create_app(settings, self.client)
        self.cookies: dict[str, str] = {}

    def close(self) -> None:
        self.client.close()

    def token(self, key_id: str = "k-1", **bounds: Any) -> str:
        """Add a token."""
        _, token = add(self.client.database, key_id, "token", by="test", **{"owner": "ann"} | bounds)
        assert token is not None
        return token

    def ask(
        self, method: str, path: str, content: object = None, *, token: str | None = None, peer: str = "127.0.0.1",
        scheme: str = "http", form: Mapping[str, str] | None = None, more: Iterable[tuple[str, str]] = (),
        chunks: Iterable[bytes] | None = None, host: str | None = "localhost", **headers: str,
    ) -> Heard:  # fmt: skip
        """Ask; a dict goes as JSON, bytes as they are."""
        raw = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        given = [] if host is None else [("host", host)]
        given += [(name.replace("_", "-"), value) for name, value in headers.items()] + list(more)
        if form is not None:
            raw = urlencode(form).encode()
            given.append(("content-type", "application/x-www-form-urlencoded"))
        if token is not None:
            given.append(("authorization", f"Bearer {token}"))
        if self.cookies and not any(name == "cookie" for name, _ in given):
            given.append(("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        url = urlsplit(path)
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": scheme,
            "path": url.path, "raw_path": url.path.encode(), "query_string": url.query.encode(), "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given],
            "client": (peer, 1234), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        return asyncio.run(self._ask(scope, list(chunks) if chunks is not None else [raw]))

    async def _ask(self, scope: dict[str, Any], chunks: list[bytes]) -> Heard:
        told: list[dict[str, Any]] = []
        left = list(chunks)

        async def receive() -> dict[str, Any]:
            if left:
                return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}
            await asyncio.sleep(3600)
            raise AssertionError

        async def send(message: Any) -> None:
            told.append(message)

        await self.app(scope, receive, send)
        raw = [(name.decode(), value.decode("latin-1")) for name, value in told[0]["headers"]]
        for name, value in raw:
            if name == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    self.cookies.pop(key, None)
                    self.cookies |= {key: morsel.value} if morsel.value else {}
        body = b"".join(message.get("body", b"") for message in told[1:])
        return Heard(told[0]["status"], dict(raw), body)

    def submit(
        self, token: str | None, id_: str | None = "o-1", *, peer: str = "127.0.0.1", **changes: object
    ) -> Heard:
        """Post an order."""
        keys = {} if id_ is None else {"idempotency_key": id_}
        return self.ask("POST", "/api/v1/orders", ORDER | changes, token=token, peer=peer, **keys)

    def login(self, token: str, **headers: str) -> str:
        """Log in as a browser does; returns the token of its forms."""
        heard = self.ask("POST", "/login", {"token": token}, origin="http://localhost", **headers)
        assert heard.status == 200, heard.body
        return str(heard.json["csrf"])
