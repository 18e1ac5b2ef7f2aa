"""One simulated market behind all doors: matching, accounts and the ledger of every order that reached a door.

Runs on one asyncio loop; nothing here is thread-safe and nothing here knows a wire protocol. The doors translate.
It closes by a fault alone. `Market.place` itself consumes the faults `no_fill`, `partial` and `reject_after_accept`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from worker.sandbox.faults import Fault, Faults
from worker.sandbox.market.accounts import Account, Books, Payment, Position, cents, commission_due
from worker.sandbox.market.ledger import Ledger
from worker.sandbox.market.listed import has_any_sign, multiplier
from worker.sandbox.market.matching import TRAILS, execution_price, first_stop, rests, sized_by_money
from worker.sandbox.market.orders import COPIED, Listener, MarketEvent, MarketOrder, State, Trade, names_of
from worker.sandbox.market.packages import net_quote, price_of_leg, relink, units
from worker.sandbox.market.prices import Candle, PriceBook, Quote
from worker.sandbox.market.restore import Past, past, payment_of

__all__ = [
    "Account", "Candle", "Fault", "Faults", "Listener", "Market", "MarketEvent", "MarketOrder", "OrderTerms",
    "Payment", "Position", "Quote", "State", "Trade",
]  # fmt: skip

#: Terms of an order, by the names of a `MarketOrder`'s fields.
OrderTerms = dict[str, Any]
#: How the name of a sandbox begins, where somebody shows one at a door as a key, a token or a connect option.
NAMED = "sandbox-of-"
#: Seconds between looks at resting orders.
RECHECK_S = 0.25
#: Orders of this size and above are filled in three parts.
LARGE = Decimal(1000)
PARTS = 3


class Market:
    """Prices, order books and accounts for all doors. Orders are placed from the running asyncio loop."""

    def __init__(
        self,
        seed: int = 7,
        fill_delay: float = 0.02,
        ledger_path: Path | None = None,
        name: str = NAMED,
        books: Books | None = None,
    ) -> None:
        self.name = name
        self.fill_delay = fill_delay
        self.faults = Faults()
        self.prices = PriceBook(seed)
        self.ledger = Ledger(ledger_path)
        self._numbers = itertools.count(self.ledger.last_number + 1)
        self.books = books or Books()
        self._orders: dict[str, dict[int, MarketOrder]] = {}
        self._by_client_id: dict[tuple[str, str], MarketOrder] = {}
        self._working: dict[int, MarketOrder] = {}
        self._scheduled: set[int] = set()
        self._listeners: dict[str, list[Listener]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._restore(past(self.ledger.lines, self.books))

    def is_another(self, shown: str) -> bool:
        """Tell whether somebody at a door means another home's sandbox: this one may have taken over its port."""
        return shown.startswith(NAMED) and shown != self.name

    def _restore(self, before: Past) -> None:
        """Go on where the run before has stopped."""
        relink(before.orders)
        for order in before.orders.values():
            if order.is_live and not self.exists(order.symbol):
                continue
            self._enlist(order)
            if order.is_live and order.order_type in TRAILS:
                first_stop(order, self.quote(order.symbol))

    def wake(self) -> None:
        """Look at the orders that rest here from before; call it once the doors listen."""
        for order in list(self._working.values()):
            self._look_later(order)
        if self._working and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RECHECK_S, self._recheck)

    def _enlist(self, order: MarketOrder) -> None:
        self._orders.setdefault(order.door, {})[order.number] = order
        if order.client_order_id:
            self._by_client_id[order.door, order.client_order_id] = order
        if order.is_live:
            self._working[order.number] = order

    # -- PRICES --

    def exists(self, symbol: str) -> bool:
        """Tell whether the symbol trades here."""
        return self.prices.exists(symbol)

    def quote(self, symbol: str) -> Quote:
        """Return the current quote. Raises KeyError for an unknown symbol."""
        return self.prices.quote(symbol)

    def bars(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> list[Candle]:
        """Return bars whose opening time lies in [start, end], see `PriceBook.bars`."""
        return self.prices.bars(symbol, timeframe, start, end)

    def set_price(self, symbol: str, price: Decimal | None) -> None:
        """Pin the price of a symbol (None lets it walk again) and look at its resting orders at once."""
        self.prices.pin(symbol, price)
        for order in [o for o in self._working.values() if o.symbol == symbol]:
            self._look(order)

    # -- ORDERS --

    def refusal(
        self,
        *,
        door: str,
        symbol: str,
        side: str,
        quantity: Decimal,
        limit_price: Decimal | None = None,
        account: str = "",
        **_: object,
    ) -> str | None:
        """Say why an order must be refused, or None.

        Takes the same keywords as `place` and ignores those it does not need. Kinds: `unknown_symbol`,
        `invalid_quantity`, `invalid_price`, `no_position` (TDA and Schwab: selling or covering more than is held;
        elsewhere a sell opens a short), `insufficient_funds` (buying power).
        """
        if not self.exists(symbol):
            return "unknown_symbol"
        if quantity <= 0:
            return "invalid_quantity"
        if limit_price is not None and limit_price <= 0 and not has_any_sign(symbol):
            return "invalid_price"
        held = self.books.of(door, account).positions.get(symbol, Position(Decimal(0), Decimal(0))).quantity
        if door in ("tda", "schwab") and side in ("sell", "buy_to_cover"):
            return "no_position" if (held if side == "sell" else -held) < quantity else None
        opening = max(quantity + min(held, Decimal(0)), Decimal(0))
        if side in ("sell", "sell_short"):
            opening = max(quantity - max(held, Decimal(0)), Decimal(0))
        cost = opening * abs(limit_price or self.quote(symbol).ask) * multiplier(symbol)
        return "insufficient_funds" if cost > self.account(door, account).buying_power else None

    def place(self, **fields: Any) -> MarketOrder:
        """Take an order: ledger first, then `accepted` and the fills as events on the loop.

        Args:
            **fields: the fields of `MarketOrder` without `number`; `received_at` is now when left out.
        """
        fields.setdefault("received_at", datetime.now(UTC))
        order = MarketOrder(number=next(self._numbers), **fields)
        self.ledger.arrived(order)
        order.updated_at = order.received_at
        self._enlist(order)
        if order.order_type in TRAILS:
            first_stop(order, self.quote(order.symbol))
        self._emit("accepted", order)
        if not order.waits:
            self._start(order)
        return order

    def wake_up(self, order: MarketOrder) -> None:
        """Let an order trade that has waited for another one."""
        if order.waits and order.is_live:
            order.waits = False
            self._start(order)

    def turn_away(self, reason: str, **fields: Any) -> None:
        """Record in the ledger an order that reached the door and is not taken (refused or swallowed)."""
        fields.setdefault("received_at", datetime.now(UTC))
        self.ledger.arrived(order := MarketOrder(number=next(self._numbers), **fields), taken=False)
        self.ledger.record("rejected", **names_of(order), reason=reason)

    def cancel(self, order: MarketOrder) -> bool:
        """Cancel what is left of an order; False when it is closed already."""
        return self._close(order, "canceled")

    def reject(self, order: MarketOrder, reason: str) -> bool:
        """Reject a live order; False when it is closed already."""
        return self._close(order, "rejected", reason)

    def expire(self, order: MarketOrder) -> bool:
        """Let a live order expire; False when it is closed already."""
        return self._close(order, "expired")

    def replace(self, order: MarketOrder, **changes: Any) -> MarketOrder:
        """Replace a live order by a new one (new number, `replaces` set); the old one becomes `replaced`.

        Args:
            order: the live order.
            **changes: fields that differ; the rest is copied. Fills stay with the old order; give `quantity`
                as what the new one shall trade.

        Raises:
            ValueError: the order is closed.
        """
        if not order.is_live:
            raise ValueError(f"order {order.number} is {order.state}")
        fields: OrderTerms = {name: getattr(order, name) for name in COPIED}
        self._close(order, "replaced")
        successor = self.place(**{**fields, "extra": dict(order.extra), **changes, "replaces": order.number})
        order.replaced_by = successor.number
        return successor

    def modify(self, order: MarketOrder, **changes: Any) -> bool:
        """Change a live order in place (IB: the same order id again); False when it is closed already."""
        if not order.is_live:
            return False
        for name, value in changes.items():
            setattr(order, name, value)
        order.updated_at = datetime.now(UTC)
        self.ledger.record("modified", **names_of(order), **changes)
        self._emit("modified", order)
        self._look_later(order)
        return True

    def orders(self, door: str) -> list[MarketOrder]:
        """Return every order of a door, oldest first, closed ones too."""
        return list(self._orders.get(door, {}).values())

    def find(self, door: str, number: int) -> MarketOrder | None:
        """Return an order by number, if it belongs to the door."""
        return self._orders.get(door, {}).get(number)

    def find_by_client_id(self, door: str, client_order_id: str) -> MarketOrder | None:
        """Return the newest order with this client order id."""
        return self._by_client_id.get((door, client_order_id))

    def release(self, door: str | None = None) -> None:
        """Let orders held back by `no_fill` and `partial` be filled again."""
        for order in list(self._working.values()):
            if order.held and door in (None, order.door):
                self.resume(order)

    def resume(self, order: MarketOrder) -> None:
        """Let one order that is `held` be filled again."""
        order.held, order.fill_cap = False, None
        self._look_later(order)

    # -- ACCOUNTS --

    def account(self, door: str, account: str = "") -> Account:
        """Return an account of a door, valued at last prices."""
        book, whose, key = self.books.of(door, account), self.books.key(door, account), self.books.key
        buys = [o for o in self._working.values() if key(o.door, o.account) == whose and o.is_buy and not o.waits]
        asked = ((o, abs(o.limit_price or self.quote(o.symbol).ask)) for o in buys)
        reserved = sum((o.remaining_quantity * price * multiplier(o.symbol) for o, price in asked), Decimal(0))
        return book.picture(self.prices.last, reserved)

    def set_position(self, door: str, symbol: str, quantity: Decimal, account: str = "") -> None:
        """Set a position at the current price, without moving cash."""
        positions = self.books.of(door, account).positions
        positions.pop(symbol, None)
        price = self.quote(symbol).last if quantity else None
        self.ledger.record("position", door=door, account=account, symbol=symbol, quantity=quantity, price=price)
        if price is not None:
            positions[symbol] = Position(Decimal(quantity), price)

    def pay(self, door: str, kind: str, account: str = "", **facts: object) -> Payment:
        """Book what is no trade: see `Payment`; `paid_at` is now unless it is given."""
        line = {"paid_at": datetime.now(UTC).isoformat(), **facts, "number": next(self._numbers), "kind": kind}
        self.ledger.record("paid", door=door, account=account, **line)
        return self.books.of(door, account).pay(payment_of(line))

    def payments(self, door: str, account: str = "") -> Sequence[Payment]:
        """Return what is no trade, oldest first."""
        return sorted(self.books.of(door, account).payments, key=lambda payment: (payment.at, payment.number))

    # -- EVENTS --

    def subscribe(self, door: str, listener: Listener) -> None:
        """Call `listener` with every event of the door's orders, on the loop, in order."""
        self._listeners.setdefault(door, []).append(listener)

    def unsubscribe(self, door: str, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._listeners.get(door, []).remove(listener)

    def close(self) -> None:
        """Stop the timer and close the ledger file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.ledger.close()

    # -- MATCHING --

    def _start(self, order: MarketOrder) -> None:
        """Let an order that was taken trade, after the delay, unless a fault holds it."""
        fault = self.faults.take(order.door, ("no_fill", "partial", "reject_after_accept"), order.symbol)
        loop = asyncio.get_running_loop()
        if fault is not None and fault.kind == "reject_after_accept":
            order.held = True
            text = str(fault.options.get("text", "rejected after acceptance"))
            loop.call_later(self.fill_delay, self.reject, order, text)
            return
        if fault is not None and fault.kind == "partial":
            whole = order.quantity == order.quantity.to_integral_value()
            order.fill_cap = order.quantity // 2 if whole else order.quantity / 2
        order.held = fault is not None and order.fill_cap in (None, 0)
        self._look_later(order)
        if self._timer is None:
            self._timer = loop.call_later(RECHECK_S, self._recheck)

    def _recheck(self) -> None:
        for order in list(self._working.values()):
            if order.number not in self._scheduled:
                self._look(order)
        self._timer = asyncio.get_running_loop().call_later(RECHECK_S, self._recheck) if self._working else None

    def _look_later(self, order: MarketOrder) -> None:
        if order.number not in self._scheduled:
            self._scheduled.add(order.number)
            asyncio.get_running_loop().call_later(self.fill_delay, self._look_now, order)

    def _look_now(self, order: MarketOrder) -> None:
        self._scheduled.discard(order.number)
        self._look(order)

    def _look(self, order: MarketOrder) -> None:
        """Fill what can be filled of a live order now; immediate orders that cannot are canceled."""
        if not order.is_live:
            return
        immediate, waited = order.time_in_force in ("ioc", "fok"), not order.triggered
        price = None if rests(order, self.faults) else execution_price(order, self._worth(order))
        short_of_all = order.time_in_force == "fok" and order.fill_cap is not None
        if price is not None and not short_of_all:
            self._fill(sized_by_money(order, price), price)
        elif immediate and not (order.held and order.fill_cap is None):
            self.cancel(order)
        elif order.triggered and waited:
            self._emit("triggered", order)

    def _fill(self, order: MarketOrder, price: Decimal) -> None:
        """Fill what is left at a price; a large order in several executions."""
        target = order.fill_cap if order.fill_cap is not None else order.quantity
        size = target - order.filled_quantity
        if target >= LARGE and order.time_in_force != "fok":
            size = min(size, (target / PARTS).to_integral_value())
            size = target - order.filled_quantity if len(order.executions) >= PARTS - 1 else size
        self._execute(order, size, price)
        if not order.is_live:
            return
        if order.fill_cap is not None and order.filled_quantity >= order.fill_cap:
            order.held = True
            if order.time_in_force == "ioc":
                self.cancel(order)
        else:
            self._look_later(order)

    def _execute(self, order: MarketOrder, size: Decimal, price: Decimal) -> None:
        """Make one execution: size, money, commission, position, ledger and listeners."""
        for leg in order.legs:
            self._execute(leg, size * units(order, leg), price_of_leg(leg, self.quote(leg.symbol)))
        cumulative, paid = order.filled_quantity + size, sum((e.commission for e in order.executions), Decimal(0))
        fee = gain = Decimal(0)
        if not order.legs:
            fee = commission_due(order.door, cumulative, paid)
            signed, book = size if order.is_buy else -size, self.books.of(order.door, order.account)
            gain = book.apply(order.symbol, signed, price, fee)
        name = f"{order.number:08x}.{len(order.executions) + 1:02d}"
        now = datetime.now(UTC)
        execution = Trade(name, size, price, now, cumulative, fee, cents(gain))
        order.executions.append(execution)
        order.updated_at = now
        order.state = "filled" if cumulative >= order.quantity else "partially_filled"
        if order.state == "filled":
            order.closed_at = now
            self._working.pop(order.number, None)
        details = {"execution_id": name, "quantity": size, "price": price, "cumulative": cumulative, "at": now}
        self.ledger.record("fill", **names_of(order), **details, state=order.state)
        self._emit("fill", order, execution)

    def _close(self, order: MarketOrder, state: State, reason: str | None = None) -> bool:
        """End an order; tells whether it was still alive."""
        if not order.is_live:
            return False
        for leg in order.legs:
            self._close(leg, state, reason)
        order.state, order.reason = state, reason
        order.closed_at = order.updated_at = datetime.now(UTC)
        self._working.pop(order.number, None)
        self.ledger.record(state, **names_of(order), reason=reason)
        self._emit(state, order)
        return True

    def _emit(self, kind: str, order: MarketOrder, execution: Trade | None = None) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners.get(order.door, []):
            loop.call_soon(listener, MarketEvent(kind, order, execution))

    def _worth(self, order: MarketOrder) -> Quote:
        return net_quote(order, self.quote) if order.legs else self.quote(order.symbol)
