"""From the TCP connect to a ready API: the ends of the wait, and TWS's greeting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from models.troubles import trouble
from worker.brokers.ibkr.access import Options


class HandshakeFailed(Exception):
    """The API did not become ready; the words say why."""


#: What the SDKs tell by Python's names of errors; the address and a hint stand beside it.
_PLAIN = {ConnectionRefusedError: "connection refused", TimeoutError: "no answer before the timeout"}


class Greeting:
    """TWS's first frame, `<version>|20260415 18:28:40 <zone>|`: the SDKs read its version and drop the rest."""

    def __init__(self, client: Any, tell: Callable[[str], None]) -> None:
        self._client, self._tell = client, tell
        self._data = b""
        client.conn.hasData += self._on_data

    def _on_data(self, data: bytes) -> None:
        self._data += data
        end = 4 + int.from_bytes(self._data[:4], "big")
        if len(self._data) >= max(end, 5):
            self._client.conn.hasData -= self._on_data
            self._tell(self._data[4:end].decode(errors="replace"))


async def shake_hands(client: Any, options: Options) -> None:
    """Connect, and wait until the API is ready.

    Raises:
        HandshakeFailed: it took too long, or the peer ended it: before its greeting, or after 326.
    """
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_error(text: str) -> None:
        if not ended.done():
            ended.set_result(text)

    def on_end(text: str) -> None:  # with the system's words where it was a reset
        on_error(f"the peer closed the connection before its API was ready{f' ({text})' if text else ''}")

    # The SDKs go on waiting for the API after the peer has closed: race the connect against both signals of the close.
    client.apiError += on_error
    client.conn.disconnected += on_end
    client.setConnectOptions(options.connect_options)
    ready = asyncio.ensure_future(
        client.connectAsync(options.host, options.port, options.client_id, options.connect_timeout_s)
    )
    try:
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    error: object = (await asyncio.gather(ready, return_exceptions=True))[0]
    if isinstance(error, BaseException):
        words = next((words for kind, words in _PLAIN.items() if isinstance(error, kind)), None)
        raise HandshakeFailed(words or (ended.result() if ended.done() else trouble(error))) from None
    client.apiError -= on_error
    client.conn.disconnected -= on_end
