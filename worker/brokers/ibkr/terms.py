"""Words and numbers between corro and Interactive Brokers: orders out, order lines and executions in.

Pure: no socket, no loop. SDK objects are read by attribute only, so both SDKs fit (docs/facts/ibkr.md#5.6, #5.9).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

from models.errors import Unsupported
from models.messages import OrderRequest, plain
from models.reports import BrokerStatus, FillReport
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.ibkr.times import Zones, parse
from worker.brokers.values import identity, positive, size

#: orderRef: IB documents no limit; longer or odd ones get lost on the way (docs/facts/ibkr.md#2.1).
REF_LENGTH = 40
_REF = re.compile(r"[!-~]{1,40}")
_REF_BANNED = frozenset(" ,\"'")
#: Both SDKs send this number as "not set".
_UNSET_INTEGER = 2**31 - 1

ORDER_TYPES = {
    OrderType.MARKET: "MKT",
    OrderType.LIMIT: "LMT",
    OrderType.STOP: "STP",
    OrderType.STOP_LIMIT: "STP LMT",
    OrderType.TRAILING_STOP: "TRAIL",
}
_ON_CLOSE = {OrderType.MARKET: "MOC", OrderType.LIMIT: "LOC"}
TIFS = {
    TimeInForce.DAY: "DAY",
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.OPG: "OPG",
    # On-close orders are an order type at IB, with an ordinary DAY.
    TimeInForce.CLS: "DAY",
}
_AUCTION_TYPES = frozenset({OrderType.MARKET, OrderType.LIMIT})
_AUCTIONS = frozenset({TimeInForce.OPG, TimeInForce.CLS})
#: IB knows no short sale on this wire: selling more than one holds is one.
ACTIONS = {Side.BUY: "BUY", Side.BUY_TO_COVER: "BUY", Side.SELL: "SELL", Side.SELL_SHORT: "SELL"}

_PRICES = ("limit_price", "stop_price", "trail_amount", "trail_percent")
_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL, "SSHORT": Side.SELL_SHORT, "BOT": Side.BUY, "SLD": Side.SELL}
_TYPES_IN = {wire: ours for ours, wire in ORDER_TYPES.items()} | {"MOC": OrderType.MARKET, "LOC": OrderType.LIMIT}
#: Wire types whose lmtPrice is a limit.
_LIMITED = frozenset({"LMT", "LOC", "STP LMT"})
_TIFS_IN = {wire: ours for ours, wire in TIFS.items() if ours is not TimeInForce.CLS}

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
#: completedStatus is prose: "Filled Size: 100", "Cancelled by Trader", "Rejected ...".
_COMPLETED = (
    ("rejected", BrokerStatus.REJECTED),
    ("expired", BrokerStatus.EXPIRED),
    ("cancel", BrokerStatus.CANCELED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """One openOrder or completedOrder message, in plain values."""

    perm_id: int
    order_id: int
    client_id: int
    ref: str
    account: str
    #: None until it is known which contract its ticker means (`ibkr_names.Names`).
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
    extended_hours: bool | None = None
    #: Only in completed orders, which in turn carry neither order id nor client id.
    filled: Decimal | None = None
    completed_status: str = ""
    completed_at: datetime | None = None
    #: The client id that placed the order, as text; None where the message does not tell.
    session: str | None = None
    #: The SDK's contract, for its name.
    contract: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execDetails message: the fill, and the ids it hangs on."""

    fill: FillReport
    perm_id: int
    order_id: int
    client_id: int
    account: str
    avg_price: Decimal | None
    #: The SDK's contract, for its name.
    contract: Any = None


# -- OUT ---
def check_terms(order: OrderRequest, ref: str, broker: str) -> None:
    """Raise Unsupported for what IB takes in no form; called before anything is sent."""
    if not _REF.fullmatch(ref) or _REF_BANNED & set(ref):
        raise Unsupported(f"{broker}: orderRef {ref!r} must be 1-{REF_LENGTH} ASCII characters, no blanks or commas")
    if order.time_in_force in _AUCTIONS and order.order_type not in _AUCTION_TYPES:
        raise Unsupported(f"{broker} takes {order.time_in_force} for market and limit orders only")
    if order.extended_hours and order.order_type is not OrderType.LIMIT:
        raise Unsupported(f"{broker} trades extended hours with limit orders only, not {order.order_type}")
    if order.extended_hours and order.time_in_force in _AUCTIONS:
        raise Unsupported(f"{broker} has no extended hours for {order.time_in_force}: auctions are in regular hours")
    if order.quantity >= _UNSET_INTEGER:
        raise Unsupported(f"{broker} cannot carry a quantity of {plain(order.quantity)}")


#: How a contract's own list of order types (`contractDetails.orderTypes`) spells them.
_LISTED_TYPES = {
    OrderType.MARKET: "MKT",
    OrderType.LIMIT: "LMT",
    OrderType.STOP: "STP",
    OrderType.STOP_LIMIT: "STPLMT",
    OrderType.TRAILING_STOP: "TRAIL",
}
#: Not offered unless the contract lists it: recorded of AAPL, IB shows a FOK order as Inactive and says no more.
_ONLY_LISTED = frozenset({"FOK"})


