"""The simulated market's ledger: written before anyone hears of it, read again after a kill."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.kit.stories import eventually, run
from tests.unit.sandbox_market import open_market, place
from worker.sandbox.market.ledger import Ledger, duplicates, read_ledger, summary
from worker.sandbox.market.market import Market

# -- LEDGER --


def test_the_ledger_has_the_order_before_anyone_hears_of_it_and_survives_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.jsonl"

    async def story() -> None:
        async with open_market(ledger_path=path) as (market, events):
            order = place(market, client_order_id="s-1~1", limit_price=Decimal("101.50"), order_type="limit")
            assert [line["event"] for line in read_ledger(path)] == ["opened", "arrived"]
            assert events == []
            await eventually(lambda: order.state == "filled")

    run(story)
    lines = read_ledger(path)
    assert [line["event"] for line in lines] == ["opened", "arrived", "fill"]
    assert lines[1]["client_order_id"] == "s-1~1"
    assert lines[1]["limit_price"] == "101.50"
    assert summary(lines)[1]["state"] == "filled"


def test_a_restart_forgets_neither_orders_nor_fills_nor_positions_nor_ids(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"

    async def before() -> dict[str, Any]:
        async with open_market(ledger_path=path) as (market, _):
            filled = place(market, client_order_id="filled", quantity=Decimal(3000), extra={"wire": {"a": "1"}})
            await eventually(lambda: filled.state == "filled")
            resting = place(market, client_order_id="resting", order_type="limit", limit_price=Decimal(1))
            market.modify(resting, limit_price=Decimal("1.50"))
            old = place(market, client_order_id="old", order_type="limit", limit_price=Decimal(1))
            market.replace(old, client_order_id="new", limit_price=Decimal(2))
            gone = place(market, client_order_id="gone", order_type="limit", limit_price=Decimal(1))
            market.cancel(gone)
            market.turn_away("refused", **_arrival("refused"))
            market.set_position("alpaca", "KO", Decimal(-7))
            return _picture(market)

    async def after() -> dict[str, Any]:
        async with open_market(ledger_path=path) as (market, _):
            market.wake()
            seen = _picture(market)
            resting = market.find_by_client_id("alpaca", "resting")
            assert resting is not None
            market.set_price("AAPL", Decimal(1))  # it can still be filled, and another one canceled
            await eventually(lambda: resting.state == "filled")
            successor = market.find_by_client_id("alpaca", "new")
            assert successor is not None
            assert place(market, client_order_id="next").number == max(seen["orders"]) + 2  # one was turned away
            return seen

    first, second = run(before), run(after)
    assert second == first
    orders = {entry["client_order_id"]: entry["state"] for entry in summary(read_ledger(path)).values()}
    assert orders["gone"] == "canceled"
    assert duplicates(read_ledger(path)) == []


def _picture(market: Market) -> dict[str, Any]:
    """What a door can see of the market, but for what only counts while an order is under way."""
    seen = [asdict(order) for order in market.orders("alpaca")]
    passing = ("updated_at", "closed_at", "held", "fill_cap", "triggered", "high_water")
    orders = {row["number"]: {k: v for k, v in row.items() if k not in passing} for row in seen}
    for row in orders.values():
        row["extra"].pop("accepted", None)
        for execution in row["executions"]:
            execution.pop("at")
    account = market.account("alpaca")
    return {"orders": orders, "positions": account.positions, "cash": account.cash, "realized": account.realized}


def test_an_order_in_two_places_is_a_duplicate_unless_one_of_them_is_dead() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            first = place(market, client_order_id="s-1~1", order_type="limit", limit_price=Decimal(90))
            market.turn_away("refused", **_arrival("s-1~0"))
            assert market.ledger.duplicates() == []
            place(market, door="tda", client_order_id="s-1~2", order_type="limit", limit_price=Decimal(90))
            place(market, client_order_id="s-2")
            found = market.ledger.duplicates()
            assert [d["client_order_id"] for d in found] == ["s-1"]
            assert {o["door"] for o in found[0]["orders"]} == {"alpaca", "tda"}
            market.cancel(first)
            assert market.ledger.duplicates() == []

    run(story)


def _arrival(name: str) -> dict[str, Any]:
    keys: dict[str, Any] = {"door": "ibkr", "account": "x", "client_order_id": name, "symbol": "AAPL", "side": "buy"}
    return {**keys, "quantity": Decimal(1), "order_type": "market", "time_in_force": "day"}


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.record("arrived", number=4, door="tda")
    ledger.close()
    with path.open("a") as file:
        file.write('{"event": "fill", "numb')
    assert [line["event"] for line in read_ledger(path)] == ["opened", "arrived"]
    again = Ledger(path)
    again.close()
    assert again.last_number == 4
    assert [line["event"] for line in read_ledger(path)] == ["opened", "arrived", "opened"]
