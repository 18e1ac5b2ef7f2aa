"""May this order be sent, as far as limits are concerned? A pure decision: no clock, no I/O.

| limit                          | refused where                                                     | code           |
|--------------------------------|-------------------------------------------------------------------|----------------|
| restricted                     | it is true                                                        | restricted     |
| skew                           | created_at is further from our clock                              | skew           |
| session                        | out of that session; where it is not known, it waits once         | session        |
| allow_short                    | it is false, and the order opens a short position                 | short          |
| max_quantity                   | the order is larger                                               | order_quantity |
| max_value, max_open_value,     | no price is known that is fresh enough                            | no_price       |
| max_day_value, collar_percent  |                                                                   |                |
| max_value                      | quantity x multiplier x price is more                             | order_value    |
| approve_above_value            | it is more, and nobody has approved the order; or a replace       | not_approved   |
| collar_percent                 | it buys above, or sells below, the reference price by more        | price_collar   |
| self_trade                     | it would meet an open order of ours                               | self_trade     |
| repeat_count                   | so many alike within repeat_seconds, with this one: trips halted  | repeat         |
| orders_per_minute              | this one would be one more; if room comes within 1 s it waits, once | rate         |
| messages_per_minute            | the same of orders, replaces and cancels: trips halted            | rate           |
| max_open_orders                | this one would be one more                                        | open_orders    |
| max_position                   | held, open and this one together are more units, long or short    | position       |
| max_open_value                 | open and this one together are worth more                         | open_value     |
| max_day_value                  | sent on this day and this one together are worth more             | day_value      |
| max_day_loss                   | so much was lost on this day: trips reducing                      | day_loss       |

The price of an order is its limit, else its stop, else the reference price. An order that only reduces a position skips
max_value and everything from max_open_orders on. The tightest limit wins: one whose scope is no broker's first, since
it ends the order; then in the order of the table; then the smallest value. A limit of 0 allows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from models.encoding import plain
from models.risk.facts import Intended, ReferencePrice, Usage
from models.risk.names import Limit
from models.trading_hours import Session
from models.vocabulary import Denial, signed

#: What a scope becomes, until somebody resumes it.
Trip = Literal["halted", "reducing"]
_ZERO = Decimal(0)
#: An order that has to wait for its turn is held so long at most, seconds.
LONGEST_HOLD_S = 1.0
#: An order whose broker is asked when its instrument trades waits so long for the answer, seconds.
HOURS_S = 10.0
#: A reference price is good for so long where nothing else is set, seconds.
PRICE_MAX_AGE_S = Decimal(60)
#: Window of `repeat_count` where nothing else is set, seconds.
REPEAT_S = Decimal(10)
#: Limits that need the price of an order; and those that need a reference price whatever the order says.
VALUED = frozenset({"max_value", "max_open_value", "max_day_value", "approve_above_value"})
PRICED = VALUED | {"collar_percent"}
#: Limits of units: of an order of money they follow from a price.
OF_UNITS = frozenset({"max_quantity", "max_position"})
#: Limits that an order which only reduces a position passes.
_OF_EXPOSURE = VALUED | {"max_open_orders", "max_position", "max_day_loss"}
#: Limits that say nothing of a package: its price is a difference, and positions are those of its legs.
NOT_OF_PACKAGES = frozenset({"collar_percent", "self_trade", "max_position"})
#: Limits that can be asked of an order as it is submitted, before anybody knows where it goes.
STATIC = frozenset({"restricted", "skew", "allow_short", "max_quantity", "max_value"})


# -- VERDICTS ---
@dataclass(frozen=True, slots=True)
class Pass:
    """It may be sent.

    Args:
        price: money per unit at which it counts, multiplier included; None where no limit asks for its value.
    """

    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """It may be sent later.

    Args:
        seconds: until it is asked about again.
        words: why.
        code: of what it waits for; None: for nothing of its own.
    """

    seconds: float
    words: str
    code: Denial | None = Denial.RATE


@dataclass(frozen=True, slots=True)
class Refuse:
    """It may not be sent.

    Args:
        code: for orders.reason_code and attempts.code.
        words: the limit, its scope and value, and the order's.
        limit: that forbids it.
        value: of the order, as the limit counts it.
        trips: what the scope of the limit becomes, until somebody resumes it.
    """

    code: Denial
    words: str
    limit: Limit
    value: Decimal | None
    trips: Trip | None = None


RiskVerdict = Pass | Hold | Refuse


def decide_risk(
    order: Intended,
    limits: Iterable[Limit],
    usage: Usage | None,
    price: ReferencePrice | None,
    session: Session | None,
    now: datetime,
    currency: str = "USD",
) -> RiskVerdict:
    """Decide about one order.

    Args:
        order: what somebody wants to send.
        limits: those that apply to it.
        usage: what counts in their scopes, the orders of the same batch that have passed included; None at `submit`:
            only the `STATIC` limits are asked, those of one broker excepted.
        price: the reference price of its symbol, however old.
        session: of the market now; None where no limit asks for it.
        now: the time.
        currency: of the limits.
    """
    limits = list(limits) if usage is not None else [x for x in limits if x.name in STATIC and not x.is_local]
    case = _AskedOrder(order, limits, usage or Usage(), price, session, now, currency, is_static=usage is None)
    found = [
        verdict
        for limit in limits
        if (check := _CHECKS.get(limit.name)) and not (order.reduces and limit.name in _OF_EXPOSURE)
        if (verdict := check(case, limit)) is not None
    ]
    refusals = [verdict for verdict in found if isinstance(verdict, Refuse)]
    if refusals:
        return min(refusals, key=_tightest)
    holds = [verdict for verdict in found if isinstance(verdict, Hold)]
    return max(holds, key=lambda hold: hold.seconds) if holds else Pass(case.unit_value)


def _tightest(refusal: Refuse) -> tuple[bool, int, Decimal]:
    limit = refusal.limit
    order = _ORDER.index("collar_percent" if refusal.code is Denial.NO_PRICE else limit.name)
    return limit.is_local, order, limit.value if isinstance(limit.value, Decimal) else _ZERO


# -- CHECKS ---
@dataclass(frozen=True, slots=True)
class _AskedOrder:
    order: Intended
    limits: Sequence[Limit]
    usage: Usage
    price: ReferencePrice | None
    session: Session | None
    now: datetime
    currency: str
    is_static: bool

    def shortest(self, name: str, otherwise: Decimal) -> Decimal:
        """Return the smallest value of a setting among the limits that apply."""
        return min((limit.number for limit in self.limits if limit.name == name), default=otherwise)

    @property
    def reference(self) -> Decimal | None:
        """The reference price, if it is fresh and in the currency of the order."""
        if self.price is None or self.price.currency != self.order.currency:
            return None
        age = Decimal(str((self.now - self.price.at).total_seconds()))
        return self.price.price if age <= self.shortest("price_max_age", PRICE_MAX_AGE_S) else None

    @property
    def unit_value(self) -> Decimal | None:
        """Money per unit of the order, or None where nobody knows."""
        order = self.order
        if order.currency != self.currency or order.multiplier is None:
            return None
        told = (order.limit_price, order.stop_price, self.reference or None)  # at nothing, any number would pass
        price = next((one for one in told if one is not None), None)
        return None if price is None else abs(price) * order.multiplier

    @property
    def value(self) -> Decimal | None:
        """Value of the whole order."""
        if self.order.currency != self.currency:
            return None
        return self.order.value(self.unit_value)

    @property
    def adds_value(self) -> Decimal | None:
        """Value that the order adds to what counts already."""
        return None if self.value is None else max(self.value - self.order.counted, _ZERO)


_Check = Callable[[_AskedOrder, Limit], Refuse | Hold | None]


def _no(code: Denial, what: str, limit: Limit, value: Decimal | None = None, trips: Trip | None = None) -> Refuse:
    return Refuse(code, f"{what} ({limit.words})", limit, value, trips)


def _no_price(case: _AskedOrder, limit: Limit) -> Refuse | None:
    if case.is_static:
        return None  # a price may be known when it is sent
    order, last = case.order, case.price
    of, own = " and ".join(leg.symbol for leg in order.legs) or order.symbol, order.currency
    other = f", in {last.currency}" if last and last.currency != own else ""
    seen = f", the last is of {last.at:%H:%M:%S} ({last.source}{other})" if last else ""
    words = f"no fresh price of {of}{f' in {own}' if other else ''} is known{seen}"
    if order.multiplier is None:
        words = f"the size of one contract of {of} is not known"
    elif own is None:
        words = f"the currency of {of} is not known: the order does not say it"
    elif own != case.currency and limit.name != "collar_percent":
        words = f"it is in {own}, the limit in {case.currency}"
    return _no(Denial.NO_PRICE, words, limit)


def _restricted(case: _AskedOrder, limit: Limit) -> Refuse | None:
    return (
        _no(Denial.RESTRICTED, f"no order in {case.order.symbol} may be sent", limit) if limit.value is True else None
    )


def _skew(case: _AskedOrder, limit: Limit) -> Refuse | None:
    away = abs(Decimal(str((case.now - case.order.created_at).total_seconds())))
    if not case.order.is_new or away <= limit.number:
        return None
    return _no(Denial.SKEW, f"created_at is {away:.1f} s from our clock", limit, away)


def _session(case: _AskedOrder, limit: Limit) -> Refuse | Hold | None:
    order, good = case.order, {"regular": ("regular",), "extended": ("regular", "extended")}
    if limit.value == "any" or case.session in good[str(limit.value)]:
        return None
    if case.session is None and order.is_new and order.waited_for != Denial.SESSION:
        return Hold(HOURS_S, f"waits: {order.broker} is asked when {order.symbol} trades", Denial.SESSION)
    now = {"closed": "the market is closed", "extended": "the regular session is not on"}
    return _no(Denial.SESSION, now.get(str(case.session), f"the hours of {order.symbol} are not known"), limit)


def _short(case: _AskedOrder, limit: Limit) -> Refuse | None:
    return (
        _no(Denial.SHORT, "it would open a short position", limit)
        if not limit.value and case.order.opens_short
        else None
    )


def _quantity(case: _AskedOrder, limit: Limit) -> Refuse | None:
    size = case.order.units(case.unit_value)
    if size is None:
        return _no_price(case, limit)
    return _above(Denial.ORDER_QUANTITY, "its quantity", size, limit)


def _value(case: _AskedOrder, limit: Limit) -> Refuse | None:
    if case.value is None:
        return _no_price(case, limit)
    return _above(Denial.ORDER_VALUE, f"its value in {case.currency}", case.value, limit)


def _approval(case: _AskedOrder, limit: Limit) -> Refuse | None:
    """An order of more value was held when it was submitted: one without an approval has become so since."""
    if case.order.approved and case.order.is_new:
        return None
    if case.value is None:
        return _no_price(case, limit)
    return _above(Denial.NOT_APPROVED, f"nobody has approved its value in {case.currency}:", case.value, limit)


def _collar(case: _AskedOrder, limit: Limit) -> Refuse | None:
    order, reference = case.order, case.reference
    if not reference:  # nor can anybody say how far so many percent of nothing are
        return _no_price(case, limit)
    if order.limit_price is None:
        return None
    away = signed(order.side) * (order.limit_price - reference) / abs(reference) * 100
    if away <= limit.number:
        return None
    side = "above" if signed(order.side) > 0 else "below"
    words = f"its price {plain(order.limit_price)} is {away:.2f} % {side} the reference price {plain(reference)}"
    return _no(Denial.PRICE_COLLAR, words, limit, order.limit_price)


def _self_trade(case: _AskedOrder, limit: Limit) -> Refuse | None:
    meets = case.usage.of(limit).meets
    if limit.value != "deny" or meets is None:
        return None
    return _no(Denial.SELF_TRADE, f"it would meet our open order {meets}", limit)


def _repeat(case: _AskedOrder, limit: Limit) -> Refuse | None:
    window = float(case.shortest("repeat_seconds", REPEAT_S))
    alike = sum((case.now - at).total_seconds() < window for at in case.usage.of(limit).repeats_at) + 1
    if not case.order.is_new or alike < max(limit.number, Decimal(1)):
        return None
    what = f"number {alike} of orders alike within {window:g} s"
    return _no(Denial.REPEAT, what, limit, Decimal(alike), trips="halted")


def _rate(case: _AskedOrder, limit: Limit) -> Refuse | Hold | None:
    is_of_orders = limit.name == "orders_per_minute"
    if is_of_orders and not case.order.is_new:
        return None
    at, untimed = case.usage.of(limit).gone(orders_alone=is_of_orders)
    if len(at) + untimed < limit.number:
        return None  # not all of them were within the minute: then still fewer are
    gone = [one for one in at if (case.now - one).total_seconds() < 60]
    count, place = len(gone) + untimed, len(gone) - int(limit.number)
    if count < limit.number:
        return None
    what = f"{count + 1} within a minute"
    if limit.number and case.order.waited_for != Denial.RATE:
        turn = 60 - (case.now - gone[place]).total_seconds() if place >= 0 else 0.0  # looked at anew, with the times
        if turn <= LONGEST_HOLD_S:
            return Hold(max(turn, 0.05), f"waits for its turn: {what} ({limit.words})")
    return _no(Denial.RATE, what, limit, Decimal(count + 1), None if is_of_orders else "halted")


def _open_orders(case: _AskedOrder, limit: Limit) -> Refuse | None:
    more = Decimal(case.usage.of(limit).open_orders + 1)
    return _above(Denial.OPEN_ORDERS, "open orders with this one:", more, limit) if case.order.is_new else None


def _position(case: _AskedOrder, limit: Limit) -> Refuse | None:
    used, order, adds = case.usage.of(limit), case.order, case.order.added(case.unit_value)
    if adds is None:
        return _no_price(case, limit)
    after = used.held + (used.buying + adds if signed(order.side) > 0 else -used.selling - adds)
    if not adds or abs(after) <= abs(used.held):
        return None
    return _above(Denial.POSITION, f"{order.symbol} held, open and ordered:", abs(after), limit)


def _open_value(case: _AskedOrder, limit: Limit) -> Refuse | None:
    if case.adds_value is None:
        return _no_price(case, limit)
    total = case.usage.of(limit).open_value + case.adds_value
    return _above(Denial.OPEN_VALUE, f"open value with this one in {case.currency}:", total, limit)


def _day_value(case: _AskedOrder, limit: Limit) -> Refuse | None:
    if case.adds_value is None:
        return _no_price(case, limit)
    total = case.usage.of(limit).sent_value + case.adds_value
    return _above(Denial.DAY_VALUE, f"value of the day with this one in {case.currency}:", total, limit)


def _day_loss(case: _AskedOrder, limit: Limit) -> Refuse | None:
    loss = -case.usage.of(limit).realized
    if loss <= 0 or loss < limit.number:
        return None
    return _no(Denial.DAY_LOSS, f"lost today in {case.currency}: {plain(loss)}", limit, loss, trips="reducing")


def _above(code: Denial, what: str, value: Decimal, limit: Limit) -> Refuse | None:
    return (
        _no(code, f"{what} {plain(value)} is above {plain(limit.number)}", limit, value)
        if value > limit.number
        else None
    )


#: Limit -> how it is asked, in the order of the table.
_CHECKS: dict[str, _Check] = {
    "restricted": _restricted,
    "skew": _skew,
    "session": _session,
    "allow_short": _short,
    "max_quantity": _quantity,
    "max_value": _value,
    "approve_above_value": _approval,
    "collar_percent": _collar,
    "self_trade": _self_trade,
    "repeat_count": _repeat,
    "orders_per_minute": _rate,
    "messages_per_minute": _rate,
    "max_open_orders": _open_orders,
    "max_position": _position,
    "max_open_value": _open_value,
    "max_day_value": _day_value,
    "max_day_loss": _day_loss,
}
_ORDER = list(_CHECKS)
