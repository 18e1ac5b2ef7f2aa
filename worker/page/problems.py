"""Errors as problem documents (RFC 9457): `code` is the Python class in snake case, as a strategy in Python sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from models import encoding
from models.errors import (
    CorroError,
    DatabaseUnavailable,
    DataError,
    IdempotencyConflict,
    InvalidOrder,
    InvalidRequest,
    NotFound,
    QueueUnavailable,
    Untrusted,
)
from models.explaining import explained
from models.outward import untold

PROBLEM = "application/problem+json"


class NotAuthenticated(CorroError):
    """Nobody knows who asks.

    Args:
        code: why a key that was shown is good no more: key_revoked, key_expired.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class TooManyTries(CorroError):
    """Tokens that nobody has were shown too often from one address.

    Args:
        retry_after: seconds.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CrossSite(CorroError):
    """A browser was made to ask by a page that is not ours."""


class BodyTooLarge(CorroError):
    """A request has more bytes than anything that is asked here."""


class BodyTooSlow(CorroError):
    """A request did not arrive in time."""


#: The first class that fits decides.
STATUSES: tuple[tuple[type[CorroError], int], ...] = (
    (NotFound, 404), (NotAuthenticated, 401), (TooManyTries, 429), (CrossSite, 403), (BodyTooLarge, 413),
    (BodyTooSlow, 408), (Untrusted, 403), (IdempotencyConflict, 422), (InvalidOrder, 422), (InvalidRequest, 400),
    (DatabaseUnavailable, 503), (QueueUnavailable, 503), (DataError, 503), (CorroError, 500),
)  # fmt: skip


def answer(error: CorroError) -> Response:
    """Return an error as it is told."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    code = getattr(error, "code", None)
    more = {} if code is None else {"reason_code": str(code)}
    headers = dict[str, str]()
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="corro"'
    if isinstance(error, TooManyTries):
        headers["Retry-After"] = str(round(error.retry_after) or 1)
    if status in (408, 413):
        headers["Connection"] = "close"  # what is left of the request is not read
    return document(type(error).__name__, status, str(error), more, headers)


def document(
    title: str, status: int, detail: str, more: Mapping[str, object] = {}, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a problem document.

    Args:
        title: the name of a class.
        status: of HTTP.
        detail: a sentence for a person.
        more: members beside those of the standard.
        headers: of the answer.
    """
    code = re.sub(r"(?<!^)(?=[A-Z])", "_", title).lower()
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **more}
    return Response(encoding.dumps_printable(untold(told)), status, headers, PROBLEM)


def _apart(name: str) -> str:
    """Write the name of a class as words."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).capitalize()


def wants_page(request: Request) -> bool:
    """Tell whether a person's browser asks for something to look at."""
    return "text/html" in request.headers.get("accept", "")


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Return what may be done to a path: each of its methods is a route of its own."""
    routes = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    found = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def register(
    app: FastAPI, page: Callable[[Request, int, str, str], Response], may_read: Callable[[Request], bool]
) -> None:
    """Let every error of an application be told so; a person's browser gets a page instead.

    Args:
        app: the application.
        page: makes it, of status, title and a sentence; it says how everything stands, too.
        may_read: tells whether whoever asks may see that.
    """

    def told(request: Request, problem: Response, title: str, words: str) -> Response:
        machine = not wants_page(request) or request.url.path.startswith(("/api/", "/static/", "/hooks/"))
        request.state.may_read = may_read(request)
        if machine or not request.state.may_read:
            return problem
        shown = page(request, problem.status_code, title, words)
        shown.headers.update({k: v for k, v in problem.headers.items() if k not in ("content-length", "content-type")})
        return shown

    @app.exception_handler(CorroError)
    def ours(request: Request, error: CorroError) -> Response:
        if isinstance(error, NotAuthenticated) and request.method == "GET" and wants_page(request):
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(back, safe='')}", 303)
        return told(request, answer(error), _apart(type(error).__name__), str(error))

    @app.exception_handler(HTTPException)
    def of_the_server(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        problem = document(phrase.title().replace(" ", ""), error.status_code, str(error.detail), headers=headers)
        return told(request, problem, phrase, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(RequestValidationError)
    def of_a_parameter(request: Request, error: RequestValidationError) -> Response:
        words = explained({**item, "loc": tuple(item["loc"])[-1:]} for item in error.errors())
        return told(request, document("InvalidRequest", 422, words), "Invalid request", words)

    @app.exception_handler(Exception)
    def unforeseen(_: Request, error: Exception) -> Response:
        return document("InternalServerError", 500, f"a defect of corro, {type(error).__name__}; its log has more")
