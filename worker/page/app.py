"""The page's server: what machines read. Only reads, only on loopback; a page for people and a door for orders follow.

Lists are what the commands print with `--json`, newest first; errors are problem documents (RFC 9457) whose `code` is
the Python class in snake case.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import Table
from starlette.middleware.trustedhost import TrustedHostMiddleware

from models import encoding
from models.errors import CorroError, DatabaseUnavailable, InvalidRequest, NotFound
from models.history import History, v_attempts, v_fills, v_orders
from models.outward import untold
from models.record.database import Database
from models.record.reading import position_rows
from models.record.stream import EventRow, EventStream
from models.settings import Settings
from producers.cli.app import moment
from producers.ear import Ear
from worker.fleet.picture import look, remarks_of_the_record
from worker.page.metrics import Metrics
from worker.page.tail import Tail

#: Names under which this server may be asked: a page of another site that has its name point here is refused.
HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")
#: Rows of a list where nobody says how many, and at most.
_ROWS, _MOST_ROWS = 50, 1000
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STATUSES: tuple[tuple[type[CorroError], int], ...] = (
    (NotFound, 404), (InvalidRequest, 400), (DatabaseUnavailable, 503), (CorroError, 500),
)  # fmt: skip

Limit = Annotated[int, Query(ge=1, le=_MOST_ROWS)]
Text = Annotated[str | None, Query(max_length=128)]


def create_app(settings: Settings, database: Database) -> FastAPI:
    """Return the server.

    Args:
        settings: which brokers there are, and where the queue is.
        database: the record; whoever opened it closes it.
    """
    ear = Ear(settings, database.deployment)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        ear.close()

    app = FastAPI(
        title="corro", version=version("corro"), openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        lifespan=lifespan,
    )  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    app.middleware("http")(_with_headers)
    app.exception_handler(CorroError)(_problem)
    _machines(app, settings, database)
    _lists(app, settings, History(database))
    _events(app, Tail(database, ear))
    return app


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers.update(_HEADERS)
    return response


def _problem(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    code = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    told = {"type": "about:blank", "title": type(error).__name__, "status": status, "detail": str(error), "code": code}
    return Response(encoding.dumps(untold(told)), status, media_type="application/problem+json")


def _json(value: object) -> Response:
    return Response(encoding.dumps(untold(encoding.to_json(value))), media_type="application/json")


# -- FOR MONITORS ---
def _machines(app: FastAPI, settings: Settings, database: Database) -> None:
    metrics = Metrics(settings, database)

    @app.get("/metrics", tags=["monitoring"])
    def scrape() -> Response:
        """Return every metric, in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", tags=["monitoring"])
    def healthz() -> Response:
        """Say what keeps brokers from taking orders; status 503 only where the record cannot be read."""
        status, told = health(settings, database, metrics)
        return JSONResponse(untold(told), status)


def health(settings: Settings, database: Database, metrics: Metrics) -> tuple[int, dict[str, object]]:
    """Return an HTTP status and what `/healthz` says.

    `ok` is what `corro fleet --check` says: every configured broker takes orders. A trouble of a broker is no reason to
    take this server away from whoever looks at it, so the status is 503 only where the record cannot be read.
    """
    told: dict[str, object] = {"ok": False, "version": version("corro"), "database": False}
    try:
        seen = look(settings, database)
        remarks = remarks_of_the_record(settings, database)
    except DatabaseUnavailable as error:
        return 503, {**told, "error": str(error)}
    queue = metrics.queue.look()
    if not queue.up:
        remarks.append(f"the queue does not answer: {queue.error}; orders go on from the database")
    more = {"queue": queue.up, "troubles": seen.troubles, "remarks": remarks}
    return 200, {**told, "ok": not seen.troubles, "database": True, **more}


