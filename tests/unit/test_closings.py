"""Which orders close a position: in whose name, how many shares, and never more than the broker shows."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import insert

from models.clock import utcnow
from models.record.database import Database
from models.record.holders import class_terms, decide_closings, holders
from models.record.instrument_tables import instruments
from models.record.tables import fills, orders

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


def test_what_is_held_is_as_exact_as_its_executions_however_many_there_are(database: Database) -> None:
    sides = {"dip": ("buy", "sell"), "coin": ("buy", "sell"), "short": ("sell_short", "buy_to_cover")}
    with database.write() as connection:
        for strategy, symbol, sizes in (
            ("dip", "KO", (["0.1"] * 3000, ["300"])),
            ("coin", "BTC/USD", (["0.000000123", "0.1"], ["0.1"])),
            ("dip", "SHIB/USD", (["100.123456789"] * 20_000, ["2002469.13578"])),
            ("short", "PEP", (["1234567.1"] * 10, ["12345670"])),
        ):
            for side, quantities in zip(sides[strategy], sizes, strict=True):
                id_ = f"{symbol}-{side}"
                at = {name: utcnow() for name in ("available_at", "created_at", "updated_at")}
                row = {"symbol": symbol, "side": side, "strategy": strategy, "status": "filled", "body_hash": "x"}
                connection.execute(
                    insert(orders).values(client_order_id=id_, filled_quantity=0, attempt_no=1, broker="a", **row, **at)
                )
                of = {"client_order_id": id_, "broker": "a", "attempt_no": 1, "symbol": symbol, "strategy": strategy}
                when = {"filled_at": utcnow(), "recorded_at": utcnow(), "late": False}
                made = [
                    {"execution_id": f"{id_}-{n}", "quantity": Decimal(size), "price": Decimal(1), **of, **when}
                    for n, size in enumerate(quantities)
                ]
                connection.execute(insert(fills), made)
    with database.read() as connection:
        assert holders(connection, "a") == {
            ("coin", "BTC/USD"): Decimal("0.000000123"), ("short", "PEP"): Decimal(-1),
        }  # fmt: skip


ORDERS = {  # asset_class, currency, filled, minutes ago
    "the newest that was filled": ([("forex", "USD", 5, 9), ("crypto", "USD", 5, 3), ("forex", "USD", 0, 1)], "crypto"),
    "none that was filled": ([("forex", "USD", 0, 1)], None),
    "of another broker": ([], None),
}
TOLD = {
    "told once": ([("forex", "USD")], "forex"),
    "told in two currencies": ([("forex", "USD"), ("forex", "GBP")], None),
    "told as two classes": ([("forex", "USD"), ("crypto", "USD")], None),
}


@pytest.mark.parametrize("name", [*ORDERS, *TOLD])
def test_a_closing_order_says_the_class_of_what_is_held_and_never_a_guess(name: str, database: Database) -> None:
    traded, told = ORDERS.get(name, ([], None)), TOLD.get(name, ([], None))
    with database.write() as connection:
        for n, (asset_class, currency, filled, ago) in enumerate([*traded[0], ("crypto", "EUR", 5, 0)]):
            at = utcnow() - timedelta(minutes=ago)
            row = {"symbol": "EUR/USD", "side": "buy", "status": "filled", "body_hash": "x", "attempt_no": 1}
            times = dict.fromkeys(("available_at", "created_at", "updated_at"), at)
            where = "a" if n < len(traded[0]) else "b"
            more = {"asset_class": asset_class, "currency": currency, "filled_quantity": filled, "broker": where}
            connection.execute(insert(orders).values(client_order_id=f"o-{n}", **row, **times, **more))
        for asset_class, currency in told[0]:
            one = {"broker": "a", "symbol": "EUR/USD", "asset_class": asset_class, "currency": currency}
            connection.execute(insert(instruments).values(**one, underlying="EUR", resolved_at=utcnow()))
    wanted = traded[1] or told[1]
    with database.read() as connection:
        assert class_terms(connection, "a", "EUR/USD") == ({"asset_class": wanted, "currency": "USD"} if wanted else {})
        assert class_terms(connection, "b", "KO") == {}
