"""Alpaca's rules for orders: which bodies it takes, which it refuses, and the codes it refuses them with.

Pure checks over one request and the account; nothing here speaks HTTP. Codes and texts: docs/facts/alpaca.md#2.6, #3.1,
#3.2.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any

from worker.sandbox.alpaca.bodies import CLASSES, asset_class, is_fractionable, order_id, plain, plain_or_none
from worker.sandbox.alpaca.linked import read_exits
from worker.sandbox.http_door import Refusal, decimal
from worker.sandbox.market.listed import listed, multiplier
from worker.sandbox.market.market import Account, Market, MarketOrder

TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "gtc", "opg", "cls", "ioc", "fok")
#: Order type to the prices it must carry.
NEEDS: dict[str, tuple[str, ...]] = {
    "limit": ("limit_price",),
    "stop": ("stop_price",),
    "stop_limit": ("limit_price", "stop_price"),
}
FORBIDS: dict[str, tuple[str, ...]] = {
    "market": ("limit_price", "stop_price", "trail_price", "trail_percent"),
    "limit": ("stop_price", "trail_price", "trail_percent"),
    "stop": ("limit_price", "trail_price", "trail_percent"),
    "stop_limit": ("trail_price", "trail_percent"),
    "trailing_stop": ("limit_price", "stop_price"),
}
MAX_CLIENT_ORDER_ID = 128
NUMBERS = ("qty", "notional", "limit_price", "stop_price", "trail_price", "trail_percent")


def malformed(text: str) -> Refusal:
    """Return the refusal of a body that makes no sense."""
    return Refusal(422, {"code": 40010001, "message": text})


def unprocessable(text: str) -> Refusal:
    """Return the refusal of a well-formed order that breaks a rule."""
    return Refusal(422, {"code": 42210000, "message": text})


def forbidden(text: str, **more: str) -> Refusal:
    """Return the refusal of an order the account may not place."""
    return Refusal(403, {"code": 40310000, "message": text, **more})


def not_found(text: str) -> Refusal:
    """Return the answer for something that does not exist."""
    return Refusal(404, {"code": 40410000, "message": text})


@dataclass(slots=True)
class OrderForm:
    """An order body after reading: exact numbers, defaults filled in, not yet checked against the account."""

    symbol: str
    side: str
    order_type: str
    time_in_force: str
    client_order_id: str
    extended_hours: bool
    numbers: dict[str, Decimal | None] = field(default_factory=dict)
    order_class: str = ""
    #: Prices of the orders that are linked to it.
    exits: list[dict[str, Decimal]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Decimal | None:
        return self.numbers.get(name)


def read_ticket(body: object) -> OrderForm:
    """Return the order that a POST body asks for; Refusal for one that cannot be read or breaks a rule of form."""
    if not isinstance(body, dict):
        raise Refusal(400, {"code": 40010000, "message": "request body format is invalid"})
    ticket = OrderForm(
        symbol=_word(body, "symbol"),
        side=_choice(body, "side", ("buy", "sell")),
        order_type=_choice(body, "type", TYPES),
        time_in_force=_choice(body, "time_in_force", TIMES_IN_FORCE),
        client_order_id=str(body.get("client_order_id") or uuid.uuid4()),
        extended_hours=bool(body.get("extended_hours")),
        numbers={name: _number(body, name) for name in NUMBERS},
    )
    if len(ticket.client_order_id) > MAX_CLIENT_ORDER_ID:
        raise malformed("client_order_id must be no more than 128 characters")
    if body.get("order_class") not in (None, "", "simple"):
        ticket.exits = read_exits(body, ticket)
        ticket.order_class = str(body["order_class"])
    _check_sizes(ticket)
    check_prices(ticket.order_type, ticket.numbers)
    _check_hours(ticket)
    return ticket


def _word(body: dict[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise malformed(f"{name} is required")
    return value


def _choice(body: dict[str, object], name: str, allowed: Iterable[str]) -> str:
    value = _word(body, name)
    if value not in allowed:
        raise malformed(f"invalid {name}: {value}")
    return value


def _number(body: dict[str, object], name: str) -> Decimal | None:
    """Return a number of a body, None where it is not given.

    Raises:
        Refusal: 400, it is none.
    """
    value = body.get(name)
    if value is None:
        return None
    number = decimal(value)
    if number is None:
        raise malformed(f"invalid {name}: {value}")
    return number


def _check_sizes(ticket: OrderForm) -> None:
    """See that a body says how much, once, and finely enough.

    Raises:
        Refusal: 400 or 422, with Alpaca's words.
    """
    quantity, notional = ticket["qty"], ticket["notional"]
    if quantity is None and notional is None:
        raise malformed("qty or notional is required")
    if quantity is not None and notional is not None:
        raise malformed("only one of qty or notional is accepted")
    size = quantity if quantity is not None else notional
    assert size is not None
    if size <= 0:
        raise malformed(f"{'qty' if quantity is not None else 'notional'} must be > 0")
    if quantity is not None and quantity != quantity.quantize(Decimal("1e-9"), ROUND_DOWN):
        raise unprocessable("qty must be limited to 9 decimal places")
    if notional is not None and notional != notional.quantize(Decimal("0.01"), ROUND_DOWN):
        raise unprocessable("notional value must be limited to 2 decimal places")


def check_prices(order_type: str, numbers: dict[str, Decimal | None]) -> None:
    """Raise Refusal unless the prices belong to the order type and keep the minimum increment."""
    for name in NEEDS.get(order_type, ()):
        if numbers.get(name) is None:
            raise malformed(f"{order_type.replace('_', ' ')} orders require {name.replace('_', ' ')}")
    for name in FORBIDS[order_type]:
        if numbers.get(name) is not None:
            raise malformed(f"{order_type.replace('_', ' ')} orders must not have {name}")
    trails = [numbers.get(name) for name in ("trail_price", "trail_percent")]
    if order_type == "trailing_stop" and trails.count(None) != 1:
        raise malformed("trailing stop orders must specify one of trail_price or trail_percent")
    for name in ("limit_price", "stop_price", "trail_price", "trail_percent"):
        value = numbers.get(name)
        if value is not None and value <= 0:
            raise malformed(f"{name} must be > 0")
    for name in ("limit_price", "stop_price"):
        check_increment(name, numbers.get(name))


def check_increment(name: str, price: Decimal | None) -> None:
    """Raise Refusal for more than two decimals from one dollar on, or more than four below."""
    if price is None:
        return
    step = Decimal("0.01") if price >= 1 else Decimal("0.0001")
    if price % step:
        text = f"invalid {name} {plain(price)}. sub-penny increment does not fulfill minimum pricing criteria"
        raise unprocessable(text)


def _check_hours(ticket: OrderForm) -> None:
    """See that type, time in force, session and fractions go together.

    Raises:
        Refusal: 422, with Alpaca's words.
    """
    if ticket.extended_hours and (ticket.order_type, ticket.time_in_force) != ("limit", "day"):
        raise unprocessable("extended hours order must be DAY limit orders")
    if ticket.time_in_force in ("opg", "cls") and ticket.order_type not in ("market", "limit"):
        raise unprocessable(f"{ticket.time_in_force} orders must be market or limit orders")
    if ticket.order_type == "trailing_stop" and ticket.time_in_force not in ("day", "gtc"):
        raise unprocessable("trailing stop orders must be DAY or GTC orders")
    quantity, kind = ticket["qty"], asset_class(ticket.symbol)
    whole = quantity is not None and quantity == quantity.to_integral_value()
    if kind in _CHECKS:
        _CHECKS[kind](ticket, whole)
    elif not whole and (ticket.time_in_force != "day" or ticket.order_type == "trailing_stop"):
        raise unprocessable("fractional orders must be DAY orders")


def _check_option(ticket: OrderForm, whole: bool) -> None:
    """See that an option is ordered as Alpaca's options documentation says."""
    if ticket["notional"] is not None or not whole:
        raise unprocessable("options orders must have a whole qty, and no notional")
    if ticket.time_in_force != "day":
        raise unprocessable("order_time_in_force provided not supported for options trading")
    if ticket.extended_hours or ticket.order_type == "trailing_stop":
        raise unprocessable("order type not supported for options trading")


