"""What every peer's task does: the broker call and the row, written as well as the driver allows.

Two forms. `bare`: call the broker, then commit one row. `promise`, the same promise as corro's about a send: commit the
intent, which fails if the order was begun before, then call, then commit the outcome. Neither has corro's third
commit, the order's own row before the message: a peer's order that Redis loses is gone.

Standard library and drivers only: this runs in each peer's own interpreter.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from null_call import Commits, NullCall

CONFIG: dict[str, Any] = json.loads(os.environ["CORRO_BENCH"])
#: Sends that may be on their way at once, as many as corro's.
PARALLEL: int = CONFIG["parallel"]
PROMISE: bool = CONFIG["form"] == "promise"
#: The broker answers at once, so calling it from an event loop holds nothing up.
AT_ONCE: bool = CONFIG["broker"] == "null"
#: redis-py's URL of the queue.
URL = f"unix://{CONFIG['socket']}?db={CONFIG['db']}"

_INSERT = f"INSERT INTO orders VALUES ({', '.join('?' * 12)})"  # table.sql
_INTEND = f"{_INSERT} ON CONFLICT DO NOTHING"
_OUTCOME = "UPDATE orders SET status = ?, broker_order_id = ?, updated_at = ? WHERE client_order_id = ?"


def url() -> str:
    """The peer's PostgreSQL as libpq's URL: a socket's folder, a name, a user."""
    host, name, user = (word.partition("=")[2] for word in CONFIG["database"].split())
    return f"postgresql://{user}@localhost/{name}?host={host}"


def sqlalchemy_url() -> str:
    """The peer's database, whichever it is."""
    return url() if "host=" in CONFIG["database"] else f"sqlite:///{CONFIG['database']}"


def now() -> str:
    return datetime.now(UTC).isoformat()


def new_order() -> dict[str, str]:
    """The order that everybody sends."""
    return {
        "client_order_id": str(uuid.uuid4()),
        "strategy": "bench",
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "10",
        "order_type": "limit",
        "limit_price": "1.00",
        "time_in_force": "day",
        "created_at": now(),
    }


# -- THE RECORD ---
class Sqlite:
    """One connection behind a lock: SQLite has one writer, and waiting for a lock beats polling for it."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._connection.execute(f"PRAGMA {pragma}")

    def commit(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._lock:
            return self._connection.execute(statement, values).rowcount


class PeerPostgres:
    """One connection for each thread, kept open; psycopg prepares what is run often."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._mine = dsn, threading.local()

    def commit(self, statement: str, values: tuple[Any, ...]) -> int:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            import psycopg

            connection = self._mine.connection = psycopg.connect(self._dsn, autocommit=True)
        return connection.execute(statement.replace("?", "%s"), values).rowcount


# -- THE BROKER ---
class Alpaca:
    """POST /v2/orders with one session for each thread."""

    def __init__(self, url: str) -> None:
        self._url, self._mine = url + "/v2/orders", threading.local()

    def place(self, client_order_id: str) -> str:
        session = getattr(self._mine, "session", None)
        if session is None:
            import requests

            session = self._mine.session = requests.Session()
            session.headers.update({"APCA-API-KEY-ID": "sandbox", "APCA-API-SECRET-KEY": "sandbox"})
        body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "limit", "limit_price": "1.00"}
        body |= {"time_in_force": "day", "client_order_id": client_order_id}
        answer = session.post(self._url, json=body, timeout=10)
        answer.raise_for_status()
        return str(answer.json()["id"])


# -- THE TASK ---
class PeerDesk:
    """Opened at the first task, so that a process that only enqueues opens nothing."""

    _one: PeerDesk | None = None
    _gate = threading.Lock()

    def __init__(self) -> None:
        self.broker = NullCall(CONFIG["stamps"]) if AT_ONCE else Alpaca(CONFIG["broker"])
        self.record = (PeerPostgres if "host=" in CONFIG["database"] else Sqlite)(CONFIG["database"])
        self.commits = Commits(CONFIG["stamps"])

    @classmethod
    def one(cls) -> PeerDesk:
        if cls._one is None:
            with cls._gate:
                cls._one = cls._one or cls()
        return cls._one

    def commit(self, statement: str, *values: Any) -> int:
        changed = self.record.commit(statement, values)
        self.commits.add()
        return changed


def execute(order: dict[str, str]) -> None:
    """Send one order and record it, in the form that was asked for."""
    desk, id_ = PeerDesk.one(), order["client_order_id"]
    row = tuple(order.values())
    if not PROMISE:
        send_then_record(order)
        return
    if not desk.commit(_INTEND, *row, "sending", None, now()):
        return  # begun before: whoever began it finishes it, or a person looks
    desk.commit(_OUTCOME, "accepted", desk.broker.place(id_), now(), id_)


def send_then_record(order: dict[str, str]) -> None:
    """The bare form; also what is left to do where the queue itself has committed the intent."""
    desk = PeerDesk.one()
    desk.commit(_INSERT, *order.values(), "accepted", desk.broker.place(order["client_order_id"]), now())
