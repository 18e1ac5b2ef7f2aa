"""Is an order at a broker ours? An id is a claim, the terms are the evidence.

Under an id that we gave may stand a stranger's order, last month's, or one of another client of the same gateway. So an
order is taken for ours only with our id *and* our terms:

| term                       | contradicts if the broker shows it, and                                             |
|----------------------------|-------------------------------------------------------------------------------------|
| symbol                     | it is another one                                                                   |
| side                       | it is the other direction: a short sale is a plain sell on the wire of many brokers |
| quantity, or money         | it is another one; an order that replaces ours trades only what ours had left       |
| type, prices, trails, time | it is another one, unless this broker is known to rewrite it so                     |
| currency of the prices     | it is another one: a listing may have several                                       |
| account                    | it is another one of those behind the login                                         |
| when it was submitted      | that was before our order was made                                                  |

Symbol and side have to be shown. Any other term that the broker does not show contradicts nothing; what no order of
corro's has contradicts always. The stop price of a trailing stop moves, so it says nothing.
An order on its own is not one that its broker links to others. Of an order with legs, its legs stand for symbol and
side: each of them, in its direction and ratio, and no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypedDict

from models.legs import PackageLeg, place_of_leg, stored_legs, words_of
from models.messages import OrderRequest, plain
from models.reports import FillReport, LegReport, OrderReport
from models.vocabulary import OrderType, Side, TimeInForce, signed


class Traded(TypedDict):
    """What every row of an order says, whatever else it has: its symbol, and a `Side`."""

    symbol: str
    side: str
    legs: list[dict[str, Any]] | None


#: What a broker may make of a term by its own documentation: the term -> what it may have become.
Rewrites = Mapping[str, frozenset[str]]

#: Clocks of a producer and a broker differ by less than this.
_CLOCKS_DIFFER = timedelta(minutes=10)
_DOTTED = str.maketrans(" /-", "...")
_TERMS = (
    "symbol", "side", "quantity", "notional", "order_type", "limit_price", "stop_price", "trail_amount",
    "trail_percent", "limit_offset", "time_in_force", "account", "currency",
)  # fmt: skip
#: The legs stand for the rest.
_TERMS_OF_PACKAGES = tuple(name for name in _TERMS if name not in ("symbol", "side"))


def contradictions(
    order: OrderRequest, report: OrderReport, *, rewrites: Rewrites | None = None, is_heir: bool = False
) -> list[str]:
    """Return what speaks against an order at a broker being ours, in words; nothing if it is.

    Args:
        order: as it was sent, with the terms of its replace.
        report: what the broker shows under our id.
        rewrites: what this broker may make of terms.
        is_heir: it was made in place of an order of ours, so its quantity is what was left.
    """
    if order.legs is not None:
        hidden = [] if report.package else ["its legs are not shown"]
        return [*hidden, *conflicts(order, report, rewrites=rewrites, is_heir=is_heir)]
    return [
        *(f"{name} is not shown" for name in ("symbol", "side") if getattr(report, name) is None),
        *conflicts(order, report, rewrites=rewrites, is_heir=is_heir),
    ]


def conflicts(
    order: OrderRequest, report: OrderReport, *, rewrites: Rewrites | None = None, is_heir: bool = False
) -> list[str]:
    """Return what an order shows that ours has not; the answer to a send need not show everything."""
    return [
        *report.unlike_ours,
        *([f"it is linked to others ({report.linked})"] if report.linked and order.group is None else ()),
        *_too_old(order, report),
        *_other_legs(order, report),
        *_another_size(order, report),
        *_another_trail(order, report),
        *(
            f"{name} {_shown(theirs)} instead of {_shown(ours)}"
            for name in (_TERMS if order.legs is None else _TERMS_OF_PACKAGES)
            if (ours := getattr(order, name)) is not None
            and (theirs := getattr(report, name)) is not None
            and not _agrees(name, ours, theirs, order, is_heir)
            and str(theirs) not in (rewrites or {}).get(name, ())
        ),
    ]


def _another_size(order: OrderRequest, report: OrderReport) -> list[str]:
    """Return that an order of money is shown for one of a quantity, or the other way round."""
    if order.notional is None and report.notional is not None:
        return [f"{plain(report.notional)} of money (notional) instead of a quantity"]
    if order.notional is not None and report.notional is None and report.quantity is not None:
        return [f"quantity {plain(report.quantity)} instead of an amount of money"]
    return []


def _another_trail(order: OrderRequest, report: OrderReport) -> list[str]:
    """Return that a stop trails by money where ours does by percent, or the other way round."""
    names = ("trail_amount", "trail_percent")
    ours, theirs = ([getattr(one, name) is not None for name in names] for one in (order, report))
    if sum(ours) != 1 or sum(theirs) != 1 or ours == theirs:
        return []
    mine, other = names if ours[0] else names[::-1]
    return [f"{other} {_shown(getattr(report, other))} instead of {mine} {_shown(getattr(order, mine))}"]


def _too_old(order: OrderRequest, report: OrderReport) -> list[str]:
    """Return that an order was at its broker before ours was made: last month's, under an id that is used again."""
    at = report.submitted_at
    if at is None or at >= order.created_at - _CLOCKS_DIFFER:
        return []
    return [f"submitted_at {at:%Y-%m-%d %H:%M:%SZ}, before this order was made"]


