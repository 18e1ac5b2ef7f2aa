"""Orders with legs: one order trades several instruments together: verticals, straddles, covered calls. Pure.

| of the order     | means                                                                                      |
|------------------|--------------------------------------------------------------------------------------------|
| symbol           | the underlying of every leg                                                                |
| side             | always buy: the package as it is written; who closes it writes the legs reversed           |
| quantity         | packages; a leg trades quantity x ratio                                                    |
| limit_price      | of one package, per unit: above 0 is paid (a debit), below is received (a credit), or 0    |
| filled_quantity  | whole packages: of the leg that is filled least                                            |
| avg_fill_price   | what a package has cost, with the sign of limit_price; null until each leg has a price     |

Executions are of legs (`fills.leg`, from 1 as they are written), and only they move positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import gcd
from typing import TYPE_CHECKING, Any, Literal

from models.decimals import exact, trimmed
from models.explaining import shown
from models.instruments import RULES, Instrument, read_instrument, told_class
from models.vocabulary import CLOSING, AssetClass, OrderType, Side, signed

if TYPE_CHECKING:
    from models.messages import OrderRequest

Effect = Literal["open", "close"]
#: Legs of one order.
LEAST_LEGS, MOST_LEGS = 2, 8
#: The largest ratio: a covered call is of 100 shares.
MOST_RATIO = 10_000
_NAMES = frozenset({"symbol", "side", "ratio", "position_effect"})
#: Words of `side` that say the effect as well.
_SIDES: Mapping[str, tuple[Side, Effect | None]] = {
    "buy": (Side.BUY, None), "sell": (Side.SELL, None), "sell_short": (Side.SELL, "open"),
    "buy_to_cover": (Side.BUY, "close"),
}  # fmt: skip
#: The side of an order on its own that does what a leg does.
_ALONE: Mapping[tuple[Side, Effect], Side] = {
    (Side.BUY, "open"): Side.BUY, (Side.SELL, "close"): Side.SELL, (Side.SELL, "open"): Side.SELL_SHORT,
    (Side.BUY, "close"): Side.BUY_TO_COVER,
}  # fmt: skip
_CENT = Decimal("0.01")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PackageLeg:
    """One leg of a package.

    Args:
        symbol: canonical text of an option or a share.
        side: buy or sell.
        ratio: contracts, or shares, in one package.
        position_effect: open or close; None where nobody has said it: a broker that has to be told is told open.
    """

    symbol: str
    side: Side
    ratio: int = 1
    position_effect: Effect | None = None

    @property
    def turn(self) -> int:
        """+1 where the leg adds to a position, -1 where it takes from it."""
        return signed(self.side)

    @property
    def instrument(self) -> Instrument:
        """What the leg trades."""
        return read_instrument(self.symbol)

    @property
    def multiplier(self) -> Decimal:
        """Money per unit and unit of price."""
        return RULES[self.instrument.asset_class].multiplier or Decimal(1)

    @property
    def alone(self) -> Side:
        """The side of an order on its own that would do the same."""
        return _ALONE[self.side, self.position_effect or "open"]

    def to_wire(self) -> dict[str, str | int]:
        """Return it as it travels."""
        told: dict[str, str | int] = {"symbol": self.symbol, "side": str(self.side), "ratio": self.ratio}
        return told | ({"position_effect": self.position_effect} if self.position_effect else {})


# -- READING ---
def legs_field(value: object) -> tuple[PackageLeg, ...] | None:
    """Read the field `legs` of an order object.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, (list, tuple)) or not LEAST_LEGS <= len(value) <= MOST_LEGS:
        had = len(value) if isinstance(value, (list, tuple)) else shown(value)
        raise ValueError(f"must be a list of {LEAST_LEGS} to {MOST_LEGS} legs, was {had}")
    return tuple(_leg(one, number) for number, one in enumerate(value, 1))


def _leg(value: object, number: int) -> PackageLeg:
    if isinstance(value, PackageLeg):
        value = value.to_wire()
    if not isinstance(value, Mapping) or set(value) - _NAMES or {"symbol", "side"} - set(value):
        raise ValueError(f"leg {number} must be {{symbol, side, ratio, position_effect}}, was {shown(value)}")
    symbol, word, effect = value["symbol"], value["side"], value.get("position_effect")
    side, meant = _SIDES.get(trimmed(word).lower() if isinstance(word, str) else "", (None, None))
    if side is None:
        raise ValueError(f"side of leg {number} must be one of {', '.join(_SIDES)}, was {shown(word)}")
    effect = trimmed(effect).lower() if isinstance(effect, str) else effect
    if effect not in (None, "open", "close") or (None not in (meant, effect) and meant != effect):
        raise ValueError(f"position_effect of leg {number} must be open or close, was {shown(effect)} beside {word}")
    text = trimmed(symbol).upper() if isinstance(symbol, str) and symbol.isascii() else ""
    try:
        kind = read_instrument(text).asset_class
    except ValueError:
        raise ValueError(f"symbol of leg {number} must name an option or a share, was {shown(symbol)}") from None
    if kind not in (AssetClass.OPTION, AssetClass.US_EQUITY):
        raise ValueError(f"symbol of leg {number} must name an option or a share, was {shown(symbol)}")
    return PackageLeg(text, side, _ratio(value.get("ratio", 1), number), meant or effect)  # type: ignore[arg-type]


def _ratio(value: object, number: int) -> int:
    ratio = exact(value)
    if ratio != ratio.to_integral_value() or not 0 < ratio <= MOST_RATIO:
        raise ValueError(f"ratio of leg {number} must be a whole number from 1 to {MOST_RATIO}, was {shown(value)}")
    return int(ratio)


