"""The page's server: lists, events, health and metrics to read; `worker.page.doors` has what changes something.

Pages for people are in `worker.page.pages`.
Lists are what the commands print with `--json`, newest first. Who may ask is seen before every route
(`worker.page.sessions`), and what a request looks like before that (`worker.page.doorman`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BeforeValidator
from sqlalchemy import Table

from models import encoding
from models.destinations import split
from models.errors import DatabaseUnavailable, InvalidRequest
from models.history import History, v_attempts, v_fills, v_orders
from models.outward import untold
from models.record.database import Database
from models.record.stream import EventRow, EventStream, must_have_been
from models.settings import Settings
from producers.cli.app import day, moment
from producers.client import OrderClient
from worker.fleet.picture import look, remarks_of_the_record
from worker.page import doors, hooks, problems
from worker.page.asking import must_be_heard
from worker.page.chosen import Filters, digits
from worker.page.doorman import Doorman
from worker.page.doors import told
from worker.page.lookups import add_lookups
from worker.page.metrics import Metrics
from worker.page.openapi import READ_HEADER, describe
from worker.page.overview import Overlook
from worker.page.pages import ROWS, Limit, Screen, add_pages
from worker.page.sessions import Sessions, visitor_of
from worker.page.tail import Tail
from worker.positions.told import told_positions

#: No event has a larger id.
_LAST_ID = 2**63 - 1
#: Seconds after which the key of a stream is looked at again.
_KEY_SEEN_S = 10.0
Text = Annotated[str | None, Query(max_length=128)]


def create_app(settings: Settings, client: OrderClient) -> FastAPI:
    """Return the server.

    Args:
        settings: which brokers there are, where the queue is, and `[web]`.
        client: over the record; whoever opened it closes it.
    """
    database = client.database
    sessions = Sessions(settings, database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        client.ear.close()

    app = FastAPI(
        title="corro", version=version("corro"), openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        lifespan=lifespan, dependencies=[Depends(sessions.gate), Depends(must_be_heard)],
        redirect_slashes=False,
    )  # fmt: skip
    app.add_middleware(Doorman, web=settings.web)
    history, tail, metrics = History(database, settings), Tail(database, client.ear), Metrics(settings, database)
    screen = Screen(Overlook(settings, database, metrics.queue))
    problems.register(app, screen.error, sessions.may_read)
    _machines(app, settings, database, metrics)
    _lists(app, settings, history)
    add_lookups(app, client)
    _events(app, tail, sessions)
    doors.register(app, client, sessions)
    hooks.register(app, client, sessions)
    add_pages(app, screen, history, tail)
    describe(app)
    return app


# -- FOR MONITORS ---
def _machines(app: FastAPI, settings: Settings, database: Database, metrics: Metrics) -> None:
    @app.get("/metrics", tags=["monitoring"])
    def scrape() -> Response:
        """Return every metric, in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", tags=["monitoring"])
    def healthz() -> Response:
        """Say what keeps brokers from taking orders; status 503 only where the record cannot be read."""
        status, said = health(settings, database, metrics)
        return told(said, status)


def health(settings: Settings, database: Database, metrics: Metrics) -> tuple[int, dict[str, object]]:
    """Return an HTTP status and what `/healthz` says.

    `ok` is what `corro fleet --check` says: every configured broker takes orders. A trouble of a broker is no reason to
    take this server away from whoever looks at it, so the status is 503 only where the record cannot be read.
    """
    said: dict[str, object] = {"ok": False, "version": version("corro"), "database": False}
    try:
        seen = look(settings, database)
        remarks = remarks_of_the_record(settings, database)
    except DatabaseUnavailable as error:
        return 503, {**said, "error": str(error)}
    queue = metrics.queue.look()
    if not queue.up:
        remarks.append(queue.words)
    more = {"queue": queue.up, "troubles": seen.troubles, "remarks": remarks}
    return 200, {**said, "ok": not seen.troubles, "database": True, **more}


