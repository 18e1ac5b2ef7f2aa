"""The pages for people: rendered here, complete without JavaScript, and kept as they are now by page.js with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BeforeValidator
from starlette.staticfiles import StaticFiles

from models.clock import utcnow
from models.destinations import BETWEEN
from models.errors import DatabaseUnavailable, InvalidRequest
from models.history import History, v_orders
from models.history.blotter import Choice, Listed, blotter
from models.vocabulary import OPEN, Status
from producers.cli.app import moment
from producers.cli.export import as_csv
from worker.page import sights
from worker.page.chosen import Filters, digits
from worker.page.course import bars, course, stake
from worker.page.doors import own_path
from worker.page.overview import Overlook, Overview
from worker.page.sessions import visitor_of
from worker.page.shared import Shared
from worker.page.tail import Tail
from worker.page.templating import address, environment

#: The pages in the order of their links.
PAGES = (("/", "Orders"), ("/attention", "Attention"), ("/fleet", "Fleet"), ("/risk", "Risk"), ("/pnl", "P&L"))
#: Statuses to choose from: all, those that have not ended, each one.
_STATUSES = ("", "open", *map(str, Status))
_GROUPS = ("strategy,symbol", "strategy", "symbol", "broker", "day", "month")
_SPANS = (("1d", "yesterday"), ("7d", "7 days"), ("30d", "30 days"), ("365d", "a year"))
_AMOUNTS = (
    ("realized", "Realized", "money"), ("unrealized", "Unrealized", "money"), ("fees", "Fees", "money"),
    ("fees_missing", "Fees not known of", "number"), ("currency", "Currency", ""),
)  # fmt: skip
#: Seconds between two words of the stream that something has changed, and between two looks of a page without any.
_CHANGES_S, _EVERY_S = 1.0, 3
#: Header by which a page that is open asks for itself again.
_AGAIN = "corro-again"
#: Rows where nobody says how many, and at most; and of each table of profit and positions.
ROWS, MOST_ROWS, SUMS = 50, 1000, 200

Text = Annotated[str, Query(max_length=128)]
#: Makes a function what an address answers with.
Get = Callable[[str], Callable[[Callable[..., object]], object]]
Limit = Annotated[int, BeforeValidator(digits), Query(ge=1, le=MOST_ROWS)]


class Login(NamedTuple):
    """An operator whose browser asks.

    Args:
        owner: of the key: the name in journals.
        csrf: goes into every form.
        may_operate, may_approve: what the key is good for.
        take_notice: returns what the last action has told, once.
    """

    owner: str
    csrf: str
    may_operate: bool
    may_approve: bool
    take_notice: Callable[[], str]


def login_of(request: Request) -> Login | None:
    """Return who has logged in; None where nobody has, or a token came with the request: no form is for that."""
    visitor = visitor_of(request)
    if visitor is None or (session := visitor.session) is None:
        return None
    operates = visitor.may_operate
    return Login(visitor.owner, session.csrf, operates, operates or visitor.key["may_approve"], session.take_notice)


#: What a page has to show beside how everything stands.
Told = Mapping[str, object]


class Screen:
    """Renders pages around how everything stands.

    Args:
        overlook: reads that.
    """

    def __init__(self, overlook: Overlook) -> None:
        self.overlook, self.settings = overlook, overlook.settings
        self._templates, self._version, self._shared = environment(), version("corro"), Shared()

    def live(self, request: Request, template: str, title: str, read: Callable[[], Told]) -> HTMLResponse:
        """Render a page of what is read for its address: once for all who have it open, anew for who comes to it."""
        return self._live(request, template, title, lambda: (utcnow(), read()), self._notice(request), None)

    def standing(self, request: Request, template: str, title: str, read: Callable[[Overview], Told]) -> HTMLResponse:
        """Render a page that is made of how everything stands, and is as old as that: likewise."""
        notice, now = self._notice(request), self.overlook.now(anew=_AGAIN not in request.headers)
        return self._live(request, template, title, lambda: (now.at, read(now)), notice, now)

    def _live(
        self, request: Request, template: str, title: str, read: Callable[[], tuple[datetime, Told]], notice: str,
        made_of: Overview | None,
    ) -> HTMLResponse:  # fmt: skip
        key, is_open = f"{request.url.path}?{request.url.query}", _AGAIN in request.headers
        at, told = self._shared.get(key, read, anew=not is_open, made_of=made_of)
        return self.show(request, template, title, told, at=at, notice=notice)

    def _notice(self, request: Request) -> str:
        """Take what the last action has told; what is shown beside it is read anew."""
        login = login_of(request)
        notice = login.take_notice() if login else ""
        if notice:
            self.overlook.forget()
            self._shared.forget()
        return notice

    def show(
        self, request: Request, template: str, title: str, told: Told, status: int = 200, *,
        at: datetime | None = None, notice: str | None = None,
    ) -> HTMLResponse:  # fmt: skip
        """Render a page; one that tells of an error does so also where nobody can say how everything stands.

        Args:
            request: who asks for what.
            template: its name.
            title: of the page.
            told: what the template needs.
            status: of HTTP.
            at: when that was read; None for now.
            notice: what the last action has told; None where it has to be asked for.
        """
        login = login_of(request)
        notice = self._notice(request) if notice is None else notice
        overview = self._overview(status) if getattr(request.state, "may_read", False) else None
        moments = [*([overview.at] if overview else []), *([at] if at else [])]
        text = self._templates.get_template(template).render(
            title=title, stake=stake(self.settings), pages=PAGES, here=request.url.path, overview=overview,
            now=min(moments, default=utcnow()), every=_EVERY_S, version=self._version,
            address=address(request.url.path, dict(request.query_params)), login=login, notice=notice,
            login_link="" if login else address("/login", {"next": request.url.path}),
            configured=list(self.settings.all_brokers), **told,
            accounts=[place for place in self.settings.destinations if BETWEEN in place],
        )  # fmt: skip
        return HTMLResponse(text, status)

    def error(self, request: Request, status: int, title: str, detail: str) -> HTMLResponse:
        """Render what went wrong, for a person."""
        return self.show(request, "error.html", title, {"detail": detail, "advice": _ADVICE.get(status, ())}, status)

    def _overview(self, status: int) -> Overview | None:
        try:
            return self.overlook.now()
        except DatabaseUnavailable:
            if status < 400:
                raise
            return None


_ADVICE = {
    503: (
        "While the record is away nothing is claimed and nothing is sent; what is live at the brokers stays live.",
        "Put the right database back, and everything goes on by itself: docs/operations.md, The database is gone.",
    ),
}


def add_pages(app: FastAPI, screen: Screen, history: History, tail: Tail) -> None:
    """Add the pages to the server, and the stream that tells them of changes."""
    # Not by a router of their own: what may be done to a page (405) is read off the application's routes.
    get: Get = partial(app.get, include_in_schema=False, response_class=HTMLResponse)
    _orders(get, screen, history)
    _others(get, screen, history)

    @get("/login")
    def login(request: Request, failed: Text = "", next: Annotated[str, Query(max_length=500)] = "/") -> Response:
        """Ask an operator for a token."""
        return screen.show(request, "login.html", "Log in", {"failed": bool(failed), "next": own_path(next)})

    @get("/changes")
    def changes() -> Response:
        return StreamingResponse(_changes(tail), media_type="text/event-stream")

    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")


async def _changes(tail: Tail) -> AsyncIterator[bytes]:
    """Say that something was committed, at most once a second: a page then asks for itself anew."""
    yield b"retry: 2000\n\n"
    async for newest in tail.changes(_CHANGES_S):
        yield b": alive\n\n" if newest is None else b"data: %d\n\n" % newest


# -- ORDERS ---
def _orders(get: Get, screen: Screen, history: History) -> None:
    brokers, filters = sorted(screen.settings.all_brokers), Filters(screen.settings, history.database)

    @get("/")
    def orders(
        request: Request, status: Text = "", broker: Text = "", symbol: Text = "", strategy: Text = "", q: Text = "",
        since: Text = "", until: Text = "", before: Text = "", limit: Limit = ROWS,
    ) -> Response:  # fmt: skip
        """Show the blotter."""
        asked = {"status": status, "broker": broker, "symbol": symbol, "strategy": strategy, "q": q}
        place = {"since": since, "until": until, "before": before}
        choice = _choice(filters, asked, place, limit)
        given = {**asked, **place, "limit": "" if limit == ROWS else limit}

        def read() -> Told:
            page = blotter(history.database, choice, brokers)
            return {
                "asked": asked, "page": page, "limit": limit, "csv": address("/orders.csv", given),
                "older": page.older and address("/", {**given, "before": _written(page.older)}),
                "statuses": _STATUSES if status in _STATUSES else (status, *_STATUSES), "brokers": ["", *brokers],
            }  # fmt: skip

        return screen.live(request, "blotter.html", "Orders", read)

    @get("/orders.csv")
    def csv(
        status: Text = "", broker: Text = "", symbol: Text = "", strategy: Text = "", q: Text = "",
        since: Text = "", until: Text = "", before: Text = "", limit: Limit = ROWS,
    ) -> Response:  # fmt: skip
        """Return what the blotter shows as a file."""
        asked = {"status": status, "broker": broker, "symbol": symbol, "strategy": strategy, "q": q}
        choice = _choice(filters, asked, {"since": since, "until": until, "before": before}, limit)
        text = as_csv(blotter(history.database, choice, brokers).rows, v_orders)
        named = {"Content-Disposition": 'attachment; filename="orders.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=named)

    @get("/orders/{client_order_id:path}")
    def order(request: Request, client_order_id: str) -> Response:
        """Show one order."""
        found = history.the_order(client_order_id)
        stretches = course(found, found["attempts"], found["fills"])
        told = {
            "order": found, "stretches": stretches, "bars": bars(stretches), "events": sights.steps(found["events"]),
            "total_ms": sum(stretch.ms for stretch in stretches),
        }  # fmt: skip
        told |= _to_do(login_of(request), found, screen.overlook.now())
        return screen.show(request, "order.html", f"Order {client_order_id}", told)


def _to_do(login: Login | None, order: Mapping[str, object], overview: Overview) -> dict[str, bool]:
    """Return what somebody who has logged in may do about an order."""
    operates, status = login is not None and login.may_operate, str(order["status"])
    unknown = {row["client_order_id"] for row in overview.unknown}
    return {
        "may_cancel": operates and status in OPEN,
        "may_approve": login is not None and login.may_approve and status == Status.HELD,
        "unresolved": operates and order["client_order_id"] in unknown,
    }


def _choice(filters: Filters, asked: Mapping[str, str], place: Mapping[str, str], limit: int) -> Choice:
    """Read what a request asks for.

    Raises:
        InvalidRequest: a status or a broker that there is not, or a time or a place that is none.
    """
    words = {name: asked[name].strip() for name in ("status", "broker")}
    found = {name: filters.read(name, text) for name, text in words.items() if text}
    if len(brokers := found.get("broker", [])) > 1:
        raise InvalidRequest(f"broker: must be one broker, was {words['broker']!r}")
    return Choice(
        statuses=tuple(found.get("status", ())),
        broker=next(iter(brokers), None),
        strategy=asked["strategy"].strip() or None,
        symbol=asked["symbol"].strip().upper() or None,
        text=asked["q"].strip() or None,
        since=moment("since", place["since"] or None),
        until=moment("until", place["until"] or None),
        before=_read(place["before"]) if place["before"] else None,
        limit=limit,
    )


def _written(place: Listed) -> str:
    return f"{place.at.isoformat()}~{place.client_order_id}"


def _read(text: str) -> Listed:
    at, _, id_ = text.partition("~")
    with suppress(ValueError):
        when = datetime.fromisoformat(at)
        if when.tzinfo is not None:
            return Listed(when, id_)
    raise InvalidRequest(f"before: must be a time with a zone and an id, with ~ between, was {text!r}")


# -- THE OTHERS ---
def _others(get: Get, screen: Screen, history: History) -> None:
    overlook, database, settings = screen.overlook, history.database, screen.settings

    @get("/attention")
    def attention(request: Request) -> Response:
        """Show what needs a person."""

        def read(now: Overview) -> Told:
            return {"unresolved": overlook.unresolved(now), **sights.attention(history, settings, now)}

        return screen.standing(request, "attention.html", "What needs a person", read)

    @get("/fleet")
    def fleet(request: Request) -> Response:
        """Show workers, brokers, and what is stopped."""
        return screen.standing(request, "fleet.html", "Fleet", lambda now: sights.fleet(database, settings, now))

    @get("/risk")
    def risk(request: Request) -> Response:
        """Show limits and their use."""
        return screen.standing(request, "risk.html", "Risk", lambda now: sights.risk(history, settings, now))

    @get("/pnl")
    def pnl(request: Request, by: Text = _GROUPS[0], since: Text = "7d", limit: Limit = SUMS) -> Response:
        """Show what was earned; of many rows the first, which a browser can show, and of how many."""
        names = [name.strip() for name in by.split(",") if name.strip()]
        begin = moment("since", since)

        def read() -> Told:
            profit = history.pnl(names, since=begin)
            return {
                "by": by, "since": since, "profit": profit, "limit": limit, "spans": _SPANS,
                "method": history.lots(None),
                "columns": [*((name, name.capitalize(), "") for name in names), *_AMOUNTS],
                "groups": _GROUPS if by in _GROUPS else (by, *_GROUPS),
                "missing": sum(row["fees_missing"] for row in profit), **sights.holdings(history, settings),
            }  # fmt: skip

        return screen.live(request, "pnl.html", "Profit and loss", read)
