"""The check of the long run finds what is wrong with one leg of a package, and with orders that are linked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.soak.doors import AskedLeg, AtDoor, Intent
from tests.soak.evidence import SoakVerdict
from tests.unit.storm_books import at_door, attempt, fill, found, row

# -- LEGS ---
LEGS = (AskedLeg("LOW", "buy", 1), AskedLeg("HIGH", "sell", 2))
PACKAGE = Intent("a", "SIM001", "buy", Decimal(2), ("alpaca", "ibkr"), recorded=True, parts=LEGS)


def a_package(state: str = "filled", sizes: tuple[int, int] = (2, 4), name: str = "SIM001", **more: Any) -> AtDoor:
    """Return two packages at a door: of one leg one is bought at 5, of the other two are sold at 1."""
    entry = at_door(state=state, filled=sizes[0] if state == "filled" else 0, **more)
    entry.symbol = name
    for number, (part, size, price) in enumerate(zip(LEGS, sizes, (5, 1), strict=True), 1):
        leg = AtDoor(number, "alpaca", None, None, part.symbol, Decimal(2 * part.ratio), state, side=part.side)
        leg.filled = Decimal(size if state == "filled" else 0)
        leg.executions = {"e": (leg.filled, Decimal(price))} if leg.filled else {}
        entry.legs[number] = leg
    return entry


def leg_fill(leg: int | None, quantity: int, price: Any, **more: Any) -> dict[str, Any]:
    part = LEGS[(leg or 1) - 1]
    return fill(quantity=quantity, price=price) | {"leg": leg, "symbol": part.symbol, "side": part.side} | more


BY_LEG = [leg_fill(1, 2, 5), leg_fill(2, 4, 1)]
NET: dict[str, Any] = {"orders": [row(avg_fill_price=3)], "fills": BY_LEG}


@pytest.mark.parametrize("name", ["SIM001", "LOW"])
def test_a_package_is_right_when_each_of_its_legs_is(name: str) -> None:
    assert found([a_package(name=name)], (PACKAGE,), **NET).clean


@pytest.mark.parametrize(
    "wrong",
    [
        [leg_fill(1, 2, 5)],  # a leg that our books lack
        [leg_fill(1, 2, 5), leg_fill(2, 2, 1)],  # half of one
        [leg_fill(1, 2, 5), leg_fill(2, 4, 2)],  # at another price
        [leg_fill(1, 2, 5), leg_fill(2, 4, 1, side="buy")],  # the wrong way round
        [leg_fill(1, 2, 5), leg_fill(2, 4, 1, symbol="LOW")],  # in another instrument
        [*BY_LEG, leg_fill(None, 2, 3)],  # the package's own report, taken for an execution
    ],
)
def test_what_is_wrong_with_a_leg_is_found(wrong: list[Any]) -> None:
    assert not found([a_package()], (PACKAGE,), **{**NET, "fills": wrong}).clean


def test_a_net_price_that_the_legs_do_not_make_is_a_guess_told_as_a_fact() -> None:
    assert found([a_package()], (PACKAGE,), **{**NET, "orders": [row(avg_fill_price=4)]}).false_terminals


def test_more_of_a_leg_than_was_ordered_and_other_legs_than_were_asked_for_are_duplicates() -> None:
    assert found([a_package(sizes=(2, 6))], (PACKAGE,), **NET).duplicates
    other = a_package()
    other.legs[2].side = "buy"
    assert found([other], (PACKAGE,), **NET).duplicates


# -- LINKED ORDERS ---
def a_group(kind: str, *legs: tuple[str, str, str]) -> tuple[Intent, ...]:
    return tuple(
        Intent("a" if not n else f"a.{leg}", "SIM001", side, Decimal(2), ("alpaca",), True, how, "a", kind, leg)
        for n, (leg, side, how) in enumerate(legs)
    )


def of_group(intents: tuple[Intent, ...], *filled: int) -> SoakVerdict:
    """Judge a group of which so much is filled of each leg, at its door as in our books."""
    doors = [
        at_door(name=one.client_order_id, state="filled" if size == 2 else "canceled", filled=size, side=one.side,
                order_type=one.order_type)
        for one, size in zip(intents, filled, strict=True)
    ]  # fmt: skip
    ids = {one.client_order_id: size for one, size in zip(intents, filled, strict=True)}
    return found(
        doors, intents,
        orders=[row(id_, "filled" if size == 2 else "canceled", size, avg_fill_price=50) for id_, size in ids.items()],
        attempts=[attempt(id_) for id_ in ids], fills=[fill(id_, size) for id_, size in ids.items() if size],
    )  # fmt: skip


def test_exits_that_fill_more_than_their_entry_are_duplicates() -> None:
    bracket = a_group(
        "bracket", ("entry", "buy", "market"), ("take_profit", "sell", "limit"), ("stop_loss", "sell", "stop")
    )
    assert of_group(bracket, 2, 2, 0).clean
    assert of_group(bracket, 2, 2, 1).duplicates
    oto = a_group("oto", ("first", "buy", "market"), ("then", "sell", "limit"))
    assert of_group(oto, 2, 2).clean
    assert of_group(oto, 1, 2).duplicates


def test_what_on_partial_has_sent_counts_with_the_exits_of_its_bracket() -> None:
    legs = (("entry", "buy", "market"), ("take_profit", "sell", "limit"), ("stop_loss", "sell", "stop"))
    bracket = a_group("bracket", *legs)
    ours = {"symbol": "SIM001", "side": "sell", "quantity": 1, "order_type": "limit", "leg": "first"}

    def judged(exits: int) -> SoakVerdict:
        sizes = {"a": 1, "a.take_profit": exits, "a.stop_loss": 0}
        rows = [row(id_, "canceled", size, avg_fill_price=50) for id_, size in sizes.items()]
        doors = [
            at_door(name=one.client_order_id, state="canceled", filled=sizes[one.client_order_id], side=one.side,
                    order_type=one.order_type) for one in bracket
        ]  # fmt: skip
        sent = at_door(name="a.protect", filled=1, side="sell", order_type="limit")
        sent.quantity = Decimal(1)
        rows.append(row("a.protect", filled=1, **ours))
        fills = [fill(id_, size) for id_, size in (sizes | {"a.protect": 1}).items() if size]
        tries = [attempt(id_) for id_ in (*sizes, "a.protect")]
        return found([*doors, sent], bracket, orders=rows, attempts=tries, fills=fills)

    assert judged(0).clean
    assert judged(1).duplicates
