"""The client: record the order, then ring the bell. What happens next is read from the database.

Submitting never depends on Redis: the ring is bounded in time, and what it misses the sweep finds. It does depend on
the database: without a row there is no order, and nothing is enqueued.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

from models.clock import utcnow
from models.crash_points import reached
from models.destinations import broker_of
from models.errors import ConfigurationError, NotFound
from models.messages import OrderRequest, batches, plain
from models.record.batch import Effects, OrderBatch, change_one
from models.record.database import Connection
from models.record.executions import Holders
from models.record.holders import class_terms, decide_closings, holders
from models.record.intake import Intake, body_of
from models.record.left_wishes import leave_wish, may_change_orders
from models.record.order import OrderRecord, cancel
from models.record.reading import open_rows, order_row
from models.record.replaces import changed, request_replace
from models.record.rows import NewOrder, OrderRow
from models.record.stream import EventRow, EventStream, must_have_been
from models.record.tombstones import not_there
from models.settings import Settings
from models.signing import Signs
from models.vocabulary import OPEN, UNSENT, Status
from producers.ear import follow
from producers.groups import GroupClient
from producers.handles import Closed, Order
from producers.signer import NOT_SIGNED, signer_of, wish_of

if TYPE_CHECKING:
    from models.history import Row


class OrderClient(GroupClient):
    """A strategy's door to corro: orders here, linked ones by `GroupClient`. Thread-safe; make one and keep it.

    Args:
        settings: None reads `corro.toml` and the environment.
        key: id of the key that signs its orders, cancels and replaces; None takes `[security] key`, if there is one.
        key_file: the file with that key's secret; None takes `[security] key_file`.

    Raises:
        ConfigurationError: the settings are wrong, the key cannot be used, or the database has no current schema.
        DatabaseUnavailable: the database cannot be reached.
    """

    def __init__(
        self, settings: Settings | None = None, *, key: str | None = None, key_file: str | Path | None = None
    ) -> None:
        super().__init__(settings)
        self._intake = Intake(self.settings, self.database)
        try:
            self._signer: Signs | None = signer_of(self.settings, self.database, key, key_file)
        except BaseException:
            self.close()
            raise
        #: Why somebody has to approve whatever it submits; None where nobody has to for that.
        self._approval: str | None = None
        #: Whether the database lets this process change orders; None while nobody has asked.
        self._may_change: bool | None = None

    def acting_for(self, signer: Signs | None = None, approval: str | None = None) -> Self:
        """Return a client over the same connections for somebody else, for doors that many come to.

        Args:
            signer: signs its orders and wishes; None: as this one's.
            approval: why somebody has to approve its orders before they go anywhere; None where nobody has to for that.
        """
        other = copy(self)
        other._signer, other._approval = signer or self._signer, approval
        return other

    # -- ORDERS ---
    def submit(self, request: OrderRequest) -> Order:
        """Record one order and have it executed.

        Returns:
            The order as recorded (`queued`), or as it is now if this client_order_id was submitted before.

        Raises:
            InvalidOrder: the route names an unknown broker. (Everything else is checked by OrderRequest itself.)
            IdempotencyConflict: the id names another order.
            DatabaseUnavailable: nothing was recorded and nothing was enqueued.
        """
        return self.submit_many([request])[0]

    def submit_many(self, requests: Sequence[OrderRequest]) -> list[Order]:
        """Record many orders in one transaction and ring for them in one round trip; all are recorded, or none.

        Raises:
            As `submit`.
        """
        if not requests:
            return []
        rows = self._intake.record(requests, self._signer, self._approval)
        reached("before_ring")
        waiting: dict[str, list[NewOrder]] = {}
        for row in rows:
            if row["status"] == Status.QUEUED and row["broker"] is not None:
                waiting.setdefault(row["broker"], []).append(row)
        self._bell.ring(
            [
                ("orders.submit", f"orders.{broker}", {"orders": list(map(body_of, batch))})
                for broker, found in waiting.items()
                for batch in batches(found)
            ]
        )
        return [Order(self, row) for row in rows]

    def ring(self, effects: Effects) -> None:
        """Wake the brokers that are next, after a change of orders."""
        ids = [i for found in effects.rings.values() for i in found]
        bodies = self._intake.bodies(ids) if ids else {}
        self._bell.ring(
            [
                ("orders.submit", f"orders.{broker}", {"orders": [bodies[i] for i in found if i in bodies]})
                for broker, found in effects.rings.items()
            ]
        )

    def close_position(
        self,
        symbol: str,
        broker: str | None = None,
        *,
        strategy: str | None = None,
        external: bool = False,
        timeout: float = 10.0,
        **terms: object,
    ) -> Closed:
        """Close what is held of a symbol: one order for each broker that shows it and each strategy that holds it.

        Args:
            symbol: long positions are sold, short ones bought to cover.
            broker: only there, `ibkr:ira` in one of its accounts; None asks every broker.
            strategy: only what this one holds; None is every strategy, and what orders without one have brought.
            external: also what nobody holds by corro's fills: it was there before, or came from elsewhere.
            timeout: seconds that all brokers together have to tell their positions.
            terms: anything else of an OrderRequest: order_type, limit_price, time_in_force ...

        Returns:
            The orders, as recorded, each with its broker as its whole route. `.unreachable` names the brokers that did
            not tell, and why: what they hold stays open.

        Raises:
            NotFound: no broker that answered holds it; names those that did not answer.
            InvalidOrder: the terms do not fit.
            ConfigurationError: every order has to be signed, and this client has no key.
            DatabaseUnavailable: nothing was recorded and nothing was enqueued.
        """
        requests, unreachable = self.closing_orders(
            symbol, broker, strategy=strategy, external=external, timeout=timeout, **terms
        )
        return Closed(self.submit_many(requests), unreachable)

    def closing_orders(
        self,
        symbol: str,
        broker: str | None = None,
        *,
        strategy: str | None = None,
        external: bool = False,
        timeout: float = 10.0,
        **terms: object,
    ) -> tuple[list[OrderRequest], dict[str, str]]:
        """Return the orders that `close_position` would submit, and why some brokers could not be asked."""
        if self._signer is None and self.settings.security.require == "all":
            raise ConfigurationError(f"nothing is closed: {NOT_SIGNED}")
        if broker is not None:  # refuses a name that nobody has
            self.settings.must_know(broker)
        symbol, held = symbol.upper(), self.positions(timeout, None if broker is None else [broker_of(broker)])
        found = held.places(symbol, self.settings.destinations, broker)
        unread = {name: f"{name} does not tell how much {symbol} it holds" for name, size in found if size is None}
        unreachable = held.unreachable | unread
        sizes = [(name, {symbol: size}, self._held_by(strategy, name, symbol)) for name, size in found if size]
        more = external and strategy is None
        closings = [(at, one) for at, shown, mine in sizes for one in decide_closings(shown, mine, external=more)]
        if not closings:
            silent = "".join(f"; not known at {name}: {why}" for name, why in unreachable.items())
            whose = f" by {strategy}" if strategy is not None else ""
            others = [f"{plain(abs(size))} at {name}" for name, size in found if size]
            besides = f"; {', '.join(others)} are held by no order of {strategy or 'corro'}" if others else ""
            raise NotFound(f"no position in {symbol} is held{whose} at {broker or 'any broker'}{besides}{silent}")
        requests = [
            OrderRequest(
                **{"symbol": symbol, "side": one.side, "quantity": one.quantity, "strategy": one.strategy}
                | {"route": [name], "created_at": utcnow()}
                | self._class_terms(name, symbol)
                | terms
            )
            for name, one in closings
        ]
        return requests, unreachable

    def _class_terms(self, broker: str, symbol: str) -> dict[str, str]:
        with self.database.read() as connection:
            return class_terms(connection, broker, symbol)

    def _held_by(self, strategy: str | None, broker: str, symbol: str) -> Holders:
        with self.database.read() as connection:
            held = holders(connection, broker, symbol)
        return {key: size for key, size in held.items() if strategy in (None, key[0])}

    def order(self, client_order_id: str) -> Order:
        """Read one order.

        Raises:
            NotFound: there is none under this id.
        """
        with self.database.read() as connection:
            row = order_row(connection, client_order_id)
            if row is None:
                raise not_there(connection, client_order_id)
        return Order(self, row)

    def wait_all(self, handles: Sequence[Order], timeout: float = 30.0) -> list[Order]:
        """Wait until all of these are terminal, and return them as they are then, or when the time is over."""
        deadline = time.monotonic() + timeout
        return [handle.wait(max(0.0, deadline - time.monotonic())) for handle in handles]

    def events(self, since: int = 0, strategy: str | None = None, timeout: float | None = None) -> Iterator[EventRow]:
        """Iterate what happens to orders, in the order of their ids: at least once, none left out, resumable.

        An event comes once no event with a smaller id can appear any more, so ids only rise, and the last `id` that you
        have dealt with is the place to go on from, in another process too. A transaction that writes events and stays
        open holds what was written behind it. Events of archived orders are in the archives and come no more.

        Args:
            since: the id of the last event that you have; 0 begins at the first of all.
            strategy: only events of its orders.
            timeout: seconds without an event after which the iteration ends; None: never.

        Yields:
            Dicts with the columns of `order_events` and `strategy`.

        Raises:
            InvalidRequest: `since` is the id of no event yet: behind it, events would be left out unseen.
            DatabaseUnavailable: begin again from the last id.
        """
        must_have_been(self.database, since)
        return follow(EventStream(self.database, int(since), strategy), self.ear, timeout)

    def fills_of(self, client_order_id: str) -> list[Row]:
        """Return the executions of an order, oldest first: the columns of `v_fills`."""
        from models.history import History, v_fills

        return History(self.database).of_order(v_fills, client_order_id)

    def events_of(self, client_order_id: str) -> list[Row]:
        """Return what happened to an order, oldest first: the columns of `order_events`."""
        from models.history import History
        from models.record.tables import order_events

        return History(self.database).of_order(order_events, client_order_id)

    def cancel(self, client_order_id: str) -> Order:
        """Ask for a cancel: an order that is still queued ends at once, a live one when its broker says so.

        Raises:
            NotFound: there is no such order.
        """
        if not self._may_change_orders():
            return self._wish("cancel", client_order_id, {"client_order_ids": [client_order_id]})
        entry, _ = change_one(self.database, client_order_id, cancel)
        return self.ring_for_cancels([entry])[0]

    def cancel_many(self, client_order_ids: Sequence[str]) -> list[Order]:
        """Ask for the cancels of many orders, in one transaction and one round trip to the queue.

        Returns:
            The orders, in the order of their ids, each once.

        Raises:
            NotFound: there is no order under some of the ids, which it names; the cancels of the others are asked for.
        """
        wanted = list(dict.fromkeys(client_order_ids))
        orders = self._cancel(wanted) if self._may_change_orders() else self._wish_cancels(wanted)
        if missing := sorted(set(wanted) - {order.client_order_id for order in orders}):
            others = f"; the cancels of {len(orders)} others are asked for" if orders else ""
            raise NotFound(f"no order has the client_order_id {', '.join(map(repr, missing))}{others}")
        return orders

    def cancel_all(
        self, broker: str | None = None, strategy: str | None = None, symbol: str | None = None
    ) -> list[Order]:
        """Ask for the cancel of every order that has not ended, of whatever strategy; `corro kill` also stops new ones.

        Args:
            broker: only orders that are there, or wait for it; `ibkr:ira`: in one of its accounts.
            strategy: only its orders.
            symbol: only orders in it.

        Returns:
            The orders, oldest first, as they are now.
        """
        orders = self.open_orders(strategy, broker=broker, symbol=symbol)
        return self.cancel_many([order.client_order_id for order in orders])

    def _cancel(self, ids: Sequence[str]) -> list[Order]:
        """Write the wishes for cancels of those of these orders that there are, and ring for them."""

        def work(connection: Connection) -> list[OrderRecord]:
            batch = OrderBatch.open(connection, ids, utcnow())
            found = list[OrderRecord]()
            for id_ in ids:
                with suppress(NotFound):
                    found.append(batch.find(id_))
            for entry in found:
                cancel(entry)
            batch.write()
            return found

        return self.ring_for_cancels(self.database.transact(work))

    def _wish_cancels(self, ids: Sequence[str]) -> list[Order]:
        orders = list[Order]()
        for id_ in ids:
            with suppress(NotFound):
                orders.append(self.cancel(id_))
        return orders

    def ring_for_cancels(self, entries: Sequence[OrderRecord]) -> list[Order]:
        """Wake the workers of orders whose cancel was just wished, and return these orders."""
        waiting: dict[str, list[str]] = {}
        for entry in entries:
            if entry.status in OPEN:
                waiting.setdefault(entry.order["broker"], []).append(entry.id)
        self._bell.ring(
            [
                ("orders.cancel", f"control.{broker}", {"client_order_ids": list(batch)})
                for broker, ids in waiting.items()
                for batch in batches(ids)
            ]
        )
        return [Order(self, entry.order) for entry in entries]

    def open_orders(
        self, strategy: str | None = None, *, broker: str | None = None, symbol: str | None = None
    ) -> list[Order]:
        """Return the orders that have not ended, oldest first; `broker` may be one of its accounts, `ibkr:ira`."""
        with self.database.read() as connection:
            rows = open_rows(connection, broker=broker, strategy=strategy, symbol=symbol and symbol.upper())
        return [Order(self, row) for row in rows]

    def _may_change_orders(self) -> bool:
        if self._may_change is None:
            with self.database.read() as connection:
                self._may_change = may_change_orders(connection)
        return self._may_change

    def _wish(
        self,
        kind: Literal["cancel", "replace"],
        client_order_id: str,
        content: Mapping[str, object],
        terms: Mapping[str, object] | None = None,
    ) -> Order:
        """Leave a wish on an order that this process may not change: a worker judges and records it."""
        wish = wish_of(self._signer, kind, content, terms, self.settings.timing.longest_life)
        self.database.transact(lambda connection: leave_wish(connection, client_order_id, wish))
        order = self.order(client_order_id)
        if not order.is_terminal:
            self._bell.ring([(f"orders.{kind}", f"control.{order.broker}", {"client_order_ids": [client_order_id]})])
        return order

    def replace(self, client_order_id: str, **changes: object) -> Order:
        """Ask for a change of an order that has not ended; until its broker confirms, it keeps its terms.

        Args:
            client_order_id: the order.
            changes: any of quantity (the new total, what is filled included), limit_price, stop_price, trail_amount,
                trail_percent, time_in_force.

        Returns:
            The order as it is now. The event log has `replaced` when the broker confirmed, `replace_refused` when not.

        Raises:
            NotFound: there is no such order.
            InvalidOrder: it has ended, the new terms do not fit it, or nothing would change.
        """
        if not self._may_change_orders():
            terms = changed(cast("OrderRow", self.order(client_order_id).row), changes)
            return self._wish("replace", client_order_id, {"client_order_id": client_order_id, **terms}, terms)
        entry, _ = change_one(self.database, client_order_id, lambda found: request_replace(found, changes))
        if entry.status not in UNSENT:
            ids = {"client_order_ids": [client_order_id]}
            self._bell.ring([("orders.replace", f"control.{entry.order['broker']}", ids)])
        return Order(self, entry.order)
