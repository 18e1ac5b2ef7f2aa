"""Which orders close a position: in whose name, how many shares, and never more than the broker shows."""

from __future__ import annotations

from decimal import Decimal

import pytest

from models.record.holders import decide_closings

SHARED = {"dip": 60, "trend": 40}
CASES: dict[str, tuple[int, dict[str | None, int], bool, list[tuple[str | None, str, int]]]] = {
    "one strategy": (10, {"dip": 10}, False, [("dip", "sell", 10)]),
    "short": (-10, {"dip": -10}, False, [("dip", "buy_to_cover", 10)]),
    "several": (100, dict(SHARED), False, [("dip", "sell", 60), ("trend", "sell", 40)]),
    "somebody sold some by hand": (80, dict(SHARED), False, [("dip", "sell", 60), ("trend", "sell", 20)]),
    "somebody sold it all by hand": (0, {"dip": 10}, False, []),
    "on the other side": (60, {"dip": 100, "trend": -40}, False, [("dip", "sell", 60)]),
    "turned by somebody else": (-5, {"dip": 10}, False, []),
    "nobody's stays": (13, {"dip": 10}, False, [("dip", "sell", 10)]),
    "nobody's as well": (13, {"dip": 10}, True, [("dip", "sell", 10), (None, "sell", 3)]),
    "orders that name no strategy": (7, {None: 7}, False, [(None, "sell", 7)]),
    "the same with nobody's is one order": (9, {None: 7}, True, [(None, "sell", 9)]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_position_is_closed_by_those_who_hold_it(name: str) -> None:
    shown, held, external, wanted = CASES[name]
    found = decide_closings(
        {"KO": Decimal(shown)} if shown else {},
        {(strategy, "KO"): Decimal(shares) for strategy, shares in held.items()},
        external=external,
    )
    assert [(one.strategy, one.side, one.quantity) for one in found] == wanted
    assert sum(one.quantity for one in found) <= abs(shown)
