"""The routes that change something: orders, what operators do, login and logout."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from models import encoding
from models.errors import CorroError, Untrusted
from models.outward import untold
from producers.client import OrderClient
from worker.page.actions import act
from worker.page.asking import content_of, filled_in, is_form, json_object
from worker.page.order_door import OrderDoor, Placed
from worker.page.problems import NotAuthenticated, document, wants_page
from worker.page.sessions import Sessions, known, visitor_of


def register(app: FastAPI, client: OrderClient, sessions: Sessions) -> None:
    """Add the routes."""
    _orders(app, OrderDoor(client))
    _logins(app, sessions)
    _actions(app, client)


def told(value: object, status: int = 200) -> Response:
    """Return rows, or one, as the commands print them with `--json`."""
    return Response(encoding.dumps_printable(untold(encoding.to_json(value))), status, media_type="application/json")


# -- ORDERS ---
def _orders(app: FastAPI, door: OrderDoor) -> None:
    @app.post("/api/v1/orders", tags=["orders"], status_code=201)
    async def submit(request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        """Submit an order object, in the name of the token's key, or signed."""
        raw = await request.body()
        visitor = visitor_of(request) if b'"signed"' in raw else known(request)
        body = json_object(raw, request.headers.get("content-type"))
        return _answer(await run_in_threadpool(door.submit, visitor, idempotency_key, body))

    @app.delete("/api/v1/orders/{client_order_id:path}", tags=["orders"], status_code=202)
    def cancel(request: Request, client_order_id: str) -> Response:
        """Ask for a cancel; a fill may still win."""
        return told(door.cancel(known(request), client_order_id), 202)


def refusal(placed: Placed) -> Response:
    """Return what is answered of an order that our own rules have ended: why, and the order."""
    row = placed.row
    more = {"reason_code": row["reason_code"], "order": encoding.to_json(row)}
    return document("Denied", 422, str(row["reason"]), more)


def _answer(placed: Placed) -> Response:
    row = placed.row
    if placed.is_refused:
        return refusal(placed)
    response = told(row, 201 if placed.is_new else 200)
    response.headers["Location"] = f"/api/v1/orders/{quote(str(row['client_order_id']), safe='')}"
    return response


# -- LOGIN ---
def _logins(app: FastAPI, sessions: Sessions) -> None:
    @app.post("/login", tags=["login"])
    async def login(request: Request) -> Response:
        """Begin a session by an operator's `token`, which a cookie carries on; a browser goes to `next`."""
        content = await content_of(request)
        back = own_path(content.get("next"))
        try:
            session, cookie = await run_in_threadpool(sessions.login, request, str(content.get("token", "")).strip())
        except (NotAuthenticated, Untrusted):
            if wants_page(request):
                return RedirectResponse(f"/login?failed=1&next={quote(back, safe='')}", 303)
            raise
        told_ = {"key_id": session.key_id, "csrf": session.csrf}
        response = RedirectResponse(back, 303) if wants_page(request) else told(told_)
        sessions.set_cookie(request, response, cookie)
        return response

    @app.post("/logout", tags=["login"])
    def logout(request: Request) -> Response:
        """End the session."""
        sessions.logout(request)
        response = RedirectResponse("/", 303) if wants_page(request) else Response(status_code=204)
        sessions.set_cookie(request, response, None)
        return response

    @app.get("/api/v1/session", tags=["login"])
    def session(request: Request) -> Response:
        """Tell whose token or session this is; `csrf` belongs into each request that changes something by a cookie."""
        visitor = known(request)
        key = visitor.key
        names = ("key_id", "owner", "operator", "may_approve", "strategies", "symbols", "brokers", "may_cancel")
        csrf = None if visitor.session is None else visitor.session.csrf
        return told({**{name: key[name] for name in names}, "csrf": csrf})  # type: ignore[literal-required]


def own_path(value: object) -> str:
    """Return a path of this server to go to; another site's, or none, is the first page."""
    text = value if isinstance(value, str) else ""
    own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    return text if own and text.isascii() else "/"


# -- WHAT OPERATORS DO ---
def _actions(app: FastAPI, client: OrderClient) -> None:
    @app.post("/api/v1/actions/{name}", tags=["operators"])
    async def action(request: Request, name: str) -> Response:
        """Cancel, approve, deny, resolve, unlock, halt, reduce, drain, resume or kill, with a reason."""
        visitor = known(request)
        content = await content_of(request)
        if not is_form(request) or visitor.session is None:
            return told(await run_in_threadpool(act, client, visitor, name, content))
        content = filled_in(content)
        if not wants_page(request):
            return told(await run_in_threadpool(act, client, visitor, name, content))
        try:
            done = await run_in_threadpool(act, client, visitor, name, content)
            visitor.session.notice = str(done["words"])
        except CorroError as error:
            visitor.session.notice = f"not done: {error}"
        return RedirectResponse(own_path(content.get("next")), 303)
