"""What a broker can do, as data: what it cannot is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from models.encoding import moment, plain
from models.errors import Unsupported
from models.groups import GroupKind
from models.kinds import EXTRAS
from models.legs import PackageLeg
from models.messages import OrderRequest
from models.vocabulary import USUAL_TIMES, USUAL_TYPES, AssetClass, OrderType, Side, TimeInForce
from worker.brokers.values import number

#: Terms of an order that brokers show as numbers.
_NUMBERS = (
    "quantity", "notional", "limit_price", "stop_price", "trail_amount", "trail_percent", "limit_offset",
    "display_quantity",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsenceRule:
    """When 'not there' may be believed (docs/facts/alpaca.md#2.14, docs/facts/ibkr.md#2.9).

    Args:
        min_age_s: seconds after the send before a missing order counts at all, and, where the broker keeps no id of
            ours, before an order with its terms may be taken for it: listings lag, and it may be somebody else's.
        sightings: how many complete readings must miss it.
        possible: False where no listing is a proof: the broker keeps no id of ours, or an order may wait unseen in a
            window of its gateway and trade later. What was sent and not answered then waits for evidence or a person.
    """

    min_age_s: float = 10.0
    sightings: int = 2
    possible: bool = True


#: Why an order with one of `EXTRAS` is not taken.
_NOT_TAKEN: Mapping[str, str] = {
    "good_till": "takes no last moment of an order (good_till), was {}",
    "limit_offset": "takes no limit that trails (limit_offset), was {}",
    "display_quantity": "shows the whole quantity (display_quantity), was {}",
    "hidden": "takes no hidden orders",
    "algo": "has no such algorithm (algo), was {}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker can do; what it cannot is refused before sending, as Unsupported, and falls back."""

    #: Classes of what it trades, whose names the adapter writes and reads.
    asset_classes: frozenset[AssetClass] = frozenset({AssetClass.US_EQUITY})
    sides: frozenset[Side] = frozenset(Side)
    order_types: frozenset[OrderType] = USUAL_TYPES
    times_in_force: frozenset[TimeInForce] = USUAL_TIMES
    #: Of `models.kinds.EXTRAS`, those that it takes; all others are refused, never left out.
    extras: frozenset[str] = frozenset()
    fractional: bool = False
    #: Orders for an amount of money instead of a quantity.
    notional: bool = False
    extended_hours: bool = True
    #: Longest client order id the broker keeps; None where it has no such thing.
    client_order_id_length: int | None = 128
    #: The broker itself refuses a second order under the same id, so sending it again is safe.
    dedupes_client_order_id: bool = False
    absence: AbsenceRule = AbsenceRule()
    #: What the broker may make of an order's terms, by its own documentation: term -> the values it may get.
    rewrites: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: What a replace does: changes the order in place (IB), makes a new one in its stead (Alpaca, Schwab), or nothing.
    replaces: Literal["in_place", "new_order", "no"] = "no"
    #: Orders that may be on their way at once over this connection.
    parallel_orders: int = 8
    #: Sizes of bars it can fetch, in corro's words (1Min, 5Min, 15Min, 30Min, 1Hour, 1Day, 1Week, 1Month).
    timeframes: tuple[str, ...] = ()
    #: How old an order may be to be listed; None where there is no such limit.
    lookback: timedelta | None = None
    #: Kinds of linked orders that the broker itself links; none is ever emulated here.
    groups: frozenset[GroupKind] = frozenset()
    #: The orders of a group are numbered in the record before the first byte (`reserve_ids`): one without has not left.
    numbers_groups: bool = False
    #: Legs of one order; 0 where there are none, and whether one of them may be a share.
    most_legs: int = 0
    legs_in_shares: bool = False

    @property
    def marks_sends(self) -> bool:
        """No listing can prove that an order never came: what has not left this process is told by a mark instead."""
        return self.client_order_id_length is None or not self.absence.possible

    def check(self, order: OrderRequest, broker: str) -> None:
        """Raise Unsupported with the field and the value if this broker cannot take the order."""
        table = (
            ("asset_class", order.instrument.asset_class, self.asset_classes),
            ("side", order.side, self.sides),
            ("order_type", order.order_type, self.order_types),
            ("time_in_force", order.time_in_force, self.times_in_force),
        )
        for name, value, allowed in table:
            if value not in allowed:
                words = ", ".join(sorted(allowed))
                raise Unsupported(f"{broker} does not take {name} {value} (it takes {words})", broker=broker)
        if order.group is not None and order.group.kind not in self.groups:
            words = f"it takes {', '.join(sorted(self.groups))}" if self.groups else "it takes none"
            raise Unsupported(f"{broker} links no orders as {order.group.kind} by itself ({words})", broker=broker)
        if order.legs is not None:
            self._check_legs(order.legs, broker)
        for name in EXTRAS:
            if (rare := getattr(order, name)) and name not in self.extras:
                raise Unsupported(f"{broker} {_NOT_TAKEN[name].format(_in_words(rare))}", broker=broker)
        for name in _NUMBERS:
            value = getattr(order, name)
            if value is not None and number(value) is None:
                words = f'{name} {plain(value)} is the number that says "not set" on the wire'
                raise Unsupported(f"{broker}: {words}: an order with it could not be told from others", broker=broker)
        if order.notional is not None and not self.notional:
            words = f"takes a quantity, and no amount of money (notional), was {plain(order.notional)}"
            raise Unsupported(f"{broker} {words}", broker=broker)
        whole = not self.fractional and order.instrument.asset_class is not AssetClass.CRYPTO
        if whole and order.quantity is not None and order.quantity != order.quantity.to_integral_value():
            raise Unsupported(f"{broker} takes whole shares only, quantity was {plain(order.quantity)}", broker=broker)
        if order.extended_hours and not self.extended_hours:
            raise Unsupported(f"{broker} does not trade extended hours through this API", broker=broker)

    def _check_legs(self, legs: Sequence[PackageLeg], broker: str) -> None:
        if len(legs) > self.most_legs:
            words = (
                f"orders of {self.most_legs} legs at most, had {len(legs)}" if self.most_legs else "no orders with legs"
            )
            raise Unsupported(f"{broker} takes {words}", broker=broker)
        shares = [leg.symbol for leg in legs if leg.instrument.asset_class is AssetClass.US_EQUITY]
        if shares and not self.legs_in_shares:
            raise Unsupported(f"{broker} takes options alone as legs, had {shares[0]}", broker=broker)


def _in_words(value: object) -> str:
    """Return the value of a rarer term as people write it: `adaptive, priority patient`; `2026-12-18T21:00:00Z`."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Mapping):
        name = [str(value["name"])] if "name" in value else []
        return ", ".join([*name, *(f"{key} {part}" for key, part in value.items() if key != "name")])
    return str(value)