def _check_coin(ticket: OrderForm, _: bool) -> None:
    """See that a coin is ordered as Alpaca's crypto documentation says."""
    if ticket.time_in_force not in ("gtc", "ioc"):
        raise unprocessable("invalid crypto time_in_force")
    if ticket.order_type not in ("market", "limit", "stop_limit") or ticket.extended_hours:
        raise unprocessable("invalid order type for crypto order")


_CHECKS = {"us_option": _check_option, "crypto": _check_coin}


# -- AGAINST THE ACCOUNT ---


class AccountRules:
    """What one account may order, given its positions and open orders."""

    def __init__(self, market: Market, door: str) -> None:
        self.market = market
        self.door = door

    def open_orders(self, symbol: str | None = None) -> list[MarketOrder]:
        """Return the orders that can still fill, all or of one symbol."""
        orders = self.market.orders(self.door)
        return [o for o in orders if o.is_live and symbol in (None, o.symbol)]

    def held(self, symbol: str) -> Decimal:
        """Return the shares of a position that open closing orders already claim."""
        mine = (o for o in self.open_orders(symbol) if not o.waits and not (o.extra.get("parent")))
        closing = (o for o in mine if o.side in ("sell", "buy_to_cover"))
        return sum((o.remaining_quantity for o in closing), Decimal(0))

    def admit(self, ticket: OrderForm) -> tuple[str, Decimal]:
        """Return the market side and the quantity in shares of a ticket; Refusal when the account may not place it."""
        thing = listed(ticket.symbol)
        if not self.market.exists(ticket.symbol) or (thing is not None and thing.kind not in CLASSES):
            raise malformed(f'asset "{ticket.symbol}" not found')
        quote = self.market.quote(ticket.symbol)
        price = ticket["limit_price"] or (quote.ask if ticket.side == "buy" else quote.bid)
        notional = ticket["notional"]
        quantity = ticket["qty"]
        if quantity is None:
            assert notional is not None
            quantity = (notional / price).quantize(Decimal("1e-9"), ROUND_DOWN)
        if quantity != quantity.to_integral_value() and not is_fractionable(ticket.symbol):
            raise forbidden(f'asset "{ticket.symbol}" is not fractionable')
        account = self.market.account(self.door)
        side = self._side(ticket, quantity, account)
        if side in ("buy", "sell_short"):
            _check_power(quantity * price * multiplier(ticket.symbol), account.buying_power)
        return side, quantity

    def _side(self, ticket: OrderForm, quantity: Decimal, account: Account) -> str:
        """Return what a plain buy or sell means for this account: open or close, long or short."""
        position = account.positions.get(ticket.symbol)
        owned = position.quantity if position is not None else Decimal(0)
        closes = owned > 0 if ticket.side == "sell" else owned < 0
        if closes:
            self._check_available(ticket.symbol, abs(owned), quantity)
            return "sell" if ticket.side == "sell" else "buy_to_cover"
        if ticket.side == "buy":
            return "buy"
        if asset_class(ticket.symbol) == "crypto":
            coin = ticket.symbol.partition("/")[0]
            text = f"insufficient balance for {coin} (requested: {plain(quantity)}, available: {plain(owned)})"
            raise forbidden(text)
        if quantity != quantity.to_integral_value():
            raise unprocessable("fractional orders cannot be sold short")
        if not is_fractionable(ticket.symbol):
            raise unprocessable(f'asset "{ticket.symbol}" cannot be sold short')
        return "sell_short"

    def _check_available(self, symbol: str, owned: Decimal, wanted: Decimal) -> None:
        """See that as much is held as shall be sold, beyond what other orders hold already.

        Raises:
            Refusal: 403, with the quantities that Alpaca names.
        """
        held = self.held(symbol)
        available = owned - held
        if wanted > available:
            raise forbidden(
                f"insufficient qty available for order (requested: {plain(wanted)}, available: {plain(available)})",
                available=plain(available),
                existing_qty=plain(owned),
                held_for_orders=plain(held),
                symbol=symbol,
            )

    def check_unique(self, client_order_id: str) -> None:
        """Raise the one refusal that means the opposite: an order of that name exists, for ever."""
        if self.market.find_by_client_id(self.door, client_order_id) is not None:
            raise malformed("client_order_id must be unique")


