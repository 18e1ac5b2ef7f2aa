"""The server of the page: uvicorn, without what nobody needs here, and with less patience."""

from __future__ import annotations

import asyncio

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from models.settings import Settings
from producers.client import OrderClient
from worker.page.app import create_app

#: Seconds that open streams have when the server is to end.
_GRACE_S = 1
#: Seconds within which a request's line and headers have to be there.
HEADERS_S = 10.0
#: Connections at once; one more is told 503.
_MOST_CONNECTIONS = 512


class ImpatientProtocol(H11Protocol):
    """A connection on which a request has to arrive in time; uvicorn itself would wait for its headers for ever."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on while a request is not whole: drops do not make the time longer."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._stop_waiting()
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and self.conn.their_state is h11.SEND_BODY:
            self.transport.close()  # nobody reads what still comes

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def server(settings: Settings, client: OrderClient) -> uvicorn.Server:
    """Return the server; `run(sockets=[...])` serves until SIGINT or SIGTERM.

    Args:
        settings: `[web] tls_cert` and `tls_key` make it speak HTTPS.
        client: over the record; whoever opened it closes it.
    """
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings, client),
            http=ImpatientProtocol,
            ws="none",  # uvicorn looks for a newer `websockets` than alpaca-trade-api lets be installed
            log_config=None,
            access_log=False,  # paths hold tokens of hooks
            server_header=False,
            proxy_headers=False,  # whose word counts, `[web] proxies` says
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=settings.web.tls_cert or None,
            ssl_keyfile=settings.web.tls_key or None,
        )
    )