def stored_legs(value: object) -> tuple[PackageLeg, ...]:
    """Return the legs that a row records, which were read before; none of an order on its own."""
    return (legs_field(value) or ()) if value else ()


def symbols_of(symbol: str, legs: object) -> list[str]:
    """Return the symbols that an order's row trades, or is about: with legs, its own and theirs."""
    return [symbol, *(leg.symbol for leg in stored_legs(legs))]


def symbols_priced(order: Mapping[str, Any]) -> list[str]:
    """Return the symbols whose prices make what an order's row is worth: with legs, theirs alone."""
    return [leg.symbol for leg in stored_legs(order["legs"])] or [order["symbol"]]


def taken_by(order: Mapping[str, object]) -> list[tuple[str, Side, int]]:
    """Return what an order's row takes from positions that have to be there: symbol, closing side, units of one.

    Of an order with legs these are the legs that say that they close.
    """
    legs = stored_legs(order["legs"])
    if legs:
        return [(leg.symbol, leg.alone, leg.ratio) for leg in legs if leg.position_effect == "close"]
    side = Side(str(order["side"]))
    return [(str(order["symbol"]), side, 1)] if side in CLOSING else []


# -- WHAT A PACKAGE HAS TO BE ---
def wrong_package(order: OrderRequest) -> str | None:
    """Return the rule that an order with legs breaks, with the field first; None where it fits."""
    legs = order.legs or ()
    rules = RULES[AssetClass.OPTION]
    options = [leg for leg in legs if leg.instrument.asset_class is AssetClass.OPTION]
    whole, shown_ratios = gcd(*(leg.ratio for leg in legs)), ":".join(str(leg.ratio) for leg in legs)
    lowest = ":".join(str(leg.ratio // whole) for leg in legs) if whole else ""
    times, net = ", ".join(sorted(rules.times_in_force)), order.limit_price
    checks = (
        (order.side is Side.BUY, f"side: of an order with legs it is buy, and each leg has its own, was {order.side}"),
        (told_class(order.symbol) is AssetClass.US_EQUITY, f"symbol: the underlying of its legs, was {order.symbol}"),
        (len({leg.symbol for leg in legs}) == len(legs), f"legs: each trades another symbol, were {words_of(legs)}"),
        (bool(options), f"legs: one at least has to be an option, were {words_of(legs)}"),
        (whole == 1, f"legs: their ratios have to be in lowest terms: {lowest}, were {shown_ratios}"),
        (
            order.units == order.units.to_integral_value(),
            f"quantity: of an order with legs whole packages, was {order.units}",
        ),
        (
            order.order_type in (OrderType.MARKET, OrderType.LIMIT),
            f"order_type: of an order with legs market or limit, was {order.order_type}",
        ),
        (order.time_in_force in rules.times_in_force, f"time_in_force: of options {times}, was {order.time_in_force}"),
        (not order.extended_hours, "extended_hours: options have none"),
        (net is None or not net % _CENT, f"limit_price: packages go in steps of 0.01, was {net}"),
        (order.group is None, "group: an order with legs is no leg of a group of linked orders"),
        (order.decision_price is None, f"decision_price: an order with legs takes none, was {order.decision_price}"),
    )
    if (words := next((words for holds, words in checks if not holds), None)) is not None:
        return words
    for leg in legs:
        instrument = leg.instrument
        if not _is_on(instrument, order.symbol):
            return f"legs: {leg.symbol} is not of {order.symbol}"
        if instrument.expiry is not None and instrument.expiry < order.created_at.date():
            return f"legs: {leg.symbol} has expired: its last day is {instrument.expiry}"
    return None


def _is_on(instrument: Instrument, symbol: str) -> bool:
    """Tell whether an instrument is a share, or an option on it: weeklies end in W, adjusted ones in a digit."""
    root, name = instrument.underlying, symbol.replace(".", "")
    if instrument.asset_class is AssetClass.US_EQUITY:
        return instrument.symbol == symbol
    return root == name or (root[:-1] == name and (root[-1] == "W" or root[-1].isdigit()))


def opens_short(legs: Iterable[PackageLeg]) -> bool:
    """Tell whether a leg sells more than is held, as far as the order says it."""
    return any(leg.turn < 0 and leg.position_effect != "close" for leg in legs)


def only_closes(legs: Iterable[PackageLeg]) -> bool:
    """Tell whether every leg says that it closes."""
    return all(leg.position_effect == "close" for leg in legs)


# -- WHAT A PACKAGE IS WORTH ---
def unit_of(legs: Iterable[PackageLeg]) -> Decimal:
    """Return money per unit of a package's price: 100, as one of its legs is an option at least."""
    return max(leg.multiplier for leg in legs)


def net_of(legs: Sequence[PackageLeg], prices: Sequence[Decimal]) -> Decimal:
    """Return the price of a package by those of its legs: above 0 where it is paid."""
    worth = sum((leg.turn * leg.ratio * leg.multiplier * price for leg, price in zip(legs, prices, strict=True)), _ZERO)
    return worth / unit_of(legs)


def whole_packages(legs: Sequence[PackageLeg], filled: Sequence[Decimal]) -> Decimal:
    """Return how many packages are filled, by what is filled of each leg."""
    return min((done // leg.ratio for leg, done in zip(legs, filled, strict=True)), default=_ZERO)


def place_of_leg(legs: Sequence[PackageLeg], symbol: str | None) -> int | None:
    """Return the number, from 1, of the leg that trades a symbol; None where none does."""
    return next((number for number, leg in enumerate(legs, 1) if leg.symbol == symbol), None)


def words_of(legs: Iterable[PackageLeg]) -> str:
    """Write legs for a person: +1 KO261218C00060000 -1 KO261218C00065000."""
    return " ".join(f"{'+' if leg.turn > 0 else '-'}{leg.ratio} {leg.symbol}" for leg in legs)