def _check_power(cost: Decimal, power: Decimal) -> None:
    if cost > power:
        raise forbidden(
            "insufficient buying power",
            buying_power=plain(power),
            cost_basis=plain(cost.quantize(Decimal("0.01"))),
        )


def order_fields(ticket: OrderForm, side: str, quantity: Decimal) -> dict[str, object]:
    """Return what the market needs to know of an admitted ticket."""
    return {
        "client_order_id": ticket.client_order_id,
        "symbol": ticket.symbol,
        "side": side,
        "quantity": quantity,
        "order_type": ticket.order_type,
        "time_in_force": ticket.time_in_force,
        "limit_price": ticket["limit_price"],
        "stop_price": ticket["stop_price"],
        "trail_amount": ticket["trail_price"],
        "trail_percent": ticket["trail_percent"],
        "extended_hours": ticket.extended_hours,
        "extra": {"notional": plain_or_none(ticket["notional"])} | _linked(ticket),
    }


def _linked(ticket: OrderForm) -> dict[str, object]:
    return {"order_class": ticket.order_class} if ticket.order_class else {}


def read_changes(order: MarketOrder, body: object) -> dict[str, object]:
    """Return what a PATCH wants changed of an order, in the market's words; Refusal when it may not be."""
    if not isinstance(body, dict):
        raise Refusal(400, {"code": 40010000, "message": "request body format is invalid"})
    if not order.is_live:
        raise unprocessable(f'order is already in "{order.state}" state')
    if not order.extra.get("accepted") or order.extra.get("pending_cancel"):
        raise unprocessable(f"order {order_id(order)} is not in a state that can be replaced")
    names = {"qty": "quantity", "limit_price": "limit_price", "stop_price": "stop_price"}
    names["trail"] = "trail_amount" if order.trail_amount is not None else "trail_percent"
    changes: dict[str, Any] = {ours: _number(body, theirs) for theirs, ours in names.items() if body.get(theirs)}
    if body.get("time_in_force"):
        changes["time_in_force"] = _choice(body, "time_in_force", TIMES_IN_FORCE)
    if any(isinstance(value, Decimal) and value <= 0 for value in changes.values()):
        raise malformed("quantities and prices must be > 0")
    wanted = changes.get("quantity", order.quantity)
    if wanted != order.quantity and any(size != size.to_integral_value() for size in (wanted, order.quantity)):
        raise unprocessable("qty of fractional orders cannot be changed")
    for name in ("limit_price", "stop_price"):
        check_increment(name, changes.get(name))
    return changes
