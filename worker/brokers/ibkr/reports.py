"""Interactive Brokers' messages in corro's words: order lines and executions, and the reports made of them.

Pure: no socket, no loop. SDK objects are read by attribute only, so both SDKs fit (docs/facts/ibkr.md#5.6, #5.9).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from models.messages import OrderRequest
from models.reports import DONE, BrokerStatus, FillReport, LegReport, OrderReport
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.ibkr.instruments import Size
from worker.brokers.ibkr.sdk import SdkContract, SdkExecution, SdkOrder, SdkOrderState
from worker.brokers.ibkr.terms import ON_CLOSE, ORDER_TYPES, PRICES, TIFS, UNSET_INTEGER
from worker.brokers.ibkr.times import Zones, parse
from worker.brokers.values import identity, number, positive, size, soft

_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL, "SSHORT": Side.SELL_SHORT, "BOT": Side.BUY, "SLD": Side.SELL}
_TYPES_IN = {wire: ours for ours, wire in ORDER_TYPES.items()} | {"MOC": OrderType.MARKET, "LOC": OrderType.LIMIT}
#: Wire types whose lmtPrice is a limit.
_LIMITED = frozenset({"LMT", "LOC", "STP LMT", "LIT"})
#: Wire types whose auxPrice is a trigger, and those whose auxPrice is a distance.
_TRIGGERED, _TRAILED = frozenset({"STP", "STP LMT", "MIT", "LIT"}), frozenset({"TRAIL", "TRAIL LIMIT"})
_TIFS_IN = {wire: ours for ours, wire in TIFS.items() if ours is not TimeInForce.CLS}
#: Contracts whose price may be 0 or less.
_ANY_SIGN = frozenset({"BAG", "FUT"})
#: Wire statuses that prove that IB has the order (docs/facts/ibkr.md#3.1); PendingSubmit and ApiPending prove nothing.
ALIVE = frozenset({"PreSubmitted", "Submitted", "PendingCancel", "Filled"})
ENDED = frozenset({"Cancelled", "ApiCancelled"})
INACTIVE = "Inactive"
_STATUSES = {
    "PreSubmitted": BrokerStatus.ACCEPTED,
    "Submitted": BrokerStatus.ACCEPTED,
    "PendingCancel": BrokerStatus.PENDING_CANCEL,
    "Filled": BrokerStatus.FILLED,
    "Cancelled": BrokerStatus.CANCELED,
    "ApiCancelled": BrokerStatus.CANCELED,
}
#: The last part of an execId; a longer number counts no corrections.
_REVISION = re.compile(r"[0-9]{1,6}")
#: completedStatus is prose: "Filled Size: 100", "Cancelled by Trader", "Rejected ...".
_COMPLETED = (
    ("rejected", BrokerStatus.REJECTED),
    ("expired", BrokerStatus.EXPIRED),
    ("cancel", BrokerStatus.CANCELED),
)


@dataclass(frozen=True, slots=True)
class ComboPart:
    """One leg of an order in a BAG, as its message has it."""

    con_id: int
    side: Side | None
    ratio: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """One openOrder or completedOrder message, in plain values."""

    perm_id: int
    order_id: int
    client_id: int
    ref: str
    account: str
    #: None until the contract that its ticker means is known (`names.Names`).
    symbol: str | None
    status: str
    side: Side | None
    order_type: OrderType | None
    time_in_force: TimeInForce | None
    quantity: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    limit_offset: Decimal | None = None
    extended_hours: bool | None = None
    #: Only in completed orders, which in turn carry neither order id nor client id.
    filled: Decimal | None = None
    completed_status: str = ""
    completed_at: datetime | None = None
    #: The client id that placed the order, as text; None where the message does not tell.
    session: str | None = None
    #: The name of its account; None where that has none.
    owner: str | None = None
    #: The SDK's contract, for its name; and what one unit of it is, once that is known.
    contract: SdkContract | None = None
    size: Size | None = None
    #: The legs of a package by their conIds, and by their names once all of these are known.
    combo: tuple[ComboPart, ...] = ()
    package: tuple[LegReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WireExecution:
    """One execDetails message: the fill, and the ids it hangs on."""

    fill: FillReport
    perm_id: int
    order_id: int
    client_id: int
    account: str
    avg_price: Decimal | None
    #: The SDK's contract, for its name.
    contract: SdkContract | None = None


def has_terms(line: OrderLine, order: OrderRequest) -> bool:
    """Tell whether an open order has these terms, as far as a change may touch them; quantity is the total."""
    shown = {name: getattr(line, name) for name in PRICES}
    return (
        line.quantity == order.quantity
        and line.time_in_force == order.time_in_force
        and all(shown[name] == getattr(order, name) for name in PRICES if getattr(order, name) is not None)
    )


def order_line(contract: SdkContract, order: SdkOrder, state: SdkOrderState, zone: tzinfo) -> OrderLine:
    """Read an openOrder or completedOrder."""
    on_close, combo = order.orderType in ON_CLOSE.values(), _combo(contract)
    completed = bool(state.completedStatus or state.completedTime)
    return OrderLine(
        perm_id=_perm_id(order.permId),
        order_id=int(order.orderId),
        client_id=int(order.clientId),
        ref=str(order.orderRef),
        account=str(order.account),
        symbol=None,
        contract=contract,
        status=str(state.status),
        side=_SIDES.get(order.action),
        order_type=_TYPES_IN.get(order.orderType),
        time_in_force=TimeInForce.CLS if on_close else _TIFS_IN.get(order.tif),
        quantity=positive(order.totalQuantity),
        # Of other types it is no limit: recorded of a TRAIL order was lmtPrice 2000.03 while AAPL stood at 264.
        # Of a package it is below zero where it is received.
        limit_price=_price(contract, order.lmtPrice) if order.orderType in _LIMITED else None,
        combo=combo,
        # auxPrice is the distance of a TRAIL order.
        stop_price=positive(order.auxPrice) if order.orderType in _TRIGGERED else None,
        trail_amount=positive(order.auxPrice) if order.orderType in _TRAILED else None,
        trail_percent=positive(order.trailingPercent) if order.orderType in _TRAILED else None,
        limit_offset=positive(order.lmtPriceOffset) if order.orderType == "TRAIL LIMIT" else None,
        extended_hours=bool(order.outsideRth),
        filled=size(getattr(order, "filledQuantity", None)) if completed else None,
        completed_status=str(state.completedStatus),
        completed_at=parse(state.completedTime, Zones(zone)) if completed else None,
        session=None if completed else str(int(order.clientId)),
    )


def _price(contract: SdkContract, told: object) -> Decimal | None:
    """Return a price; 0 and less is one of packages and of futures alone, elsewhere IB means that there is none."""
    return soft(number, told) if contract.secType in _ANY_SIGN else positive(told)


def _combo(contract: SdkContract) -> tuple[ComboPart, ...]:
    """Return the legs of a BAG; none of any other contract."""
    if contract.secType != "BAG":
        return ()
    legs = contract.comboLegs or ()
    return tuple(ComboPart(int(leg.conId), _SIDES.get(str(leg.action)), positive(leg.ratio)) for leg in legs)


def execution(contract: SdkContract, raw: SdkExecution, timed: bool = True) -> WireExecution:
    """Read an execDetails; its time came to the SDK in seconds since 1970 (`frames`), and is aware.

    Raises:
        ValueError: it does not say which one, or how many; only 0 means that the execution was taken back.
    """
    perm_id = _perm_id(raw.permId)
    quantity = size(raw.shares)
    if quantity is None:
        raise ValueError(f"an execution without its size: {raw.shares!r}")
    if identity(raw.execId) is None:
        raise ValueError(f"an execution without its id: {raw.execId!r}")
    execution_id, revision = split_execution_id(str(raw.execId))
    fill = FillReport(
        execution_id=execution_id,
        revision=revision,
        quantity=quantity,
        busted=not quantity,
        price=_price(contract, raw.price),
        filled_at=raw.time.astimezone(UTC),
        timed=timed,
        side=_SIDES.get(raw.side),
        broker_client_order_id=str(raw.orderRef) or None,
        broker_order_id=str(perm_id) if perm_id else None,
        session=str(int(raw.clientId)),
        cumulative_quantity=positive(raw.cumQty),
    )
    # A manual order's execution carries the largest integer as its order id.
    order_id = 0 if raw.orderId == UNSET_INTEGER else int(raw.orderId)
    return WireExecution(
        fill=fill,
        perm_id=perm_id,
        order_id=order_id,
        client_id=int(raw.clientId),
        account=str(raw.acctNumber),
        avg_price=_price(contract, raw.avgPrice),
        contract=contract,
    )


def _perm_id(value: object) -> int:
    """Return IB's durable id of an order; 0 where it has not given any."""
    return int(identity(value) or 0)


