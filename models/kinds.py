"""What an order may say besides its size: its kind, how long it lives, how it shows itself, who works it. Pure.

| order_type         | limit_price | stop_price               | a trail  | limit_offset |
|--------------------|-------------|--------------------------|----------|--------------|
| market             |             |                          |          |              |
| limit              | yes         |                          |          |              |
| stop               |             | yes                      |          |              |
| stop_limit         | yes         | yes                      |          |              |
| trailing_stop      |             |                          | yes      |              |
| trail_limit        |             | may: where it begins     | yes      | yes          |
| if_touched         |             | yes, the price to touch  |          |              |
| limit_if_touched   | yes         | yes, the price to touch  |          |              |

`stop_price` is the trigger: a stop waits for a price that is worse than the market's, an order if touched for one that
is better. Which broker has which is in its `Capabilities` and its terms; at IB the contract's own list decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.decimals import trimmed
from models.encoding import plain
from models.fields import lower
from models.vocabulary import AssetClass, OrderType, TimeInForce

if TYPE_CHECKING:
    from models.messages import OrderRequest

#: Prices an order type needs; all other price fields must be absent, except those it may have.
PRICES: dict[OrderType, frozenset[str]] = {
    OrderType.MARKET: frozenset(),
    OrderType.LIMIT: frozenset({"limit_price"}),
    OrderType.STOP: frozenset({"stop_price"}),
    OrderType.STOP_LIMIT: frozenset({"limit_price", "stop_price"}),
    OrderType.TRAILING_STOP: frozenset(),
    OrderType.TRAIL_LIMIT: frozenset({"limit_offset"}),
    OrderType.IF_TOUCHED: frozenset({"stop_price"}),
    OrderType.LIMIT_IF_TOUCHED: frozenset({"limit_price", "stop_price"}),
}
_MAY: dict[OrderType, frozenset[str]] = {OrderType.TRAIL_LIMIT: frozenset({"stop_price"})}
_TRAILING = frozenset({OrderType.TRAILING_STOP, OrderType.TRAIL_LIMIT})
_TRAILS = ("trail_amount", "trail_percent")
#: The same at a glance: no limit_price, no stop_price, how many of the trails are missing.
_MISSING = {
    kind: ("limit_price" not in needed, "stop_price" not in needed, 1 if kind in _TRAILING else 2)
    for kind, needed in PRICES.items()
}
#: Longer names that people and other programs give some kinds.
OTHER_NAMES = {
    "market_if_touched": "if_touched",
    "mit": "if_touched",
    "lit": "limit_if_touched",
    "trailing_stop_limit": "trail_limit",
}
#: What few brokers take: each names those in its capabilities, and refuses the others.
EXTRAS = ("good_till", "limit_offset", "display_quantity", "hidden", "algo")
#: Types whose limit rests in the book, where it can be hidden.
_RESTS = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.LIMIT_IF_TOUCHED})
_WORKED = frozenset({OrderType.MARKET, OrderType.LIMIT})
#: Parameters of an algorithm, its name among them, and what each may be called and say.
_MOST_PARAMETERS = 20
_PARAMETER = re.compile(r"[a-z0-9](?:[a-z0-9 _.:/+-]{0,62}[a-z0-9])?")


def algorithm(value: object) -> object:
    """Read an algorithm and its parameters, in whatever case; blanks around a word do not count.

    Raises:
        ValueError: there are too many, or one is no word that every database and log takes.
    """
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in (*value, *value.values())):
        return value
    if len(value) > _MOST_PARAMETERS:
        raise ValueError(f"at most {_MOST_PARAMETERS} parameters, had {len(value)}")
    kept = {trimmed(name).lower(): trimmed(text).lower() for name, text in value.items()}
    for text in (*kept, *kept.values()):
        if text and not _PARAMETER.fullmatch(text):
            raise ValueError("every word in it must be 1 to 64 letters, digits, blanks and _ . : / + -")
    if len(kept) < len(value):
        raise ValueError("must have each parameter once")
    return kept


def kind_named(value: object) -> object:
    """Read the name of an order type, in whatever case, or one of the longer ones."""
    word = lower(value)
    return OTHER_NAMES.get(word, word) if isinstance(word, str) else word


def wrong_prices(order: OrderRequest) -> str | None:
    """Return what is wrong with the prices of an order, with the field first; None where they fit its type."""
    if order.limit_price is not None and order.limit_price <= 0 and not _has_any_sign(order):
        return f"limit_price: must be greater than zero, was {plain(order.limit_price)!r}"
    trails_missing = (order.trail_amount is None) + (order.trail_percent is None)
    shape = (order.limit_price is None, order.stop_price is None, trails_missing)
    kind = order.order_type
    if shape == _MISSING[kind] and (order.limit_offset is None) == (kind is not OrderType.TRAIL_LIMIT):
        return None
    needed, may = PRICES[kind], _MAY.get(kind, frozenset())
    for name in ("limit_price", "stop_price", "limit_offset"):
        given = getattr(order, name)
        if name in needed and given is None:
            return f"{name}: {_a(kind)} order needs one, was none"
        if name not in needed | may and given is not None:
            return f"{name}: {_a(kind)} order takes none, was {plain(given)}"
    trails = [name for name in _TRAILS if getattr(order, name) is not None]
    if kind in _TRAILING and len(trails) != 1:
        return f"trail_amount: {_a(kind)} order needs trail_amount or trail_percent, had {trails}"
    if kind not in _TRAILING and trails:
        return f"{trails[0]}: only a trailing_stop or a trail_limit order takes one, was {_a(kind)} order"
    return None


def _a(kind: OrderType) -> str:
    """Return the name of a type with its article."""
    return f"{'an' if kind.value[0] in 'aeiou' else 'a'} {kind}"


def _has_any_sign(order: OrderRequest) -> bool:
    """Tell whether the limit of an order may be 0 or less: of a package it is net, and a future has traded below 0."""
    return order.legs is not None or order.instrument.asset_class is AssetClass.FUTURE


def wrong_extras(order: OrderRequest) -> str | None:
    """Return what is wrong with the rarer terms of an order, with the field first; None where they fit."""
    shown, whole = order.display_quantity, order.quantity
    is_till, disguised = order.time_in_force is TimeInForce.GTD, shown is not None or order.hidden
    table = (
        (not is_till or order.good_till is not None, "good_till", "time_in_force gtd needs one, was none"),
        (
            is_till or order.good_till is None,
            "good_till",
            f"only time_in_force gtd takes one, was {order.time_in_force}",
        ),
        (
            order.good_till is None or order.good_till > order.created_at,
            "good_till",
            f"must be after created_at ({order.created_at}), was {order.good_till}",
        ),
        (shown is None or not order.hidden, "hidden", "an order shows a part (display_quantity), or nothing"),
        (
            not disguised or order.order_type in _RESTS,
            "display_quantity" if shown is not None else "hidden",
            f"{_a(order.order_type)} order has nothing in the book to hide",
        ),
        (
            shown is None or (whole is not None and shown < whole and shown == shown.to_integral_value()),
            "display_quantity",
            f"must be whole, and less than the quantity, was {shown} of {whole}",
        ),
        (
            order.algo is None or order.order_type in _WORKED,
            "algo",
            f"a broker works market and limit orders only, was {order.order_type}",
        ),
        (
            order.legs is None or not (disguised or order.algo),
            "legs",
            "an order with legs is neither hidden nor worked by an algorithm",
        ),
        (order.algo is None or bool(order.algo.get("name")), "algo", "needs a name, such as adaptive"),
        (order.algo is None or not disguised, "algo", "shows what it likes: no display_quantity, and not hidden"),
    )
    return next((f"{name}: {words}" for holds, name, words in table if not holds), None)
