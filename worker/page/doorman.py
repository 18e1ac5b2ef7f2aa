"""Looks at every request before anybody reads it: for whom it is, how large it is, and whether it is unambiguous.

| a request                                                    | is answered |
|--------------------------------------------------------------|-------------|
| in a name that is not this server's (DNS rebinding)          | 400         |
| with a header twice that may stand there once                | 400         |
| with both Content-Length and Transfer-Encoding (smuggling)   | 400         |
| over plain HTTP from elsewhere, past the proxy               | 400         |
| with more than 64 KiB                                        | 413         |
| whose body takes longer than 10 s                            | 408         |

HEAD is answered as GET is, without the body: load balancers ask so.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import CorroError, InvalidRequest
from models.web import WebSettings, is_among
from worker.page.problems import BodyTooLarge, BodyTooSlow, answer

#: Names of this machine that lead nowhere else.
HERE = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Bytes of a body, and seconds that it may take.
MOST_BYTES, BODY_S = 65_536, 10.0
#: Headers that decide something: of two, somebody before or behind us might read the other one.
_ONCE = frozenset(
    {b"host", b"authorization", b"idempotency-key", b"content-length", b"content-type", b"origin", b"x-csrf-token",
     b"transfer-encoding", b"last-event-id"}
)  # fmt: skip
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a browser would then send our own forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
}
_OVER_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}

Headers = Sequence[tuple[bytes, bytes]]


class Doorman:
    """Stands before an application.

    Args:
        app: the application.
        web: names that are this server's beside `HERE`, and its proxies.
    """

    def __init__(self, app: ASGIApp, web: WebSettings) -> None:
        self.app, self.web = app, web
        self._names = HERE | set(web.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _HEADERS | (_OVER_HTTPS if scope["scheme"] == "https" else {})
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((k, v) for k, v in raw if k not in given)]
            await send(message)

        if (error := self._objection(scope)) is not None:
            refused = answer(error)
            refused.headers["Connection"] = "close"  # where it ends may be in doubt: what follows is not read
            await refused(scope, receive, tell)
            return
        if scope["method"] == "HEAD":
            await self.app({**scope, "method": "GET"}, _BoundedBody(receive), _without_body(tell))
            return
        await self.app(scope, _BoundedBody(receive), tell)

    def _objection(self, scope: Scope) -> CorroError | None:
        headers: Headers = scope["headers"]
        times = Counter(name for name, _ in headers)
        if twice := sorted(name.decode("latin-1") for name in _ONCE if times[name] > 1):
            return InvalidRequest(f"{twice[0]}: stands in the request {times[twice[0].encode()]} times")
        if times[b"content-length"] and times[b"transfer-encoding"]:
            return InvalidRequest("content-length and transfer-encoding say two things about one body")
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            return InvalidRequest("path and query: no database holds a NUL")
        found = dict(headers)
        name = host_of(found.get(b"host", b"").decode("latin-1"))
        if name not in self._names:
            return InvalidRequest(f"host: this server has no name {name!r}; [web] allowed_hosts has its names")
        peer = scope["client"][0] if scope.get("client") else ""
        if scope["scheme"] == "http" and not is_loopback(peer) and not is_among(peer, self.web.proxies):
            return InvalidRequest(f"from {peer or 'elsewhere'} this server is asked over HTTPS, or through its proxy")
        length = found.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MOST_BYTES:
            return BodyTooLarge(f"content-length: must be at most {MOST_BYTES} bytes, was {length.decode()}")
        return None


class _BoundedBody:
    """What hands over a body, up to a size and for a time; behind its end nothing is bounded."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes, self._until, self._over = receive, 0, time.monotonic() + BODY_S, False

    async def __call__(self) -> Message:
        if self._over:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._until - time.monotonic())
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {BODY_S:g} s") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > MOST_BYTES:
            raise BodyTooLarge(f"the body must be at most {MOST_BYTES} bytes")
        self._over = not message.get("more_body", False)
        return message


def _without_body(tell: Send) -> Send:
    """Return what takes an answer's status and headers alone; the server takes it as whole then, so a stream ends."""

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            await tell(message)
            await tell({"type": "http.response.body", "body": b"", "more_body": False})

    return told


def host_of(text: str) -> str:
    """Return the name in a Host header, without its port; an IPv6 address with its brackets."""
    text = text.lower()
    if text.startswith("["):
        name, bracket, port = text.partition("]")
        return name + bracket if not port or _is_port(port) else text
    name, colon, port = text.partition(":")
    return name if not colon or _is_port(colon + port) else text


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own."""
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