# -- LISTS ---
def _lists(app: FastAPI, settings: Settings, history: History) -> None:
    filters = Filters(settings, history.database)

    def rows(table: Table, limit: int, since: str | None, until: str | None, **equal: str | None) -> Response:
        chosen = filters.chosen(**equal)
        begin, end = moment("since", since), moment("until", until)
        return told(history.rows(table, limit=limit, since=begin, until=end, **chosen))

    @app.get("/api/v1/orders", tags=["lists"])
    def orders(
        status: Text = None, symbol: Text = None, strategy: Text = None, broker: Text = None, account: Text = None,
        since: Text = None, until: Text = None, limit: Limit = ROWS,
    ) -> Response:  # fmt: skip
        """List orders, newest first: the columns of `v_orders`."""
        return rows(
            v_orders, limit, since, until, status=status, symbol=_upper(symbol), strategy=strategy, broker=broker,
            account=account,
        )  # fmt: skip

    @app.get("/api/v1/orders/{client_order_id:path}", tags=["lists"])
    def order(client_order_id: str) -> Response:
        """Show one order with its attempts, fills and events."""
        return told(history.the_order(client_order_id))

    @app.get("/api/v1/fills", tags=["lists"])
    def fills(
        symbol: Text = None, strategy: Text = None, broker: Text = None, account: Text = None, since: Text = None,
        until: Text = None, limit: Limit = ROWS,
    ) -> Response:  # fmt: skip
        """List executions, newest first: the columns of `v_fills`."""
        return rows(
            v_fills, limit, since, until, symbol=_upper(symbol), strategy=strategy, broker=broker, account=account
        )

    @app.get("/api/v1/attempts", tags=["lists"])
    def attempts(
        outcome: Text = None, symbol: Text = None, strategy: Text = None, broker: Text = None, account: Text = None,
        since: Text = None, until: Text = None, limit: Limit = ROWS,
    ) -> Response:  # fmt: skip
        """List attempts, newest first: the columns of `v_attempts`."""
        return rows(
            v_attempts, limit, since, until, outcome=outcome, symbol=_upper(symbol), strategy=strategy, broker=broker,
            account=account,
        )  # fmt: skip

    @app.get("/api/v1/positions", tags=["lists"])
    def positions() -> Response:
        """List positions as their brokers told them last, each with the time, `taken_at`; asks no broker.

        `error` says of which broker they are old, or not known at all: then a row has its name and nothing else. A
        broker that was read and holds nothing has none; the header `Corro-Positions-Read` says of each broker when it
        was read last. `corro positions` asks them now.
        """
        found = told_positions(history.database, settings)
        answer = told([_placed(row) for row in found.rows])
        answer.headers[READ_HEADER] = ", ".join(f"{name}={_time(at)}" for name, at in found.read_at.items())
        return answer

    @app.get("/api/v1/pnl", tags=["lists"])
    def pnl(
        by: Text = None, symbol: Text = None, strategy: Text = None, broker: Text = None,
        account: Text = None, since: Text = None, until: Text = None, method: Text = None,
        into: Annotated[str | None, Query(alias="in", max_length=8)] = None, limit: Limit = ROWS,
    ) -> Response:  # fmt: skip
        """List what was earned and what it cost, added up, as `corro pnl --json`; `in`: all in one currency."""
        names = [name.strip() for name in (by or "strategy,symbol").split(",") if name.strip()]
        chosen = filters.chosen(symbol=_upper(symbol), strategy=strategy, broker=broker, account=account)
        found = history.pnl(
            names, since=day("since", since), until=day("until", until), method=method, in_=into, **chosen
        )
        return told(found[:limit])

    @app.get("/api/v1/fleet", tags=["lists"])
    def fleet() -> Response:
        """List the workers, as `corro fleet --json`."""
        return told(look(settings, history.database).rows)


def _placed(row: Mapping[str, object]) -> dict[str, object]:
    """Return a position with its broker and its account apart, as `corro positions --json` has them."""
    broker, account = split(str(row["broker"]))
    return {"broker": broker, "account": account, **{name: row[name] for name in row if name != "broker"}}


def _time(at: datetime | None) -> str:
    """Write a time as an item of a structured field (RFC 9651), as lists have it."""
    return "never" if at is None else f'"{encoding.to_json(at)}"'


def _upper(symbol: str | None) -> str | None:
    return symbol and symbol.upper()


# -- EVENTS ---
def _events(app: FastAPI, tail: Tail, sessions: Sessions) -> None:
    @app.get("/api/v1/events", tags=["events"])
    def events(
        request: Request,
        since: Annotated[int | None, BeforeValidator(digits), Query(ge=0, le=_LAST_ID)] = None,
        strategy: Text = None,
        limit: Limit = ROWS,
        last_event_id: Annotated[str | None, Header()] = None,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        """Return events by rising ids, none left out: as a list, or, asked for text/event-stream, as they happen.

        It goes on behind `Last-Event-ID`, else behind `since`. Without either a stream begins with what is yet to come,
        and a list has the newest. A place that no event has had is refused: what comes there would not be what follows.
        """
        place = since if last_event_id is None else _event_id(last_event_id)
        must_have_been(tail.database, place or 0)
        if "text/event-stream" in accept:
            lines = _told(tail, place, strategy, partial(sessions.may_go_on, visitor_of(request)))
            return StreamingResponse(lines, media_type="text/event-stream")
        stream = EventStream(tail.database, place or 0, strategy)
        if place is None:
            stream.latest(limit)
        return told(stream.look()[:limit])


def _event_id(text: str) -> int:
    """Read a Last-Event-ID.

    Raises:
        InvalidRequest: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_LAST_ID))):
        raise InvalidRequest(f"Last-Event-ID: must be the id of an event, was {text!r:.100}")
    return int(text)


async def _told(
    tail: Tail, since: int | None, strategy: str | None, may_go_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Write events as server-sent events, until a key is good no more; a sign of life keeps proxies from hanging up."""
    yield b"retry: 2000\n\n"
    seen = time.monotonic()
    async for found in tail.follow(since, strategy):
        if time.monotonic() - seen > _KEY_SEEN_S:
            seen = time.monotonic()
            if not await asyncio.to_thread(may_go_on):
                return
        yield b"".join(map(_sse, found)) or b": alive\n\n"


def _sse(event: EventRow) -> bytes:
    row: Mapping[str, object] = event
    return b"id: %d\ndata: %s\n\n" % (event["id"], encoding.dumps_printable(untold(encoding.to_json(row))))
