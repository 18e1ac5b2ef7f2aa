"""Whoever looks at a page's server, in a process of their own, which ends with its stdin and says then what it saw.

`viewers.py pages PORT PATH ...`: browsers, a thread for each path; each does what page.js does: it hears of changes,
asks for its page anew, every two seconds at most and every three at least. Another scrapes /metrics every five.
`viewers.py events PORT`: a strategy that follows the journal, and one beside it that never reads its answer.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

_EVERY_S, _LEAST_S, _SCRAPE_S = 3.0, 2.0, 5.0
_READY = "looking"
_ended = threading.Event()


class Viewers:
    """All of them.

    Args:
        port: of the server, on this machine.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._is_there = threading.Semaphore(0)
        #: Milliseconds of each answer by what was asked, and what was not answered by 200.
        self.ms: dict[str, list[float]] = {}
        self.failed: list[str] = []

    def ask(self, path: str, **headers: str) -> None:
        """Ask once."""
        began = time.perf_counter()
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            line.request("GET", path, headers={"Accept": "text/html", **headers})
            answer = line.getresponse()
            answer.read()
            if answer.status != 200:
                self.failed.append(f"{path}: {answer.status}")
        except OSError as error:
            self.failed.append(f"{path}: {error!r}")
        finally:
            line.close()
        self.ms.setdefault(path.partition("?")[0], []).append((time.perf_counter() - began) * 1e3)

    def browse(self, path: str) -> None:
        """Keep a page as it is now."""
        changed = threading.Event()
        threading.Thread(target=self._hear, args=(changed,), daemon=True).start()
        self.ask(path)
        self._is_there.release()
        while not _ended.is_set():
            began = time.monotonic()
            changed.clear()
            self.ask(path, **{"Corro-Again": "1"})
            changed.wait(_EVERY_S)
            _ended.wait(max(0.0, began + _LEAST_S - time.monotonic()))

    def begin(self, paths: Sequence[str]) -> None:
        """Open each page and the scrape; returns once every page is there."""
        for path in paths:
            threading.Thread(target=self.browse, args=(path,), daemon=True).start()
        for _ in paths:
            self._is_there.acquire()
        threading.Thread(target=self.scrape, daemon=True).start()

    def _hear(self, changed: threading.Event) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        line.request("GET", "/changes", headers={"Accept": "text/event-stream"})
        for text in line.getresponse():
            if text.startswith(b"data:"):
                changed.set()

    def scrape(self) -> None:
        """Ask as Prometheus does."""
        while not _ended.wait(_SCRAPE_S):
            self.ask("/metrics")


def follow(port: int) -> dict[str, object]:
    """Read events as they happen; returns how old each was, and how many there were."""
    sleeper = socket.create_connection(("127.0.0.1", port))
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.sendall(b"GET /api/v1/events?since=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    line.request("GET", "/api/v1/events", headers={"Accept": "text/event-stream"})
    answer, lags, ids = line.getresponse(), list[float](), list[int]()
    print(_READY, flush=True)

    def read() -> None:
        for text in answer:
            if text.startswith(b"data:"):
                event = json.loads(text[5:])
                ids.append(event["id"])
                lags.append((datetime.now(UTC) - datetime.fromisoformat(event["at"])).total_seconds() * 1e3)

    threading.Thread(target=read, daemon=True).start()
    _ended.wait()
    seen = 0
    while len(lags) > seen or seen == 0:  # until no more comes
        seen = len(lags)
        time.sleep(1.5)
        if not seen:
            break
    sleeper.close()
    return {"lags": lags, "rises": all(a < b for a, b in pairwise(ids))}


def main() -> None:
    """Do as the command line says."""
    what, port, *paths = sys.argv[1:]
    threading.Thread(target=lambda: (sys.stdin.read(), _ended.set()), daemon=True).start()
    if what == "events":
        print(json.dumps(follow(int(port))))
        return
    viewers = Viewers(int(port))
    viewers.begin(paths)
    print(_READY, flush=True)
    _ended.wait()
    print(json.dumps({"ms": viewers.ms, "failed": viewers.failed}))


if __name__ == "__main__":
    main()