def split_execution_id(text: str) -> tuple[str, int]:
    """Return the lasting id of an execution, and its revision: a correction differs after the last dot only.

    Source: the documentation of IB's API on execDetails; `0000e0d5.69dd7411.01.01` was recorded live.
    """
    head, dot, tail = text.rpartition(".")
    return (head, int(tail)) if dot and _REVISION.fullmatch(tail) else (text, 0)


def open_status(status: str, why_held: str, refused: bool) -> BrokerStatus:
    """Fold a wire status; Inactive means rejected or held, and only its company tells.

    Cancelled is never a rejection: a refusing code that was heard earlier may be about anything.
    """
    if status == INACTIVE and why_held:
        return BrokerStatus.ACCEPTED
    if status == INACTIVE and refused:
        return BrokerStatus.REJECTED
    return _STATUSES.get(status, BrokerStatus.UNKNOWN)


def is_alive(status: str, why_held: str) -> bool:
    """Tell whether a wire status shows an order that IB has, and that is held, works, or worked."""
    return status in ALIVE or (status == INACTIVE and bool(why_held))


def completed_status(line: OrderLine) -> BrokerStatus:
    """Fold a completed order by its prose first: IB shows rejected ones as Cancelled or Inactive."""
    if line.status == "Filled":
        return BrokerStatus.FILLED
    prose = line.completed_status.lower()
    if prose.startswith("cancel") and "expired" not in prose:
        return BrokerStatus.CANCELED  # whatever the reason says: an order that worked, and then ended, is no rejection
    folded = next((status for words, status in _COMPLETED if words in prose), None)
    return folded or _STATUSES.get(line.status, BrokerStatus.UNKNOWN)


