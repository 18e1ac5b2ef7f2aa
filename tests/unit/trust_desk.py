"""A desk of one broker with keys, and bodies that somebody has signed or not: what tests of signed orders need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from models.record.database import Database
from models.record.reading import order_row
from models.record.tables import attempts, order_events, orders
from models.settings import load_settings
from models.signing import Envelope, Signer
from tests.open_desk import open_desk
from worker.brokers.fake import FakeBroker
from worker.control.keys import add

SECRET = b"0123456789abcdef0123456789abcdef"
DEPLOYMENT = "prod"
#: Below every price: it rests.
LOW = {"order_type": "limit", "limit_price": "1"}


def order(client_order_id: str = "o-1", **changes: Any) -> dict[str, Any]:
    """Return an order object as a program writes it that imports nothing of ours."""
    now = datetime.now(UTC)
    return {
        "client_order_id": client_order_id, "symbol": "KO", "side": "buy", "quantity": "5", "strategy": "dip",
        "created_at": now.isoformat(), "expires_at": (now + timedelta(seconds=20)).isoformat(),
    } | changes  # fmt: skip


#: The fixture `make`: builds a desk, with keywords over `[security]`.
Make = Callable[..., "TrustDesk"]


class TrustDesk:
    """One broker, `alpaca`, of three; keys are added by their names.

    Args:
        home: an empty folder.
        database: with the schema.
        security: over `[security]`.
    """

    def __init__(self, home: Path, database: Database, **security: Any) -> None:
        self.home, self.database = home, database
        self.settings = load_settings(
            home=home, redis_url=f"unix://{home}/no-queue", security={"deployment": DEPLOYMENT} | security,
            brokers={name: {"adapter": "fake"} for name in ("alpaca", "tda")}, routing={"route": ["alpaca", "tda"]},
        )  # fmt: skip
        self.broker = FakeBroker("alpaca")
        self.broker.connect()
        self.desk = open_desk(self.settings, database, self.broker)

    def close(self) -> None:
        """Let its threads end."""
        self.desk.close()

    def key(self, key_id: str = "k-1", **bounds: Any) -> Signer:
        """Add a key, and return what signs with it."""
        path = self.home / f"{key_id}.secret"
        path.write_bytes(SECRET)
        add(self.database, key_id, "hmac-sha256", by="test", secret_file=str(path), **{"owner": "test"} | bounds)
        self.forget()
        return signer(key_id)

    def forget(self) -> None:
        """Let the door of the queue read the keys anew, as it does after a second."""
        self.desk.batches.intake.keys._read = None
        self.desk.vouching.reader._read = None

    def submit(self, *bodies: object) -> None:
        """Take a message."""
        self.desk.place.submit(list(bodies))  # type: ignore[arg-type]

    def row(self, client_order_id: str = "o-1") -> Mapping[str, Any]:
        """Return an order's row; an empty one where there is none."""
        with self.database.read() as connection:
            return order_row(connection, client_order_id) or {}  # type: ignore[return-value]

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Return all orders."""
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(orders)).mappings()]

    def stands(self, client_order_id: str = "o-1") -> tuple[Any, Any]:
        """Return status and reason_code of an order."""
        row = self.row(client_order_id)
        return row.get("status"), row.get("reason_code")

    def events(self, client_order_id: str = "o-1") -> list[tuple[str, str | None]]:
        """Return kind and detail of what happened to an order."""
        query = select(order_events.c.kind, order_events.c.detail).order_by(order_events.c.id)
        with self.database.read() as connection:
            found = connection.execute(query.where(order_events.c.client_order_id == client_order_id))
            return [(row.kind, row.detail) for row in found]

    def attempts(self, client_order_id: str = "o-1") -> list[tuple[str, str, str | None]]:
        """Return broker, outcome and code of each try."""
        a = attempts.c
        query = select(a.broker, a.outcome, a.code).where(a.client_order_id == client_order_id).order_by(a.attempt_no)
        with self.database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]  # type: ignore[misc]


def signer(key_id: str = "k-1", deployment: str = DEPLOYMENT, secret: bytes = SECRET) -> Signer:
    """Return what signs; a key of the same secret where no other is given."""
    return Signer(key_id, "hmac-sha256", secret, deployment)


def sealed(by: Signer, body: Mapping[str, object]) -> dict[str, str]:
    """Return an order object as it travels when it is signed, by a program that is not ours."""
    return {name: value for name, value in by.sign("order", body).to_wire().items() if name != "deployment"}


def wish(by: Signer, kind: Any, **content: object) -> Envelope:
    """Return a signed cancel or replace."""
    now = datetime.now(UTC)
    times = {"created_at": now.isoformat(), "expires_at": (now + timedelta(seconds=20)).isoformat()}
    return by.sign(kind, times | content)
