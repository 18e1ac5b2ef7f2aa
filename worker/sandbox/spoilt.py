"""Answers that are none: noise, half of one, floods without an end. What was asked has been done, or not, before."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from worker.sandbox.faults import Fault

#: Kinds of fault that spoil an answer.
SPOILERS = ("garbage", "half_reply", "flood")
#: An answer of `garbage`: neither JSON nor text.
NOISE = b'\x00\xff{"id": \xc3("'
#: Ways of a `flood`: a few bytes that unpack to gigabytes, a body without an end, one that drips, one header line or
#: one size of a chunk without an end, and interim answers for ever.
FLOODS = ("gzip", "endless", "drip", "header", "chunk", "continue")
_PIECE = 2**16
#: Seconds between two drops.
_DRIP_S = 0.01


async def spoil(fault: Fault, request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """Answer with bytes that are no JSON, with the first part of an answer and a cut, or with a flood."""
    if fault.kind == "flood":
        return await _flood(request, str(fault.options.get("way", "endless")))
    if fault.kind == "garbage" or not isinstance(answer, web.Response):
        return web.Response(status=answer.status, body=NOISE, content_type="application/json")
    return _cut_short(request, answer, float(fault.options.get("share", 0.5)))


async def halve(request: web.Request, response: web.StreamResponse, *, cut: bool) -> web.StreamResponse:
    """Answer with the first half; the rest is lost on its way, or was never written."""
    body = bytes(getattr(response, "body", b"") or b"")
    half = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    half.content_length = len(body) if cut else len(body) // 2
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if cut and request.transport is not None:
        request.transport.close()
    return half


def spoil_row(fault: Fault, response: web.StreamResponse) -> web.StreamResponse:
    """Change one field of one row of an answer; the first list in it holds the rows, or the answer itself is one."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    document = json.loads(response.body)
    lists = [document] if isinstance(document, list) else [v for v in document.values() if isinstance(v, list) and v]
    rows = lists[0] if lists else [document]
    index = int(fault.options.get("index", 0))
    if index < len(rows) and isinstance(rows[index], dict):
        rows[index][str(fault.options["field"])] = fault.options.get("value")
    return web.json_response(document, status=response.status)


def _cut_short(request: web.Request, response: web.Response, share: float) -> web.StreamResponse:
    """Send the first part of an answer, headers included, and close the connection as if that were all."""
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    whole = f"HTTP/1.1 {response.status} {web_reason(response.status)}\r\n{head}\r\n".encode() + body
    if isinstance(request.transport, asyncio.Transport):
        request.transport.write(whole[: int(len(whole) * share)])
        request.transport.close()
    return web.Response(status=503)  # never sent: the connection is gone


async def _flood(request: web.Request, way: str) -> web.StreamResponse:
    """Write until the client has had enough."""
    transport = request.transport
    assert isinstance(transport, asyncio.Transport)
    for piece in _pieces(way):
        if transport.is_closing():
            break
        transport.write(piece)
        await asyncio.sleep(_DRIP_S if way == "drip" else 0)
        while transport.get_write_buffer_size() > 16 * _PIECE and not transport.is_closing():
            await asyncio.sleep(0.001)
    with suppress(OSError):
        transport.abort()
    return web.Response(status=503)  # never sent: the connection is gone


def _pieces(way: str) -> Iterator[bytes]:
    ok, body = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", b"[" * _PIECE
    begin = {
        "gzip": ok + b"Content-Encoding: gzip\r\n\r\n",
        "header": ok + b"X-Long: ",
        "chunk": ok + b"Transfer-Encoding: chunked\r\n\r\n",
        "continue": b"",
    }
    then = {
        "gzip": gzip.compress(bytes(256 * _PIECE)),
        "drip": b"[",
        "chunk": b"0" * _PIECE,
        "continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    }
    yield begin.get(way, ok + b"\r\n")
    while True:
        yield then.get(way, body)


def web_reason(status: int) -> str:
    """Return the standard words for an HTTP status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "error"
