"""What the leader of a broker does for the kills in force, until its broker shows nothing live in their scope.

1. A cancel is wished of everything live in the scope: what the command did not see (it was on its way), and what was
   unknown and is found. The cancels go the way of all cancels.
2. Other people's orders are canceled, where that was asked for.
3. When the record shows nothing live, the broker is asked: only its own listing says that the kill is done here.
4. Where positions are to be closed, the control lets closing orders pass (reducing), and they are recorded: one for
   each strategy; where one ends without closing it all, another one follows, three at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import partial
from typing import Any

import structlog

from models.destinations import split
from models.errors import BrokerError, CorroError, DataError, IdempotencyConflict
from models.messages import OrderRequest, batches
from models.record.batch import OrderBatch
from models.record.controls import HALTED, ControlRow
from models.record.holders import Closing, class_terms, decide_closings, holders, positions_shown
from models.record.intake import body_of
from models.record.order import cancel
from models.record.reading import orders_beginning
from models.record.rows import ExternalOrderRow, OrderRow, by_name
from models.vocabulary import OPEN, Side
from worker.brokers.accounts import destinations_of
from worker.brokers.base import BrokerInterface, OrderRef
from worker.control import kill as kills
from worker.control.brake import Movement, denial, stop_of
from worker.control.scopes import scope_of
from worker.fleet.members import Heartbeat
from worker.gate import Gate
from worker.orders.batches import Batches
from worker.orders.catch_up import CatchUp
from worker.orders.own import OwnOrders
from worker.orders.windows import Pauses
from worker.positions.reading import PositionReader
from worker.runtime.clock import elapsed, utcnow

log = structlog.get_logger()

#: Seconds between readings of the broker while a kill is not done here.
_READ_EVERY_S = 2.0
#: As old as a reading of the controls may be at any gate: before, a closing order could still meet the halt.
_SEEN_BY_ALL_S = 0.3
#: An external order is asked to be canceled again after pauses from this to that, seconds.
_AGAIN_S, _LONGEST_S = 5.0, 60.0
_CENT, _FINE = Decimal("0.01"), Decimal("0.0001")


class Kills:
    """The kills in force, as far as they are about one broker.

    Args:
        broker: the adapter.
        gate: of the broker; its brake knows the controls.
        batches: for transactions and what follows.
        readings: read the orders at the broker.
        positions: reads the positions there.
        pulse: tells whether this worker leads.
        own: records the closing orders.
    """

    def __init__(
        self,
        broker: BrokerInterface,
        gate: Gate,
        batches: Batches,
        readings: CatchUp,
        positions: PositionReader,
        pulse: Heartbeat,
        own: OwnOrders,
    ) -> None:
        self.broker, self.gate, self.batches, self.database = broker, gate, batches, batches.database
        self.readings, self.positions, self.pulse, self.own = readings, positions, pulse, own
        self._pauses = Pauses(_AGAIN_S, _LONGEST_S)
        self._read_at: dict[int, float] = {}
        #: Kills of which something was live at the last look.
        self._busy: frozenset[int] = frozenset()
        #: Since when this worker has seen a kill's control let closing orders pass.
        self._reducing: dict[int, float] = {}

    def in_force(self) -> list[ControlRow]:
        """Return the kills that are not done here; asked several times a second, mostly answered from memory."""
        if not self.pulse.leads:
            return []
        return [row for row in self.gate.brake.reading(0.1) if kills.is_open_at(row, self.broker.name)]

    def wish(self) -> None:
        """Wish a cancel of everything in scope of which nobody has wished it yet."""
        for control in self.in_force():
            scope, generation = scope_of(control), control["generation"]
            with self.database.read() as connection:
                news = kills.live_orders(connection, scope, generation, self.broker.name, unasked=True)
            if news:
                why = kills.words(control["by"], control["reason"])
                self.batches.change([row["client_order_id"] for row in news], partial(_cancel, why))

    def settle(self) -> None:
        """See what is left in scope; where nothing is, close what was asked for and say that the kill is done here."""
        for control in self.in_force():
            if self._is_clear(control):
                self._finish(control)

    # -- CLEAR ---
    def _is_clear(self, control: ControlRow) -> bool:
        """Tell whether neither the record nor the broker shows anything live in a kill's scope."""
        left, generation, now = self._left(control), control["generation"], elapsed()
        if left.external:
            self._cancel_external(left.external)
        is_first, was_busy = generation not in self._read_at, generation in self._busy
        self._busy = self._busy | {generation} if left else self._busy - {generation}
        at_once = not left and (is_first or was_busy)
        if not at_once and now - self._read_at.setdefault(generation, now) < _READ_EVERY_S:
            return False
        self._read_at[generation] = now
        self.readings.read()
        return not self._left(control)

    def _left(self, control: ControlRow) -> kills.Left:
        with self.database.read() as connection:
            return kills.left_of(connection, control, self.broker.name)

    def _cancel_external(self, rows: Sequence[ExternalOrderRow]) -> None:
        for row in rows:
            key = ("external", row["broker_order_id"])
            if not self._pauses.is_over(key, elapsed()):
                continue
            self._pauses.begin(key, elapsed())
            try:
                self.broker.cancel_order(_their_ref(row))
                log.warning("external_canceled", broker=self.broker.name, broker_order_id=row["broker_order_id"])
            except BrokerError as error:
                self.gate.heeded(error)
                about = {"broker_order_id": row["broker_order_id"], "error": str(error)}
                log.error("external_not_canceled", broker=self.broker.name, **about)

    # -- FLATTEN ---
    def _finish(self, control: ControlRow) -> None:
        done, trouble = self._flatten(control) if (control["kill"] or {}).get("flatten") else (True, None)
        if done or trouble:
            noted = partial(kills.note, control=control, broker=self.broker.name, done=done, trouble=trouble)
            self.database.transact(lambda connection: noted(connection))
        if done:
            log.warning("kill_done", broker=self.broker.name, scope=scope_of(control).words, by=control["by"])
        elif trouble:
            log.error("flatten_waits", broker=self.broker.name, error=trouble)

    def _may_close(self, control: ControlRow) -> bool:
        """Let closing orders pass; tell whether every gate knows by now."""
        generation = control["generation"]
        if control["state"] == HALTED:
            self.database.transact(lambda connection: kills.let_close(connection, control))
            return False
        return elapsed() - self._reducing.setdefault(generation, elapsed()) >= _SEEN_BY_ALL_S

    def _flatten(self, control: ControlRow) -> tuple[bool, str | None]:
        """Record the closing orders, and others in the place of those that ended without closing it all.

        Returns:
            Whether nothing is left to close, and what is in the way.
        """
        # Whatever was in the way is asked about again as soon as somebody has changed a control.
        key = ("flatten", control["generation"], *(row["generation"] for row in self.gate.brake.reading(0.1)))
        if not self._may_close(control) or not self._pauses.is_over(key, elapsed()):
            return False, None
        rows = self._closing_orders(control)
        if any(row["status"] in OPEN for row in rows if self.own.may_be_ours(row)):
            return False, None
        unread = self.positions.read_anew()
        closings = self._closings(control)
        troubles, requests = [f"{symbol}: its size cannot be read" for symbol in sorted(unread)], []
        for closing in closings:
            try:
                requests.append(self._request(control, closing, rows))
            except (CorroError, ValueError) as error:
                troubles.append(f"{closing.symbol}: {error}")
        self._submit(requests)
        if troubles:
            self._pauses.begin(key, elapsed())
        return not closings and not troubles, "; ".join(troubles) or None

    def _closing_orders(self, control: ControlRow) -> list[OrderRow]:
        generation = control["generation"]
        with self.database.read() as connection:
            rows = orders_beginning(connection, kills.closing_prefix(generation))
        return [row for row in rows if row["broker"] == self.broker.name and kills.is_its_own(row, generation)]

    def _closings(self, control: ControlRow) -> list[Closing]:
        names = scope_of(control).names
        mine = [where for where in destinations_of(self.broker) if names.get("account", where) == where]
        return [closing for where in mine for closing in self._closings_at(where, control, names)]

    def _closings_at(self, where: str, control: ControlRow, names: Mapping[str, str]) -> list[Closing]:
        """Return what closes the positions of a broker, or of one of its accounts."""
        external = (control["kill"] or {}).get("external", False) and "strategy" not in names
        with self.database.read() as connection:
            shown, held = positions_shown(connection, where), holders(connection, where)
        shown = {symbol: size for symbol, size in shown.items() if names.get("symbol", symbol) == symbol}
        mine = {key: size for key, size in held.items() if names.get("strategy", key[0]) == key[0]}
        return [replace(one, where=where) for one in decide_closings(shown, mine, external=external)]

    def _request(self, control: ControlRow, closing: Closing, before: Sequence[OrderRow]) -> OrderRequest:
        """Return a closing order.

        Raises:
            DataError: somebody else's halt stops it; no price is known; or as many as may be tried have ended before.
            Untrusted: it has to be signed, and this worker cannot.
        """
        self._must_pass(closing)
        named = [row for row in before if kills.is_about(row, closing)]
        tried = [row for row in named if self.own.may_be_ours(row)]  # others have taken an id, and nothing more
        if len(tried) >= kills.MOST_TRIES:
            last = tried[-1]
            raise DataError(f"{len(tried)} closing orders have ended, the last {last['status']}: {last['reason']}")
        collar = (control["kill"] or {}).get("collar")
        price = self._price(closing, Decimal(collar)) if collar else None
        with self.database.read() as connection:
            said: dict[str, Any] = class_terms(connection, closing.where, closing.symbol)
        request = OrderRequest(
            client_order_id=kills.closing_id(control["generation"], closing, len(named) + 1),
            symbol=closing.symbol,
            side=closing.side,
            quantity=closing.quantity,
            order_type="limit" if price else "market",
            limit_price=price,
            strategy=closing.strategy,
            route=[closing.where],
            created_at=utcnow(),
            **said,
        )
        self.own.must_be_signable(request)
        return request

    def _must_pass(self, closing: Closing) -> None:
        """Raise DataError where a control, such as the halt of a strategy that a limit tripped, stops a closing order.

        A resume ends what it names and nothing else, and so does a kill: somebody has to let these positions go.
        """
        broker, account = split(closing.where)
        about = {"symbol": closing.symbol, "strategy": closing.strategy, "account": account}
        stop = stop_of(self.gate.brake.reading(0.1), about, broker, Movement.CLOSES)
        if stop is not None:
            raise DataError(f"not closed while {denial(broker, stop)}; `{scope_of(stop).resume}` ends that")

    def _price(self, closing: Closing, percent: Decimal) -> Decimal:
        """Return the worst price that a closing order may get: so many percent beyond the market.

        Raises:
            DataError: no price is known.
        """
        quote = self.broker.get_market_data(closing.symbol)
        sells = closing.side is Side.SELL
        price = (quote.bid if sells else quote.ask) or quote.last
        if not price:
            raise DataError(f"no price of {closing.symbol} is known at {self.broker.name}")
        worst = price * (1 - percent / 100 if sells else 1 + percent / 100)
        return worst.quantize(_CENT if worst >= 1 else _FINE, ROUND_FLOOR if sells else ROUND_CEILING)

    def _submit(self, requests: Sequence[OrderRequest]) -> None:
        """Record closing orders, all or none, and ring for them; what another leader has recorded stands."""
        if not requests:
            return
        try:
            rows, queue = self.own.record(requests), f"orders.{self.broker.name}"
        except IdempotencyConflict:
            return
        self.batches.bell.ring([("orders.submit", queue, {"orders": list(map(body_of, b))}) for b in batches(rows)])


def _cancel(why: str, batch: OrderBatch) -> None:
    for entry in batch.entries.values():
        cancel(entry, why)


def _their_ref(row: ExternalOrderRow) -> OrderRef:
    """Return what an adapter needs to cancel an order that corro did not send: its broker's id alone names it."""
    names = ("account", "symbol", "side", "quantity", "order_type", "limit_price", "stop_price", "time_in_force")
    values: dict[str, Any] = {name: by_name(row)[name] for name in names}
    values |= {"client_order_id": f"external:{row['broker_order_id']}", "created_at": row["first_seen_at"]}
    terms = OrderRequest.model_construct(**values)
    sent_at = row["submitted_at"] or row["first_seen_at"]
    id_ = row["broker_order_id"]
    return OrderRef(order=terms, broker_client_order_id=f"external:{id_}", broker_order_id=id_, sent_at=sent_at)
