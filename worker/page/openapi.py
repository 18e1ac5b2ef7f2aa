"""What `/api/openapi.json` says: FastAPI's own description, completed by tables, so that a program can rely on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI

from models.messages import OrderRequest
from worker.page.actions import ACTIONS
from worker.page.problems import PROBLEM

Schema = dict[str, object]

#: Header of positions: when each broker was read last.
READ_HEADER = "Corro-Positions-Read"

_TEXT: Schema = {"type": "string"}
_ROW: Schema = {"type": "object"}
_ROWS: Schema = {"type": "array", "items": _ROW}
_ORDER: Schema = {"$ref": "#/components/schemas/Order"}
_PROBLEM: Schema = {"$ref": "#/components/schemas/Problem"}
_WORDS = {
    400: "The request makes no sense as it is.", 401: "A key's token is needed, or this one is nobody's.",
    403: "The key is not good for this, or another site's page asks.", 404: "There is no such thing.",
    408: "The body did not arrive in time.", 413: "The body is too large.",
    422: "A value does not fit, the id is another order's, or our own rules refuse the order.",
    429: "Too many wrong tokens from this address.",
    503: "The record cannot be reached and nothing was recorded, or no broker has answered.",
}  # fmt: skip
_READ_AT = 'When each broker was read last, a dictionary of RFC 9651: alpaca="2026-01-05T14:30:00.000000Z", ibkr=never.'
_READ = (400, 401, 422, 429, 503)
_WRITE = (400, 401, 403, 408, 413, 422, 429, 503)

#: (path, method) -> what is answered where it goes well, by status and media type; and the problems there may be.
_ANSWERS: dict[tuple[str, str], tuple[dict[int, dict[str, Schema]], Iterable[int]]] = {
    ("/metrics", "get"): ({200: {"text/plain": _TEXT}}, (400, 401, 429)),
    ("/healthz", "get"): ({200: {"application/json": _ROW}, 503: {"application/json": _ROW}}, (400, 401, 429)),
    **{
        (f"/api/v1/{name}", "get"): ({200: {"application/json": _ROWS}}, _READ)
        for name in ("orders", "fills", "attempts", "positions", "pnl", "fleet")
    },
    ("/api/v1/instruments", "get"): ({200: {"application/json": _ROWS}}, (*_READ, 404)),
    ("/api/v1/events", "get"): ({200: {"application/json": _ROWS, "text/event-stream": _TEXT}}, _READ),
    ("/api/v1/orders/{client_order_id}", "get"): ({200: {"application/json": _ROW}}, (*_READ, 404)),
    ("/api/v1/orders", "post"): ({200: {"application/json": _ROW}, 201: {"application/json": _ROW}}, _WRITE),
    ("/api/v1/orders/{client_order_id}", "delete"): ({202: {"application/json": _ROW}}, (*_WRITE, 404)),
    ("/api/v1/session", "get"): ({200: {"application/json": _ROW}}, _READ),
    ("/api/v1/actions/{name}", "post"): ({200: {"application/json": _ROW}, 303: {}}, (*_WRITE, 404)),
    ("/login", "post"): ({200: {"application/json": _ROW}, 303: {}}, _WRITE),
    ("/logout", "post"): ({204: {}, 303: {}}, _WRITE),
    ("/hooks/tradingview/{token}", "post"): ({202: {"application/json": _ROW}}, _WRITE),
}


def _fields(names: Iterable[str], needed: Iterable[str]) -> Schema:
    return {
        "type": "object",
        "properties": {name: {"type": ["string", "boolean"]} for name in sorted(names)},
        "required": sorted(needed),
    }


_FORM = _fields({"csrf", "next", "reason"} | set[str]().union(*(a.fields for a in ACTIONS.values())), ["reason"])
_LOGIN = _fields(("token", "next"), ["token"])
#: Bodies by path: media type -> schema.
_BODIES: dict[str, dict[str, Schema]] = {
    "/api/v1/orders": {"application/json": {"anyOf": [_ORDER, {"$ref": "#/components/schemas/Signed"}]}},
    "/api/v1/actions/{name}": {"application/json": _FORM, "application/x-www-form-urlencoded": _FORM},
    "/login": {"application/json": _LOGIN, "application/x-www-form-urlencoded": _LOGIN},
    "/hooks/tradingview/{token}": {"application/json": _ROW, "text/plain": _ROW},
}
_SCHEMAS: dict[str, Schema] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457; `code` is the Python class in snake case.",
        "properties": {
            "type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT, "code": _TEXT,
            "reason_code": {"type": ["string", "null"]}, "order": _ROW,
        },
        "required": ["type", "title", "status", "detail", "code"],
    },
    "Signed": {
        "type": "object",
        "description": "An order object as JSON text, which a key has signed.",
        "properties": {"signed": _TEXT, "key": _TEXT, "sig": _TEXT, "deployment": _TEXT},
        "required": ["signed", "key", "sig"],
        "additionalProperties": False,
    },
}  # fmt: skip
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of `corro keys add --alg token`."},
    "session": {"type": "apiKey", "in": "cookie", "name": "corro", "description": "Of /login; with X-CSRF-Token."},
}


def describe(app: FastAPI) -> None:
    """Have the description of an application completed when somebody first asks for it."""
    plain, whole = app.openapi, dict[str, object]()

    def openapi() -> dict[str, object]:
        if not whole:
            whole.update(_whole(plain()))
        return whole

    app.openapi = openapi  # type: ignore[method-assign]


def _whole(found: Mapping[str, Any]) -> dict[str, object]:
    document = dict(found)
    order = OrderRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    shared = order.pop("$defs", {})
    schemas = {**shared, "Order": order, **_SCHEMAS}
    document["components"] = {"schemas": schemas, "securitySchemes": _SECURITY}
    document["paths"] = {
        path.replace(":path}", "}"): {
            method: _completed(path.replace(":path}", "}"), method, dict(operation))
            for method, operation in operations.items()
        }
        for path, operations in found["paths"].items()
    }
    return document


def _completed(path: str, method: str, operation: dict[str, object]) -> dict[str, object]:
    if (path, method) not in _ANSWERS:
        return operation
    good, problems = _ANSWERS[path, method]
    answers: dict[str, object] = {str(status): _problem(status) for status in problems}
    for status, content in good.items():
        answers[str(status)] = _told(content)
    if path == "/api/v1/positions":
        answers["200"] = {**_told(good[200]), "headers": {READ_HEADER: {"schema": _TEXT, "description": _READ_AT}}}
    operation["responses"] = answers
    if method == "post" and path in _BODIES:
        operation["requestBody"] = {"required": True, "content": _content(_BODIES[path])}
    if method != "get" and not path.startswith(("/hooks/", "/login")):
        operation["security"] = [{"token": []}, {"session": []}]
    if (path, method) == ("/api/v1/orders", "post"):
        operation["parameters"] = [
            {"name": "Idempotency-Key", "in": "header", "required": True, "description": "The client_order_id.",
             "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:+/=@#-]{0,63}$"}}
        ]  # fmt: skip
    return operation


def _told(content: Mapping[str, Schema]) -> dict[str, object]:
    return {"description": "As asked.", "content": _content(content)}


def _content(kinds: Mapping[str, Schema]) -> dict[str, object]:
    return {kind: {"schema": schema} for kind, schema in kinds.items()}


def _problem(status: int) -> dict[str, object]:
    return {"description": _WORDS[status], "content": _content({PROBLEM: _PROBLEM})}
