"""Whether an order that comes with an id that is used is the order which has it; if not, in which terms they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from models.encoding import plain
from models.errors import IdempotencyConflict
from models.legs import PackageLeg, words_of
from models.messages import OrderRequest
from models.record.rows import OrderRow, by_name
from models.routes import is_its_route

#: Terms that are kept of an archived order.
_KEPT = ("strategy", "symbol", "side", "quantity", "order_type")
#: What two orders of one id may differ in, beside their route.
_FREE = frozenset({"version", "client_order_id", "created_at", "expires_at", "route", "decision_price", "preview"})
_TERMS = tuple(name for name in OrderRequest.model_fields if name not in _FREE)


def must_be_named_once(requests: Sequence[OrderRequest]) -> None:
    """See that orders of one call that have one id are the same; raises IdempotencyConflict."""
    first: dict[str, OrderRequest] = {}
    for one in requests:
        other = first.setdefault(one.client_order_id, one)
        if other is not one and other.body_hash != one.body_hash:
            differ = ", ".join(_differing(other, one))
            raise IdempotencyConflict(f"two orders have the id {one.client_order_id!r}; they differ in {differ}")


def same_or_conflict(request: OrderRequest, row: OrderRow, terms_now: Callable[[], OrderRequest | None]) -> None:
    """See that a request is the order that has its id.

    Args:
        request: the order that comes.
        row: of the order that is there.
        terms_now: returns that one as its terms are now, since a replace may have changed them; None of an order that
            is archived, or was denied as it came. Asked where the order that comes is not the one that came first.

    Raises:
        IdempotencyConflict: it is another one; the words say in what.
    """
    same_route = is_its_route(request, row["route"] or ())
    as_it_came = request.body_hash == row["body_hash"]
    now = None if as_it_came else terms_now()
    same = as_it_came or (now is not None and request.body_hash == now.body_hash)
    if same_route and same:
        return
    differ = [] if same else _differing(now, request) if now is not None else _differing_from(row, request)
    if not same_route:
        this = ", ".join((*(request.route or ()), *([f"account {request.account}"] if request.account else [])))
        differ.append(f"route ({', '.join(row['route'] or ())}; this one {this})")
    raise IdempotencyConflict(
        f"client_order_id {request.client_order_id!r} already names another order: {row['side']} "
        f"{row['quantity'] or row['notional']} {row['symbol']} {row['order_type']} on {row['route']} "
        f"({row['status']}); this one is {request.side} {request.quantity or request.notional} {request.symbol} "
        f"{request.order_type}. They differ in "
        f"{', '.join(differ) or 'terms that are not kept of it: prices, times, tags or the group'}. "
        "Use a new id for a new order."
    )


def _differing(one: OrderRequest, other: OrderRequest) -> list[str]:
    pairs = ((name, _told(getattr(one, name)), _told(getattr(other, name))) for name in _TERMS)
    return [f"{name} ({mine}; this one {theirs})" for name, mine, theirs in pairs if mine != theirs]


def _differing_from(row: OrderRow, request: OrderRequest) -> list[str]:
    columns = by_name(row)
    pairs = ((name, _told(columns[name]), _told(getattr(request, name))) for name in _KEPT)
    return [f"{name} ({mine}; this one {theirs})" for name, mine, theirs in pairs if mine != theirs]


def _told(value: object) -> str:
    """Write a term for a person."""
    if value is None or value == () or value == []:
        return "none"
    if isinstance(value, Sequence) and all(isinstance(one, PackageLeg) for one in value):
        return words_of(value)
    if hasattr(value, "to_wire"):
        return " ".join(map(str, value.to_wire().values()))
    return plain(value) if isinstance(value, Decimal) else str(value)
