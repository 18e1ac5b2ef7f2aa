"""Alpaca's orders in corro's words; nothing here talks to anyone."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from models.reports import DONE, UNREADABLE, BrokerStatus, OrderReport
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.alpaca.groups import CLASSES
from worker.brokers.alpaca.legs import CLASS as MLEG
from worker.brokers.alpaca.legs import package_of
from worker.brokers.alpaca.symbols import ASSET_CLASSES, currency_of, symbol_of
from worker.brokers.values import Raw, identity, moment, number, positive, size, soft

Word = TypeVar("Word", bound=StrEnum)

_ACCEPTED = BrokerStatus.ACCEPTED
#: docs/facts/alpaca.md#2.9; done_for_day and calculated are no end: a GTC order lives on, a day order expires next.
STATUSES: dict[str, BrokerStatus] = {
    "pending_new": _ACCEPTED,
    "accepted": _ACCEPTED,
    "accepted_for_bidding": _ACCEPTED,
    "pending_review": _ACCEPTED,
    "held": _ACCEPTED,
    "new": _ACCEPTED,
    "stopped": _ACCEPTED,
    "suspended": _ACCEPTED,
    "done_for_day": _ACCEPTED,
    "calculated": _ACCEPTED,
    "pending_replace": _ACCEPTED,
    "partially_filled": BrokerStatus.PARTIALLY_FILLED,
    "pending_cancel": BrokerStatus.PENDING_CANCEL,
    "filled": BrokerStatus.FILLED,
    "canceled": BrokerStatus.CANCELED,
    "expired": BrokerStatus.EXPIRED,
    "rejected": BrokerStatus.REJECTED,
    "replaced": BrokerStatus.REPLACED,
}
#: Fields of an order, and the values they have in every order that corro sends.
_NEVER_OURS: dict[str, tuple[object, ...]] = {
    "asset_class": (None, "", *ASSET_CLASSES),
    "order_class": (None, "", "simple", MLEG, *CLASSES),
}


def _word(kind: type[Word], value: object) -> Word | None:
    """Return the enum member of a word, None for a word corro has not."""
    return kind(value) if isinstance(value, str) and value in set(kind) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def id_in(raw: Raw, key: str, longest: int = 64) -> str:
    """Return an id that must be there, no longer than the record keeps ids."""
    found = identity(raw[key])
    if found is None or len(found) > longest:
        raise ValueError(f"{key} is no id, was {str(raw[key])[:80]!r}")
    return found


def order_report(raw: Raw, parent: str | None = None) -> OrderReport:
    """Read one order, and those in its `legs`; an end that does not say how much was filled is no end yet.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no order.
    """
    filled, word = size(raw.get("filled_qty")), raw["status"]
    status = STATUSES.get(word, BrokerStatus.UNKNOWN)
    if status is _ACCEPTED and filled:
        status = BrokerStatus.PARTIALLY_FILLED
    if (status in DONE and filled is None) or (status is BrokerStatus.FILLED and not filled):
        status = BrokerStatus.UNKNOWN
    ours, linked = identity(raw.get("client_order_id")), raw.get("order_class") in CLASSES
    return OrderReport(
        part_of=parent,
        package=package_of(raw),
        linked=str(raw["order_class"]) if linked else None,
        legs=tuple(order_report(leg, ours) for leg in raw.get("legs") or () if linked),
        broker_order_id=id_in(raw, "id"),
        broker_client_order_id=ours,
        status=status,
        raw_status=str(word),
        symbol=symbol_of(raw),
        currency=currency_of(symbol_of(raw)),
        side=_word(Side, raw.get("side")),
        order_type=_word(OrderType, raw.get("type") or raw.get("order_type")),
        time_in_force=_word(TimeInForce, raw.get("time_in_force")),
        # Of an order of money Alpaca tells none, or, once it is filled, what was bought: nobody ordered that.
        quantity=None if positive(raw.get("notional")) else positive(raw.get("qty")),
        notional=positive(raw.get("notional")),
        limit_price=(number if raw.get("order_class") == MLEG else positive)(raw.get("limit_price")),
        stop_price=positive(raw.get("stop_price")),
        trail_amount=positive(raw.get("trail_price")),
        trail_percent=positive(raw.get("trail_percent")),
        extended_hours=raw["extended_hours"] if isinstance(raw.get("extended_hours"), bool) else None,
        replaces=identity(raw.get("replaces")),
        replaced_by=identity(raw.get("replaced_by")),
        unlike_ours=unlike_ours(raw),
        filled_quantity=filled,
        avg_fill_price=None if raw.get("order_class") == MLEG else positive(raw.get("filled_avg_price")),
        # Of an order that lives, a reason is one of the past.
        message=_text(raw.get("reject_reason")) if status in DONE else None,
        submitted_at=moment(raw.get("submitted_at") or raw.get("created_at")),
        updated_at=moment(raw.get("updated_at")),
    )


def unlike_ours(raw: Raw) -> tuple[str, ...]:
    """Return the features of an order that no order of corro's has: whatever id it carries, it is not ours."""
    terms = {"type": OrderType, "side": Side, "time_in_force": TimeInForce}
    strange = [key for key, usual in _NEVER_OURS.items() if raw.get(key) not in usual]
    strange += [key for key, known in terms.items() if raw.get(key) and _word(known, raw[key]) is None]
    money = raw.get("notional") not in (None, "")
    strange += [size for size in ("notional" if money else "qty",) if positive(raw.get(size)) is None]
    return tuple(f"{key} {str(raw.get(key))[:60]}" for key in strange)


def ids_of(raw: Raw) -> OrderReport:
    """Read of an order that cannot be read which one it is: its state is unknown, and it is nobody else's affair.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: not even that can be read, so it may be any order.
    """
    ours = soft(lambda row: id_in(row, "client_order_id", 128), raw)
    theirs = soft(lambda row: id_in(row, "id"), raw)
    if ours is None and theirs is None:
        raise ValueError("an order without an id")
    return OrderReport(
        broker_order_id=theirs,
        broker_client_order_id=ours,
        status=BrokerStatus.UNKNOWN,
        raw_status=UNREADABLE,
    )
