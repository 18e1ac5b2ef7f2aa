"""What stands in the body of a request: JSON as somebody else wrote it, or the fields of a form."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from models import encoding
from models.errors import InvalidRequest

FORM = "application/x-www-form-urlencoded"
#: Fields of a form.
_MOST_FIELDS = 50


def is_form(request: Request) -> bool:
    """Tell whether a browser has sent a form."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


def json_object(body: bytes) -> dict[str, object]:
    """Read a JSON object, exactly: a name given twice has no value, and no number is rounded.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        found = encoding.exactly(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body must be JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"the body must be a JSON object, was {found!r:.100}")
    return found


async def content_of(request: Request) -> dict[str, object]:
    """Read the fields of a form, or a JSON object; none where there is no body.

    Raises:
        InvalidRequest: it is neither, or has a field twice.
    """
    body = await request.body()
    if not is_form(request):
        return json_object(body) if body else {}
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise InvalidRequest(f"the body must be the fields of a form: {error}") from None
    found = dict[str, object](pairs)
    if len(found) < len(pairs):
        raise InvalidRequest("a field stands in the form twice")
    return found
