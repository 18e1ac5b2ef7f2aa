"""The book of every order and execution that IB has shown this process, and the reports about them.

Fed by the raw messages only. The SDKs' Trade objects are never read: they say `Cancelled` for errors on live orders
(docs/facts/ibkr.md#4.1). Everything here runs on the connection's loop; nothing here knows a socket or an SDK.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from models.messages import OrderRequest
from models.reports import BrokerStatus, CommissionReport, FillReport, OrderReport, Report
from worker.brokers import values
from worker.brokers.ibkr import reports
from worker.brokers.ibkr.codes import CANCELED, CODES, Proof
from worker.brokers.ibkr.legs import packages_filled
from worker.brokers.ibkr.names import Names
from worker.brokers.ibkr.pending import Pending, PendingChange, PendingOrder
from worker.brokers.ibkr.reports import (
    OrderLine,
    WireExecution,
    average_of,
    build_report,
    filled_by,
    is_corrected,
    total_of,
)

K = TypeVar("K")
V = TypeVar("V")

#: Codes that explain why an order that was shown ended. 321 is not one: it may answer a cancel.
_ENDING_CODES = frozenset(n for n, row in CODES.items() if row.proof is Proof.REFUSED) - {321} | {CANCELED}
#: Codes that answer the cancel of an order that is gone.
_NOTHING_TO_CANCEL = frozenset(n for n, row in CODES.items() if row.proof is Proof.CANCEL_FAILED)
#: Orders and executions remembered; the oldest are forgotten first.
REMEMBERED = 20_000


@dataclass(slots=True)
class KnownOrder:
    """One order as the wire last showed it."""

    line: OrderLine
    why_held: str = ""
    #: Last code that refused or canceled it, with IB's words; forgotten as soon as the wire shows the order alive.
    code: tuple[int, str] | None = None
    #: What orderStatus counts as filled, and at which average: it may be ahead of the executions.
    wire_filled: Decimal | None = None
    wire_average: Decimal | None = None
    #: We asked for its end: whatever follows is a cancel, never a rejection that could fall back.
    cancel_requested: bool = False
    #: IB has said of the last such request that there is nothing to cancel.
    cancel_answered: bool = False
    #: We asked for other terms: a refusing code is about them, the order lives on as it was.
    change_requested: bool = False
    pushed: tuple[object, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether a code says that IB has refused it; from before our cancel, it counts once that is answered."""
        told = self.code is not None and self.code[0] != CANCELED
        return told and (self.cancel_answered or not self.cancel_requested)

    @property
    def has_ended(self) -> bool:
        """Whether the wire has shown its end, after which nothing more comes; Inactive is none."""
        return self.line.status in reports.ENDED | {"Filled"}

    def ask_for_end(self) -> None:
        """Note that a cancel has left."""
        self.cancel_requested, self.cancel_answered = True, False

    def show(self, line: OrderLine) -> None:
        """Take in how the wire shows the order now."""
        self.line = line
        self.hear_of_life()

    def hear_of_life(self) -> None:
        """Let a code that spoke before of a life that goes on decide nothing, unless the wire has shown it dead."""
        if reports.is_alive(self.line.status, self.why_held):
            self.code = None


