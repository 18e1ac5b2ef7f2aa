"""What the client hands out: an order as it was last read, and a data request that is under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from models.clock import utcnow
from models.destinations import broker_of, joined
from models.errors import DataError
from models.explaining import shown
from models.record.rows import FetchRow
from models.reports import PositionReport
from models.vocabulary import LIVE, TERMINAL, Status

if TYPE_CHECKING:
    from models.history import Row
    from producers.client import OrderClient
    from producers.data import DataClient

T = TypeVar("T")

#: Pauses between looks at the database while waiting and hearing nothing, seconds: quick at first, then easy on it.
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
    def quantity(self) -> Decimal | None:
        """Shares ordered; None of an order of money."""
        return None if self.row["quantity"] is None else Decimal(self.row["quantity"])

    @property
    def notional(self) -> Decimal | None:
        """Money to buy for, where that was ordered instead of a quantity."""
        return None if self.row["notional"] is None else Decimal(self.row["notional"])

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
    def reason_code(self) -> str | None:
        """The same as one word that a program can rely on: no_position, halted ...; None where there is none."""
        return self.row.get("reason_code")

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

    @cached_property
    def fills(self) -> list[Row]:
        """Its executions, oldest first, with the columns of `v_fills`: read when first asked for, kept."""
        return self._client.fills_of(self.client_order_id)

    @cached_property
    def events(self) -> list[Row]:
        """What happened to it, oldest first, with the columns of `order_events`: read when first asked for, kept."""
        return self._client.events_of(self.client_order_id)

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
        with self._client.ear.listening(self.client_order_id) as heard:
            return _poll(self.refresh, ready, timeout, heard)

    def cancel(self) -> Order:
        """Ask for a cancel; a fill may still win."""
        return self._client.cancel(self.client_order_id)

    def replace(self, **changes: object) -> Order:
        """Ask for a change of quantity or prices; it counts when the broker has confirmed it."""
        return self._client.replace(self.client_order_id, **changes)

    def __repr__(self) -> str:
        size = self.quantity if self.notional is None else self.notional
        filled = f"{self.filled_quantity.normalize():f}/{'?' if size is None else f'{size.normalize():f}'}"
        filled += "" if self.notional is None else f" {self.row['currency'] or 'USD'} of"
        return f"<Order {self.client_order_id} {self.side} {filled} {self.symbol} {self.status} at {self.broker}" + (
            f": {self.reason}>" if self.reason else ">"
        )


class Fetch(Generic[T]):
    """A data request that is under way."""

    def __init__(self, client: DataClient, fetch_id: str, read: Callable[[FetchRow], T]) -> None:
        self._client, self.fetch_id, self._read = client, fetch_id, read
        self._row: FetchRow | None = None

    def row(self) -> FetchRow:
        """Read its row: status, broker, progress (0 to 1), error."""
        self._row = self._client.fetch_row(self.fetch_id)
        return self._row

    @property
    def broker(self) -> str:
        """Who answered; before `result` has returned: who is asked now."""
        return str((self._row or self.row())["broker"])

    @property
    def progress(self) -> float:
        """How much of it is done, 0 to 1, read anew; bars move page by page, everything else in one step."""
        row = self.row()
        return 1.0 if row["status"] == "done" else float(row["progress"] or 0)

    @property
    def waits(self) -> str | None:
        """Whom it waits for, until when and why, read anew; None while somebody works on it, and at its end."""
        row = self.row()
        if row["status"] != "queued":
            return None
        return _standing(row) + (f": {row['error']}" if row["error"] else "")

    @property
    def error(self) -> str | None:
        """What went wrong on the way, at every broker that could not answer."""
        return (self._row or self.row())["error"]

    def result(self, timeout: float = 30.0, *, watch: Callable[[FetchRow], None] | None = None) -> T:
        """Wait for the answer.

        Args:
            timeout: seconds.
            watch: called with the row whenever it was read, to show its progress: `status`, `broker`, `progress`
                (0 to 1), `stored` (bars), `error`.

        Raises:
            DataError: every broker on the route failed (the message has each one's reason), or time ran out (it says
                who was asked and whether a worker of theirs is alive); the request goes on and can be asked again.
        """

        def look() -> FetchRow:
            row = self.row()
            if watch is not None:
                watch(row)
            return row

        with self._client.ear.listening(self.fetch_id) as heard:
            row = _poll(look, lambda r: r["status"] in ("done", "failed"), timeout, heard)
        if row["status"] == "done":
            return self._read(row)
        asked = " ".join(
            [row["kind"], *(f"{n} {v if isinstance(v, str) else shown(v)}" for n, v in row["request"].items())]
        )
        if row["status"] == "failed":
            raise DataError(f"{asked}: {row['error']}")
        said = f"; {row['error']}" if row["error"] else ""
        raise DataError(
            f"{asked}: no answer from {row['broker']} within {timeout:g} s ({_standing(row)}); "
            f"{self._client.workers_of(row['broker'])}{said}"
        )

    def __repr__(self) -> str:
        return f"<Fetch {self.fetch_id} {self._row['status'] if self._row else ''}>"


def _standing(row: FetchRow) -> str:
    """Say where a request is, until when it waits, and how far it has come."""
    waits = row["status"] == "queued" and row["available_at"] > utcnow()
    until = f", waits until {row['available_at']:%H:%M:%S} UTC" if waits else ""
    done = f", {float(row['progress'] or 0):.0%} done, {row['stored']} bars stored" if row["kind"] == "bars" else ""
    return f"{row['status']} at {row['broker']}{until}{done}"


class Closed(list[Order]):
    """Orders that close a position; the brokers that could not be asked are named, not left out."""

    def __init__(self, orders: Iterable[Order], unreachable: Mapping[str, str]) -> None:
        super().__init__(orders)
        #: broker -> why it did not tell what it holds.
        self.unreachable = dict(unreachable)


class Positions(dict[str, list[PositionReport]]):
    """Positions by broker; what could not be read is named, not left out."""

    def __init__(self, found: Mapping[str, list[PositionReport]], unreachable: Mapping[str, str]) -> None:
        super().__init__(found)
        #: broker -> why it did not answer.
        self.unreachable = dict(unreachable)

    def total(self) -> dict[str, Decimal]:
        """Return the net quantity of each symbol over all brokers that answered; see `unreachable` for the others.

        A symbol that is long at one broker and short at another can net to zero, and is there with zero. A symbol of
        which a holding could not be read (quantity None) is left out: its total is not known.
        """
        held = [position for positions in self.values() for position in positions]
        unread = {position.symbol for position in held if position.quantity is None}
        net: dict[str, Decimal] = {}
        for position in held:
            if position.quantity is not None and position.symbol not in unread:
                net[position.symbol] = net.get(position.symbol, Decimal(0)) + position.quantity
        return dict(sorted(net.items()))

    def places(
        self, symbol: str, destinations: Container[str], only: str | None = None
    ) -> list[tuple[str, Decimal | None]]:
        """Return where a symbol is held, and how much; None where that could not be read.

        Args:
            symbol: as brokers are shown it here.
            destinations: where orders can go, as in the settings: of several accounts each has its name (`ibkr:ira`).
            only: this broker, or this account of one; None is everywhere.
        """
        found = [
            (account if (account := joined(broker, held.account_id)) in destinations else broker, held.quantity)
            for broker, told in self.items()
            for held in told
            if held.symbol == symbol
        ]
        return [(where, size) for where, size in found if only in (None, where, broker_of(where))]


def _poll(read: Callable[[], T], ready: Callable[[T], bool], timeout: float, heard: threading.Event) -> T:
    """Look until it is ready: at once when something was heard, and every now and then anyhow."""
    deadline, pause = time.monotonic() + timeout, _FIRST_LOOK_S
    while True:
        heard.clear()
        value = read()
        left = deadline - time.monotonic()
        if ready(value) or left <= 0:
            return value
        heard.wait(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