# -- REPORTS ---
def filled_by(executions: list[WireExecution]) -> Decimal | None:
    """Return the quantity that executions of one order prove: IB's own running total where that is ahead.

    Once one of them was corrected, the running totals of the others speak of what was before: then the sum counts.
    """
    if not executions:
        return None
    total = sum((e.fill.quantity for e in executions), Decimal(0))
    if is_corrected(executions):
        return total
    return max(total, *(e.fill.cumulative_quantity or Decimal(0) for e in executions))


def total_of(executions: list[WireExecution], told: Decimal | None) -> Decimal | None:
    """Return the filled quantity: the larger of executions and the broker's total, or the rest after corrections."""
    executed = filled_by(executions)
    if executed is not None and (is_corrected(executions) or not told):
        return executed
    return max(executed or Decimal(0), told or Decimal(0)) or None


def average_of(executions: list[WireExecution]) -> Decimal | None:
    """Return the average price of executions: IB's own, unless a correction has made that history."""
    if not executions:
        return None
    if not is_corrected(executions):
        return executions[-1].avg_price
    worth = [(e.fill.quantity, e.fill.price) for e in executions if e.fill.quantity]
    total = sum((quantity for quantity, _ in worth), Decimal(0))
    if not total or any(price is None for _, price in worth):
        return None
    return sum((quantity * price for quantity, price in worth if price is not None), Decimal(0)) / total


def is_corrected(executions: list[WireExecution]) -> bool:
    """Tell whether one of these has replaced another: the running totals of the others speak of what was before."""
    return any(e.fill.revision > 1 for e in executions)


def build_report(
    line: OrderLine,
    status: BrokerStatus,
    filled: Decimal | None,
    executions: list[WireExecution],
    code: tuple[int, str] | None,
) -> OrderReport:
    """Put an order line, its folded status and its executions together."""
    number, text = code or (None, line.completed_status or None)
    return OrderReport(
        broker_order_id=str(line.perm_id) if line.perm_id else None,
        status=status,
        broker_client_order_id=line.ref or None,
        symbol=line.symbol,
        package=line.package,
        currency=line.size.currency if line.size else None,
        multiplier=line.size.multiplier if line.size else None,
        side=line.side,
        order_type=line.order_type,
        time_in_force=line.time_in_force,
        quantity=line.quantity or (line.filled if status is BrokerStatus.FILLED else None),
        limit_price=line.limit_price,
        stop_price=line.stop_price,
        trail_amount=line.trail_amount,
        trail_percent=line.trail_percent,
        limit_offset=line.limit_offset,
        extended_hours=line.extended_hours,
        session=line.session,
        account=line.owner,
        filled_quantity=filled,
        avg_fill_price=average_of(executions) if not line.combo and filled == filled_by(executions) else None,
        code=str(number) if number is not None and status in DONE else None,
        message=text if status in DONE else None,
        raw_status=line.completed_status or line.status,
        updated_at=line.completed_at,
    )