class OrderBook:
    """Every order and execution seen on the wire by this process, over all its connections."""

    def __init__(self, broker: str, emit: Callable[[Report], None], clock: Callable[[], float]) -> None:
        self.broker = broker
        self._emit = emit
        self._clock = clock
        #: Requests of the present connection that are not answered yet, by order id.
        self._pending: defaultdict[int, list[Pending]] = defaultdict(list)
        self._orders: dict[int, KnownOrder] = {}
        self._executions: dict[str, WireExecution] = {}
        self._executions_of: dict[int, list[WireExecution]] = {}
        #: By execution: the revision it is for, the amount, its currency.
        self._commissions: dict[str, tuple[int, Decimal, str | None]] = {}
        self.client_id = -1
        #: What contracts are called; a conId means the same over all connections.
        self.names = Names()
        #: The next order id must not be below this, whatever nextValidId says (docs/facts/ibkr.md#2.3).
        self.id_floor = 1

    # -- PENDING ---
    def begin(self, pending: Pending, order_id: int) -> None:
        """Feed a request with the messages under this order id from now on."""
        pending.order_id = order_id
        self._pending[order_id].append(pending)

    def forget(self, pending: Pending) -> None:
        """Feed a request no more; nothing happens if it was never begun."""
        left = [one for one in self._pending.pop(pending.order_id, ()) if one is not pending]
        if left:
            self._pending[pending.order_id] = left

    def lose(self, why: str) -> None:
        """Tell every pending request that the way to IB broke."""
        for pending in list(self._every_pending()):
            pending.lose(why)

    def is_changing(self, order_id: int) -> bool:
        """Tell whether a change of this order is under way."""
        return any(isinstance(pending, PendingChange) for pending in self._pending.get(order_id, ()))

    def placing(self, ref: str) -> list[int]:
        """Return the order ids under which an order with this reference is being placed."""
        pending = (one for one in self._every_pending() if isinstance(one, PendingOrder) and one.ref == ref)
        return [one.order_id for one in pending]

    def _every_pending(self) -> Iterator[Pending]:
        return (pending for found in self._pending.values() for pending in found)

    def _pending_of(self, order_id: int, client_id: int) -> list[Pending]:
        """Return the pending requests under an order id; under that of another client there are none."""
        return list(self._pending.get(order_id, ())) if client_id == self.client_id else []

    # -- WIRE ---
    def on_order(self, line: OrderLine) -> None:
        """Take in an openOrder."""
        for pending in self._pending_of(line.order_id, line.client_id):
            pending.see_order(line, self._why_held(line.perm_id), self._clock())
        if line.perm_id:
            known = self._orders.setdefault(line.perm_id, KnownOrder(line=line))
            known.show(line)
            self._trim(self._orders)
            self._push(known)

    def on_status(
        self, order_id: int, client_id: int, perm_id: int, status: str, why_held: str, filled: float, average: float = 0
    ) -> None:
        """Take in an orderStatus; a cancel by another client is told with that client's id, so permId decides."""
        known = self._orders.get(perm_id)
        for pending in self._pending_of(order_id, client_id):
            pending.see_status(status, why_held, perm_id, known.line.ref if known else None, self._clock())
        if known is not None:
            known.why_held = why_held
            known.wire_filled, known.wire_average = values.size(filled), values.positive(average)
            known.show(replace(known.line, status=status))
            self._push(known)

    def on_execution(self, execution: WireExecution, pushed: bool = False) -> bool:
        """Take in an execDetails; return whether it was new, or corrects a known execution.

        `pushed`: it was told as it happened, so it shows the order alive now. One of a listing may be of any time.
        """
        fill = execution.fill
        for pending in self._pending_of(execution.order_id, execution.client_id):
            pending.see_execution(fill.broker_client_order_id, execution.perm_id, self._clock())
        known_as = self._executions.get(fill.execution_id)
        if known_as is not None and known_as.fill.revision >= fill.revision:
            return False
        self._executions[fill.execution_id] = execution
        rows = self._executions_of.setdefault(execution.perm_id, [])
        rows[:] = [*(row for row in rows if row.fill.execution_id != fill.execution_id), execution]
        self._trim(self._executions)
        self._trim(self._executions_of)
        self._emit(self.fill(execution))
        known = self._orders.get(execution.perm_id)
        if known is not None:
            if pushed and known_as is None:
                known.hear_of_life()
            self._push(known)
        return True

    def on_package(self, execution: WireExecution) -> None:
        """Take in an execution of a BAG: it proves the order, and is none, as those of its legs are told as well."""
        for pending in self._pending_of(execution.order_id, execution.client_id):
            pending.see_execution(execution.fill.broker_client_order_id, execution.perm_id, self._clock())

    def on_commission(self, text: str, commission: Decimal | None, currency: str | None = None) -> None:
        """Take in a commissionReport; that of the highest revision of an execution counts."""
        execution_id, revision = reports.split_execution_id(text)
        if commission is None:
            return
        told, known = (revision, commission, currency), self._commissions.get(execution_id)
        if known == told or (known is not None and known[0] > revision):
            return
        self._commissions[execution_id] = told
        self._trim(self._commissions)
        self._emit(CommissionReport(execution_id=execution_id, commission=commission, currency=currency))

    def on_error(self, order_id: int, number: int, text: str) -> bool:
        """Take in an error under an order id; return whether it is an order of ours."""
        pending = self._pending_of(order_id, self.client_id)
        for request in pending:
            request.hear(number, text, self._clock())
        known = self.by_order_id(order_id) if order_id > 0 else None
        if known is not None and known.cancel_requested and number in _NOTHING_TO_CANCEL:
            known.cancel_answered = True
            self._push(known)
        if known is not None and _is_ending(known, number):
            known.code = (number, text)
            self._push(known)
        return bool(pending) or known is not None

    def raise_floor(self, order_id: int) -> None:
        """Note that an order id of this client is taken."""
        self.id_floor = max(self.id_floor, order_id + 1)

    # -- QUESTIONS ---
    def by_perm_id(self, perm_id: int) -> KnownOrder | None:
        """Return the order under IB's durable id."""
        return self._orders.get(perm_id)

    def by_order_id(self, order_id: int) -> KnownOrder | None:
        """Return our newest order under this order id; ids may have been reissued, so the newest one counts."""
        ours = (k for k in reversed(self._orders.values()) if k.line.order_id == order_id)
        return next((k for k in ours if k.line.client_id == self.client_id), None)

    def by_ref(self, ref: str) -> list[KnownOrder]:
        """Return every order under this orderRef; after a modify there may be two (docs/facts/ibkr.md#2.4)."""
        return [known for known in self._orders.values() if known.line.ref == ref]

    def fill(self, execution: WireExecution) -> FillReport:
        """Return an execution with its commission, if that of this revision is known."""
        revision, commission, currency = self._commissions.get(execution.fill.execution_id, (-1, None, None))
        if revision != execution.fill.revision:
            return execution.fill
        return replace(execution.fill, commission=commission, commission_currency=currency)

    def executions_of(self, perm_id: int) -> list[WireExecution]:
        """Return the executions of one order, oldest first."""
        return sorted(self._executions_of.get(perm_id, ()), key=lambda e: e.fill.cumulative_quantity or Decimal(0))

    def answer(self, pending: PendingOrder, order: OrderRequest) -> OrderReport:
        """Return the answer of place_order for an order that IB has."""
        known = self._orders.get(pending.perm_id)
        if known is not None:
            return self.report(known)
        executions = self.executions_of(pending.perm_id)
        filled = filled_by(executions) if order.legs is None else None
        status = reports.open_status(pending.told.status, pending.told.why_held, refused=False)
        if filled is not None:
            status = BrokerStatus.FILLED if filled >= order.units else BrokerStatus.PARTIALLY_FILLED
        return OrderReport(
            broker_order_id=str(pending.perm_id) if pending.perm_id else None,
            status=status,
            broker_client_order_id=pending.ref,
            symbol=executions[-1].fill.symbol if filled is not None else None,
            side=executions[-1].fill.side if filled is not None else None,
            session=str(self.client_id),
            account=executions[-1].fill.account if executions else None,
            filled_quantity=filled,
            avg_fill_price=average_of(executions) if filled is not None else None,
            raw_status=pending.told.status,
        )

    def report(self, known: KnownOrder) -> OrderReport:
        """Return an open order as a report; IB's filled quantity may be ahead of the executions it has told."""
        line = known.line
        status = reports.open_status(line.status, known.why_held, known.is_refused)
        executions = self.executions_of(line.perm_id)
        filled = filled_of(line, executions, known.wire_filled)
        if filled and line.quantity and filled >= line.quantity:
            status = BrokerStatus.FILLED  # a fill may come without any orderStatus (docs/facts/ibkr.md#3.2)
        elif status is BrokerStatus.ACCEPTED and filled:
            status = BrokerStatus.PARTIALLY_FILLED
        if status is BrokerStatus.REJECTED:
            filled = filled or Decimal(0)
        told = status is not BrokerStatus.FILLED or line.status == "Filled" or line.completed_status
        report = build_report(line, status, filled, executions, known.code)
        dormant = status is BrokerStatus.REJECTED and line.status == reports.INACTIVE
        average = None if line.combo else report.avg_fill_price or known.wire_average
        word = report.raw_status if told else None  # its last word is of when it worked
        return replace(report, avg_fill_price=average, dormant=dormant, raw_status=word)

    # -- INSIDE ---
    def _why_held(self, perm_id: int) -> str:
        known = self._orders.get(perm_id)
        return known.why_held if known else ""

    def _push(self, known: KnownOrder) -> None:
        """Tell what is known of an order now, unless it proves nothing or somebody waits for it anyway."""
        if not known.line.ref:
            return  # typed into TWS by hand: nobody waits for it
        report = self.report(known)
        if report.status is BrokerStatus.UNKNOWN:
            return  # PendingSubmit and a bare Inactive prove nothing: no news yet
        pending = self._pending_of(known.line.order_id, known.line.client_id)
        awaited = [one for one in pending if isinstance(one, PendingOrder) and not one.lingers]
        if report.status is BrokerStatus.REJECTED and awaited:
            return  # place_order answers, and knows whether the order was alive before
        if report.status is BrokerStatus.CANCELED and not report.filled_quantity and any(p.linked for p in awaited):
            return  # its group may be refused whole
        key = (  # another word for the same status is no news: the next reading has it
            report.status,
            report.code,
            report.filled_quantity,
            report.quantity,
            report.limit_price,
            report.stop_price,
            report.time_in_force,
        )
        if key != known.pushed:
            known.pushed = key
            self._emit(report)

    @staticmethod
    def _trim(table: dict[K, V]) -> None:
        if len(table) > REMEMBERED:
            table.pop(next(iter(table)))


def filled_of(line: OrderLine, executions: list[WireExecution], told: Decimal | None) -> Decimal | None:
    """Return how much of an order is filled, by its executions or IB's total; of a package whole packages.

    A correction makes IB's total history: the executions count then, and of a package whose legs have no names yet
    nobody can tell how much they make.
    """
    if not line.combo:
        return total_of(executions, told)
    if is_corrected(executions):
        return packages_filled(line.package, executions) if line.package else None
    return max(packages_filled(line.package, executions), told or Decimal(0)) or None


def _is_ending(known: KnownOrder, number: int) -> bool:
    """Tell whether a code explains the end of an order that we asked neither to cancel nor to change."""
    about_the_change = known.change_requested and number != CANCELED
    return number in _ENDING_CODES and not known.cancel_requested and not about_the_change
