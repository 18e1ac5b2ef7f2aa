"""What the client hands out: an order as it was last read, and a data request that is under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from models.errors import DataError
from models.vocabulary import LIVE, TERMINAL, Status

if TYPE_CHECKING:
    from producers.client import OrderClient

T = TypeVar("T")

#: Pauses between looks at the database while waiting, seconds: quick at first, then easy on it.
_FIRST_LOOK_S, _LONGEST_PAUSE_S = 0.005, 0.1


class Order:
    """One order as the database had it at the last read. Reading again gives a new value; this one never changes."""

    def __init__(self, client: OrderClient, row: Mapping[str, Any]) -> None:
        self._client, self.row = client, dict(row)

    @property
    def client_order_id(self) -> str:
        """Your id of the order."""
        return str(self.row["client_order_id"])

    @property
    def status(self) -> Status:
        """Where it stands."""
        return Status(self.row["status"])

    @property
    def symbol(self) -> str:
        """The symbol."""
        return str(self.row["symbol"])

    @property
    def side(self) -> str:
        """buy, sell, sell_short or buy_to_cover."""
        return str(self.row["side"])

    @property
    def quantity(self) -> Decimal:
        """Shares ordered."""
        return Decimal(self.row["quantity"])

    @property
    def filled_quantity(self) -> Decimal:
        """Shares filled so far."""
        return Decimal(self.row["filled_quantity"])

    @property
    def avg_fill_price(self) -> Decimal | None:
        """Average price of the fills, account currency per share."""
        price = self.row.get("avg_fill_price")
        return None if price is None else Decimal(price)

    @property
    def broker(self) -> str:
        """Where it is, or is queued for."""
        return str(self.row["broker"])

    @property
    def broker_order_id(self) -> str | None:
        """The broker's id, once known."""
        return self.row.get("broker_order_id")

    @property
    def reason(self) -> str | None:
        """Why it ended, or why it waits."""
        return self.row.get("reason")

    @property
    def created_at(self) -> datetime:
        """When it was asked for, UTC."""
        created: datetime = self.row["created_at"]
        return created

    @property
    def is_terminal(self) -> bool:
        """Nothing more is expected."""
        return self.status in TERMINAL

    @property
    def is_live(self) -> bool:
        """Confirmed at a broker and not ended."""
        return self.status in LIVE

    def refresh(self) -> Order:
        """Read it again."""
        return self._client.order(self.client_order_id)

    def wait(self, timeout: float = 30.0, *, until: Callable[[Order], bool] | None = None) -> Order:
        """Wait until the order is terminal, and return it as it is then.

        Args:
            timeout: seconds; when they are over the order is returned as it is, terminal or not.
            until: another condition to wait for.
        """
        ready = until or (lambda order: order.is_terminal)
        return _poll(self.refresh, ready, timeout)

    def cancel(self) -> Order:
        """Ask for a cancel; a fill may still win."""
        return self._client.cancel(self.client_order_id)

    def replace(self, **changes: Any) -> Order:
        """Ask for a change of quantity or prices; it counts when the broker has confirmed it."""
        return self._client.replace(self.client_order_id, **changes)

    def __repr__(self) -> str:
        filled = f"{self.filled_quantity.normalize():f}/{self.quantity.normalize():f}"
        return f"<Order {self.client_order_id} {self.side} {filled} {self.symbol} {self.status} at {self.broker}" + (
            f": {self.reason}>" if self.reason else ">"
        )


class Fetch(Generic[T]):
    """A data request that is under way."""

    def __init__(self, client: OrderClient, fetch_id: str, read: Callable[[Mapping[str, Any]], T]) -> None:
        self._client, self.fetch_id, self._read = client, fetch_id, read

    def row(self) -> dict[str, Any]:
        """Return its row: status, broker, progress (0 to 1), error."""
        return self._client.fetch_row(self.fetch_id)

    def result(self, timeout: float = 30.0) -> T:
        """Wait for the answer.

        Raises:
            DataError: every broker on the route failed (the message has each one's reason), or time ran out; the
                request goes on and can be asked again.
        """
        row = _poll(self.row, lambda r: r["status"] in ("done", "failed"), timeout)
        if row["status"] == "done":
            return self._read(row)
        if row["status"] == "failed":
            raise DataError(f"{row['kind']} {dict(row['request'])}: {row['error']}")
        raise DataError(
            f"{row['kind']} {dict(row['request'])}: no answer from {row['broker']} within {timeout:g} s "
            f"({row['status']}{', ' + row['error'] if row['error'] else ''}); is a worker of {row['broker']} running?"
        )


def _poll(read: Callable[[], T], ready: Callable[[T], bool], timeout: float) -> T:
    deadline, pause = time.monotonic() + timeout, _FIRST_LOOK_S
    while True:
        value = read()
        left = deadline - time.monotonic()
        if ready(value) or left <= 0:
            return value
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