def check_listed(order: OrderRequest, listed: frozenset[str], broker: str) -> None:
    """Raise Unsupported for an order type or time in force that the contract's own order types do not name.

    Args:
        order: what is wanted.
        listed: the contract's order types, which hold times in force too; empty where IB told none.
        broker: for the message.
    """
    on_close = order.time_in_force is TimeInForce.CLS
    kind = _ON_CLOSE[order.order_type] if on_close else _LISTED_TYPES[order.order_type]
    needed = {kind, TIFS[order.time_in_force]}
    missing = needed - listed if listed else needed & _ONLY_LISTED
    if missing:
        words = ", ".join(sorted(missing))
        raise Unsupported(f"{broker} does not take {words} orders for {order.symbol}: not among its order types")


def check_change(old: OrderRequest, new: OrderRequest, broker: str) -> None:
    """Raise Unsupported for a change to on-close or from it: it is an order type there (docs/facts/ibkr.md#5.6)."""
    if old.time_in_force is not new.time_in_force and TimeInForce.CLS in (old.time_in_force, new.time_in_force):
        words = f"time_in_force from {old.time_in_force} to {new.time_in_force}: that is another order type there"
        raise Unsupported(f"{broker}: a replace cannot change {words}", broker=broker)


def has_terms(line: OrderLine, order: OrderRequest) -> bool:
    """Tell whether an open order has these terms, as far as a change may touch them; quantity is the total."""
    shown = {name: getattr(line, name) for name in _PRICES}
    return (
        line.quantity == order.quantity
        and line.time_in_force == order.time_in_force
        and all(shown[name] == getattr(order, name) for name in _PRICES if getattr(order, name) is not None)
    )


def order_fields(order: OrderRequest, ref: str, account: str) -> dict[str, Any]:
    """Return the fields of the SDK's Order; numbers become floats here and nowhere else."""
    on_close = order.time_in_force is TimeInForce.CLS
    types = _ON_CLOSE if on_close else ORDER_TYPES
    fields: dict[str, Any] = {
        "action": ACTIONS[order.side],
        "totalQuantity": int(order.quantity),
        "orderType": types[order.order_type],
        # Explicit always: without it an order preset sets one and answers 10349 (docs/facts/ibkr.md#4.5).
        "tif": TIFS[order.time_in_force],
        "orderRef": ref,
        "account": account,
        "outsideRth": order.extended_hours,
        "transmit": True,
    }
    prices = {
        "lmtPrice": order.limit_price,
        "auxPrice": order.stop_price or order.trail_amount,
        "trailingPercent": order.trail_percent,
    }
    return fields | {name: float(price) for name, price in prices.items() if price is not None}


# -- IN ---
def order_line(contract: Any, order: Any, state: Any, zone: tzinfo) -> OrderLine:
    """Read an openOrder or completedOrder."""
    on_close = order.orderType in _ON_CLOSE.values()
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
        limit_price=positive(order.lmtPrice) if order.orderType in _LIMITED else None,
        # auxPrice is the distance of a TRAIL order.
        stop_price=positive(order.auxPrice) if order.orderType in ("STP", "STP LMT") else None,
        trail_amount=positive(order.auxPrice) if order.orderType == "TRAIL" else None,
        trail_percent=positive(order.trailingPercent) if order.orderType == "TRAIL" else None,
        extended_hours=bool(order.outsideRth),
        filled=size(getattr(order, "filledQuantity", None)) if completed else None,
        completed_status=str(state.completedStatus),
        completed_at=parse(state.completedTime, Zones(zone)) if completed else None,
        session=None if completed else str(int(order.clientId)),
    )


def execution(contract: Any, raw: Any, timed: bool = True) -> Execution:
    """Read an execDetails; its time came to the SDK in seconds since 1970 (`ibkr_frames`), and is aware.

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
        price=positive(raw.price),
        filled_at=raw.time.astimezone(UTC),
        timed=timed,
        side=_SIDES.get(raw.side),
        broker_client_order_id=str(raw.orderRef) or None,
        broker_order_id=str(perm_id) if perm_id else None,
        session=str(int(raw.clientId)),
        cumulative_quantity=positive(raw.cumQty),
    )
    # A manual order's execution carries the largest integer as its order id.
    order_id = 0 if raw.orderId == _UNSET_INTEGER else int(raw.orderId)
    return Execution(
        fill=fill,
        perm_id=perm_id,
        order_id=order_id,
        client_id=int(raw.clientId),
        account=str(raw.acctNumber),
        avg_price=positive(raw.avgPrice),
        contract=contract,
    )


def _perm_id(value: Any) -> int:
    """Return IB's durable id of an order; 0 where it has not given any."""
    return int(identity(value) or 0)


def split_execution_id(text: str) -> tuple[str, int]:
    """Return what names an execution for ever, and its revision: a correction differs after the last dot only.

    Source: the documentation of IB's API on execDetails; `0000e0d5.69dd7411.01.01` was recorded live.
    """
    head, dot, tail = text.rpartition(".")
    return (head, int(tail)) if dot and tail.isdecimal() else (text, 0)


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
        return BrokerStatus.CANCELED  # whatever the reason says: what worked, and was then ended, is no rejection
    folded = next((status for words, status in _COMPLETED if words in prose), None)
    return folded or _STATUSES.get(line.status, BrokerStatus.UNKNOWN)
