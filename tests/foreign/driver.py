"""What every driver shares. A driver is run by its own interpreter and knows nothing of corro: plain Python, one JSON
document of what it saw on standard output.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Where the sandbox listens, by door.
PORTS: dict[str, int] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


class Complaints(logging.Handler):
    """Notes every warning that the client logs."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        self.into.append(record.getMessage())


def url(door: str) -> str:
    return f"http://127.0.0.1:{PORTS[door]}"


def control(path: str, **body: Any) -> Any:
    """Ask the control door of the sandbox: prices, positions, faults."""
    headers = {"Authorization": f"Bearer {os.environ['SANDBOX_TOKEN']}", "Content-Type": "application/json"}
    request = urllib.request.Request(url("control") + path, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def eventually(look: Callable[[], T], what: str, timeout: float = 8.0) -> T:
    """Return what `look` returns as soon as it is true."""
    end = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"it never happened: {what}")
        time.sleep(0.01)
    return found


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    """Return how the client tells that the broker said no; a call that works is a failure."""
    try:
        answer = call()
    except Exception as error:
        status = getattr(error, "status_code", None)
        return {"type": type(error).__name__, "text": str(error), "status": status, "code": _code(error)}
    raise AssertionError(f"not refused: {answer!r}")


def _code(error: Exception) -> Any:
    try:
        return getattr(error, "code", None)
    except (KeyError, ValueError):
        return None


def report(document: dict[str, Any]) -> None:
    print(json.dumps(document, default=str))