# -- LISTS ---
def _lists(app: FastAPI, settings: Settings, history: History) -> None:
    def rows(table: Table, limit: int, since: str | None, until: str | None, **equal: str | None) -> Response:
        chosen: dict[str, Any] = {name: value.split(",") if value else None for name, value in equal.items()}
        begin, end = moment("since", since), moment("until", until)
        return _json(history.rows(table, limit=limit, since=begin, until=end, **chosen))

    @app.get("/api/v1/orders", tags=["lists"])
    def orders(
        status: Text = None, symbol: Text = None, strategy: Text = None, broker: Text = None, since: Text = None,
        until: Text = None, limit: Limit = _ROWS,
    ) -> Response:  # fmt: skip
        """List orders, newest first: the columns of `v_orders`."""
        return rows(
            v_orders, limit, since, until, status=status, symbol=_upper(symbol), strategy=strategy, broker=broker
        )

    @app.get("/api/v1/orders/{client_order_id}", tags=["lists"])
    def order(client_order_id: str) -> Response:
        """Show one order with its attempts, fills and events."""
        found = history.order(client_order_id)
        if found is None:
            raise NotFound(f"no order has the client_order_id {client_order_id!r}")
        return _json(found)

    @app.get("/api/v1/fills", tags=["lists"])
    def fills(
        symbol: Text = None, strategy: Text = None, broker: Text = None, since: Text = None, until: Text = None,
        limit: Limit = _ROWS,
    ) -> Response:  # fmt: skip
        """List executions, newest first: the columns of `v_fills`."""
        return rows(v_fills, limit, since, until, symbol=_upper(symbol), strategy=strategy, broker=broker)

    @app.get("/api/v1/attempts", tags=["lists"])
    def attempts(
        outcome: Text = None, symbol: Text = None, strategy: Text = None, broker: Text = None, since: Text = None,
        until: Text = None, limit: Limit = _ROWS,
    ) -> Response:  # fmt: skip
        """List attempts, newest first: the columns of `v_attempts`."""
        return rows(
            v_attempts, limit, since, until, outcome=outcome, symbol=_upper(symbol), strategy=strategy, broker=broker
        )

    @app.get("/api/v1/positions", tags=["lists"])
    def positions() -> Response:
        """List positions as their brokers told them last, with the time; asks no broker."""
        with history.database.read() as connection:
            return _json(position_rows(connection))

    @app.get("/api/v1/fleet", tags=["lists"])
    def fleet() -> Response:
        """List the workers, as `corro fleet --json`."""
        return _json(look(settings, history.database).rows)


def _upper(symbol: str | None) -> str | None:
    return symbol and symbol.upper()


# -- EVENTS ---
def _events(app: FastAPI, tail: Tail) -> None:
    @app.get("/api/v1/events", tags=["events"])
    def events(
        since: Annotated[int | None, Query(ge=0)] = None,
        strategy: Text = None,
        limit: Limit = _ROWS,
        last_event_id: Annotated[str | None, Header()] = None,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        """Return events by rising ids, none left out: as a list, or, asked for text/event-stream, as they happen.

        A stream goes on behind `Last-Event-ID`, else behind `since`, else with what is yet to come. A list without
        `since` has the newest.
        """
        if "text/event-stream" in accept:
            seen = last_event_id if last_event_id and last_event_id.isdecimal() else None
            place = since if seen is None else int(seen)
            return StreamingResponse(_told(tail, place, strategy), media_type="text/event-stream")
        stream = EventStream(tail.database, since or 0, strategy)
        if since is None:
            stream.latest(limit)
        return _json(stream.look()[:limit])


async def _told(tail: Tail, since: int | None, strategy: str | None) -> AsyncIterator[bytes]:
    """Write events as server-sent events; a sign of life keeps proxies from hanging up."""
    yield b"retry: 2000\n\n"
    async for event in tail.follow(since, strategy):
        yield b": alive\n\n" if event is None else _sse(event)


def _sse(event: EventRow) -> bytes:
    told: Mapping[str, object] = event
    return b"id: %d\ndata: %s\n\n" % (event["id"], encoding.dumps(untold(encoding.to_json(told))))
