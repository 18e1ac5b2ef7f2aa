"""What a request says: the names in its address, and its body, somebody else's JSON or the fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.routing import APIRoute

from models import encoding
from models.errors import InvalidRequest
from models.explaining import shown
from models.troubles import trouble

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
#: Fields of a form.
_MOST_FIELDS = 50
#: Monitors put words of their own behind these, such as the time; nothing is chosen there.
_HEARS_ALL = ("/metrics", "/healthz")


def must_be_heard(request: Request) -> None:
    """See that a route hears everything that its address says: a filter or a scope that is not heard means all.

    Raises:
        InvalidRequest: a name behind the `?` is none of the route's, or stands there twice; for a program also one
            without a value, which only a page's form sends.
    """
    route, given = request.scope.get("route"), [name for name, _ in request.query_params.multi_items()]
    if not given or not isinstance(route, APIRoute) or route.path in _HEARS_ALL:
        return
    known = sorted(field.alias for field in route.dependant.query_params)
    for name in given:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "what is asked stands in the body"
            where = f"{request.method} {request.url.path}"
            raise InvalidRequest(f"{name!r:.100} in the address is nothing that {where} knows; {there}")
        if given.count(name) > 1:
            raise InvalidRequest(f"{name}: stands twice in the address; several words go with commas between")
        if route.path.startswith("/api/") and not request.query_params[name].strip():
            raise InvalidRequest(f"{name}: is blank; leave it out where everything is meant")


def filled_in(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a page's form that somebody has filled in: pure."""
    return {name: value for name, value in fields.items() if not isinstance(value, str) or value.strip()}


def is_form(request: Request) -> bool:
    """Tell whether a browser has sent a form."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


def json_object(body: bytes, came_as: str | None = JSON) -> dict[str, object]:
    """Read a JSON object, exactly: a name given twice has no value, and no number is rounded.

    Args:
        body: as it came; JSON is read whatever it was called.
        came_as: its Content-Type, for the words where it is no JSON; None: it had none.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        found = encoding.exactly(body)
    except (ValueError, RecursionError) as error:
        words = "the body must be JSON" + (f": {error}" if body.strip() else ", and is empty")
        raise InvalidRequest(f"{words}{_called(came_as)}") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"the body must be a JSON object, was {shown(found)}")
    return found


def _called(came_as: str | None) -> str:
    """Say what a body that is no JSON was called; nothing where it was called JSON."""
    kind = (came_as or "").partition(";")[0].strip().lower()
    if kind == JSON or kind.endswith("+json"):
        return ""
    named = f"it came as Content-Type {kind[:100]!r}" if kind else "it came without a Content-Type"
    return f"; {named}: send a JSON object with 'Content-Type: {JSON}'"


async def content_of(request: Request) -> dict[str, object]:
    """Read the fields of a form, or a JSON object; none where there is no body.

    Raises:
        InvalidRequest: it is neither, or has a field twice.
    """
    body = await request.body()
    if not is_form(request):
        return json_object(body, request.headers.get("content-type")) if body else {}
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise InvalidRequest(f"the body must be the fields of a form: {trouble(error)}") from None
    found = dict[str, object](pairs)
    if len(found) < len(pairs):
        raise InvalidRequest("a field stands in the form twice")
    return found