def _other_legs(order: OrderRequest, report: OrderReport) -> list[str]:
    """Return that a broker shows other legs than ours, or legs where ours has none."""
    if not report.package or (order.legs is not None and is_of_legs(order.legs, report.package)):
        return []
    ours = words_of(order.legs) if order.legs else "none"
    theirs = " ".join(f"{one.side} {_shown(one.ratio)} {one.symbol}" for one in report.package)
    return [f"legs {theirs} instead of {ours}"]


def is_of_legs(legs: Sequence[PackageLeg], shown: Sequence[LegReport]) -> bool:
    """Tell whether a broker shows these legs, in whatever order; one that cannot be read is none of them."""
    theirs = {(one.symbol, one.side and signed(one.side), one.ratio) for one in shown}
    return len(shown) == len(legs) and theirs == {(leg.symbol, leg.turn, Decimal(leg.ratio)) for leg in legs}


def _agrees(name: str, ours: object, theirs: object, order: OrderRequest, is_heir: bool) -> bool:
    """Tell whether a broker shows a term as ours; the table of this module says when."""
    if name == "symbol":
        return is_same_symbol(str(ours), str(theirs))
    if isinstance(ours, Side) and isinstance(theirs, Side):
        return signed(theirs) == signed(ours)
    if name == "quantity" and is_heir and isinstance(ours, Decimal) and isinstance(theirs, Decimal):
        return theirs <= ours
    if name == "stop_price" and order.order_type in (OrderType.TRAILING_STOP, OrderType.TRAIL_LIMIT):
        return True
    if name == "time_in_force" and ours is TimeInForce.GTD and theirs is TimeInForce.GTC:
        return True  # a broker that has no other word for it: what ends the order is a time beside
    return bool(theirs == ours)


def is_another(order: Traded, report: OrderReport | FillReport) -> bool:
    """Tell whether a report is about another symbol or direction than an order's row: such a report is never ours."""
    if (legs := stored_legs(order["legs"])) or (isinstance(report, OrderReport) and report.package):
        return _is_another_package(legs, report)
    other_symbol = report.symbol is not None and not is_same_symbol(order["symbol"], report.symbol)
    return other_symbol or (report.side is not None and signed(report.side) != signed(Side(order["side"])))


def _is_another_package(legs: Sequence[PackageLeg], report: OrderReport | FillReport) -> bool:
    """Tell it where one of both has legs: an execution has to be of one of ours, in its direction."""
    if isinstance(report, OrderReport):
        return bool(report.package) and not is_of_legs(legs, report.package)
    number = place_of_leg(legs, report.symbol)
    if report.symbol is None or number is None:
        return report.symbol is not None
    return report.side is not None and signed(report.side) != legs[number - 1].turn


def is_same_symbol(ours: str, theirs: str) -> bool:
    """Tell whether two texts name one security: a class of shares is BRK.B, BRK B, BRK/B or BRK-B."""
    return ours == theirs or ours.translate(_DOTTED) == theirs.translate(_DOTTED)


def _shown(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
