"""What a strategy asks for besides shares: linked orders, options, and orders with legs, as requests and as intents."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from models.groups import GroupKind, Membership
from models.messages import OrderRequest
from tests.soak.doors import AskedLeg, Intent

#: Linked orders that leave together, or one on its own.
Unit = list[OrderRequest]
#: An order, or several, with what was asked for.
Ware = tuple[Unit, list[Intent]]
#: Prices of exits: one is filled at once when it wakes, or the other, or both rest.
EXITS = (("0.5", "0.25"), ("9000", "8000"), ("9000", "0.25"), ("9000", "0.25"))
#: What a package is worth at most (a purchase at market, or at a limit that is met, or one that rests).
NETS = (None, None, "900", "-900")
#: Traded at any time, in parts, at one door alone; several orders are in one coin, each of a size of its own.
COINS, COIN_DOOR = ("BTC/USD", "ETH/USD", "LTC/USD"), "alpaca"
_STRIKES = (50, 60)
_KEPT = ("client_order_id", "route", "expires_at", "created_at")


# -- NAMES ---
def call(share: str, strike: int = 80) -> str:
    """Return a call on a share that expires in a year."""
    return f"{share}{(datetime.now(UTC).year + 1) % 100:02d}1217C{strike * 1000:08d}"


def vertical(share: str, *, closes: bool = False) -> list[dict[str, Any]]:
    """Return the legs of a vertical, or those that close it."""
    sides, effect = (("sell", "buy"), "close") if closes else (("buy", "sell"), "open")
    return [
        {"symbol": call(share, strike), "side": side, "ratio": 1, "position_effect": effect}
        for strike, side in zip(_STRIKES, sides, strict=True)
    ]


def symbol_at(door: str, wish: OrderRequest) -> str:
    """Return what a door calls an order: one with legs by its share, or by its first leg."""
    return wish.legs[0].symbol if wish.legs and door != "ibkr" else wish.symbol


def coin_terms(symbol: str) -> dict[str, str]:
    """Return what an order in a coin says besides; nothing of anything else."""
    return {"asset_class": "crypto", "time_in_force": "gtc"} if symbol in COINS else {}


def is_plain(intent: Intent) -> bool:
    """Whether it is of so many shares, and alone."""
    is_alone = intent.group is None and not intent.parts and intent.money is None
    return is_alone and len(intent.symbol) == len("SIM000")


# -- WARES ---
def unit(dice: random.Random, lead: OrderRequest, closes: list[tuple[str, int]]) -> Ware:
    """Make something of a plain order at market: most often what it is.

    Args:
        dice: decides.
        lead: the plain order; a purchase of one, or a sale of what is held.
        closes: verticals that are held, by their share, and how many of each; one that is used is taken away.
    """
    if lead.side == "sell":
        return _linked(lead, GroupKind.OCO, dice) if dice.random() < 0.1 else plain(lead)
    kinds: Mapping[str, tuple[float, Callable[[], Ware]]] = {
        "plain": (0.66, lambda: plain(lead)),
        "coin": (0.05, lambda: _coin(lead, dice)),
        "money": (0.06, lambda: _money(lead, dice)),
        "bracket": (0.06, lambda: _linked(_sized(lead, dice), GroupKind.BRACKET, dice)),
        "oto": (0.03, lambda: _linked(_sized(lead, dice), GroupKind.OTO, dice)),
        "option": (0.06, lambda: plain(_again(lead, symbol=call(lead.symbol)))),
        "package": (0.06, lambda: _package(_sized(lead, dice), dice)),
        "close": (0.02, lambda: _closing(lead, closes.pop()) if closes else plain(lead)),
    }
    chosen = dice.choices(list(kinds), [share for share, _ in kinds.values()])[0]
    return kinds[chosen][1]()


def plain(one: OrderRequest) -> Ware:
    """Return an order as it is."""
    return [one], [_intent(one)]


def _again(lead: OrderRequest, **terms: Any) -> OrderRequest:
    """Return an order in the place of another, at the same time and on the same way."""
    kept = {name: getattr(lead, name) for name in (*_KEPT, "symbol", "side", "quantity")}
    return OrderRequest(**{**kept, "version": 2, **terms})


def _sized(lead: OrderRequest, dice: random.Random) -> OrderRequest:
    """Return a purchase of several, of which half can be filled."""
    assert lead.quantity is not None
    return _again(lead, quantity=lead.quantity * 10 + dice.randint(2, 5))


def _package(lead: OrderRequest, dice: random.Random) -> Ware:
    net = dice.choice(NETS)
    price = {"order_type": "limit", "limit_price": net} if net else {}
    return plain(_again(lead, legs=vertical(lead.symbol), **price))


def _coin(lead: OrderRequest, dice: random.Random) -> Ware:
    """Buy a cheap coin where its door is on the way; its size is the number of the order, so that none is another.

    A dear one would empty the account: what its door then refuses is refused for good, and no fault.
    """
    if COIN_DOOR not in (lead.route or ()):
        return plain(lead)
    symbol, size = dice.choice(COINS[1:]), _number_of(lead) + 1
    return plain(_again(lead, symbol=symbol, quantity=size / 10_000, route=[COIN_DOOR], **coin_terms(symbol)))


#: How the symbols begin of which the door sells whole shares only; it refuses to sell them for an amount for good.
_WHOLE_ONLY = "SIM9"


def _money(lead: OrderRequest, dice: random.Random) -> Ware:
    """Buy shares, or a coin, for so many cents as no other order has, where the door that takes them is on the way."""
    if COIN_DOOR not in (lead.route or ()):
        return plain(lead)
    shares = () if lead.symbol.startswith(_WHOLE_ONLY) else (lead.symbol,) * len(COINS)
    symbol = dice.choice((*COINS, *shares))
    terms = {"symbol": symbol, "quantity": None, "notional": (_number_of(lead) + 1000) / 100, "route": [COIN_DOOR]}
    return plain(_again(lead, **terms, **coin_terms(symbol)))


def _number_of(lead: OrderRequest) -> Decimal:
    """Return the number of an order, which no other of its world has."""
    return Decimal(lead.client_order_id.rpartition("n")[2])


def _closing(lead: OrderRequest, held: tuple[str, int]) -> Ware:
    symbol, quantity = held
    return plain(_again(lead, symbol=symbol, quantity=quantity, legs=vertical(symbol, closes=True)))


def _linked(lead: OrderRequest, kind: GroupKind, dice: random.Random) -> Ware:
    """Make a group: a bracket around a purchase, one that wakes a sale, or an oco of exits."""
    target, stop = dice.choice(EXITS)
    market, limit = {"order_type": "market"}, {"order_type": "limit", "limit_price": target}
    stops = {"order_type": "stop", "stop_price": stop}
    legs = {
        GroupKind.OCO: {"first": limit, "second": stops},
        GroupKind.OTO: {"first": market, "then": limit},
        GroupKind.BRACKET: {"entry": market, "take_profit": limit, "stop_loss": stops},
    }[kind]
    made, id_ = Unit(), lead.client_order_id
    for leg, terms in legs.items():
        own = f"{id_}.{leg}" if made else id_
        side = "sell" if made else lead.side
        more = {"side": side, "client_order_id": own, "time_in_force": "gtc", "group": Membership(id_, kind, leg)}
        made.append(_again(lead, **more, **terms))
    return made, [_intent(one) for one in made]


def _intent(one: OrderRequest) -> Intent:
    parts = tuple(AskedLeg(leg.symbol, str(leg.side), leg.ratio) for leg in one.legs or ())
    asked = Intent(
        one.client_order_id, one.symbol, str(one.side), one.quantity or Decimal(0), tuple(map(str, one.route or ())),
        order_type=str(one.order_type), parts=parts, money=one.notional,
    )  # fmt: skip
    if one.group is not None:
        asked.group, asked.kind, asked.leg = one.group.id, str(one.group.kind), str(one.group.leg)
    return asked
