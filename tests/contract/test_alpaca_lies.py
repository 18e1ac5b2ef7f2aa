"""What Alpaca may say that is not so, or no longer so: each is reported as what it is, and closes nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from models.errors import DataError, OutcomeUnknown, Refused
from models.reports import BrokerStatus, FillReport, Found, Missing, OrderReport
from models.terms import contradictions
from models.vocabulary import ID_TAKEN
from tests.contract.connected_alpaca import ConnectedAlpaca, desk, order, ref, resting
from tests.kit.waiting import eventually
from worker.brokers.values import Raw

__all__ = ["desk"]
KEYS = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}


# -- EXECUTIONS ---
def test_a_corrected_price_is_pushed_under_the_first_id_with_a_revision(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "trade_correct", symbol="AAPL", price="12.34", seconds=0.1)
    wanted = order()
    desk.place(wanted)
    first, second = eventually(lambda: found if len(found := desk.pushed(FillReport, wanted)) > 1 else None)
    assert (first.execution_id, second.price) == (second.execution_id, Decimal("12.34"))
    assert (first.revision, second.quantity) == (0, 10)
    assert second.revision > 0


def test_an_execution_that_is_taken_back_is_pushed_as_busted(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "trade_bust", symbol="AAPL", seconds=0.1)
    wanted = order()
    desk.place(wanted)
    first, second = eventually(lambda: found if len(found := desk.pushed(FillReport, wanted)) > 1 else None)
    assert (second.execution_id, second.busted, second.quantity) == (first.execution_id, True, 10)


def test_an_activity_with_a_new_price_under_its_old_id_is_a_correction(desk: ConnectedAlpaca) -> None:
    began = datetime.now(UTC)
    desk.house.fault("alpaca", "trade_correct", symbol="AAPL", price="12.34", seconds=0.5, silent=True)
    desk.place(order())
    (first,) = eventually(lambda: desk.broker.get_fills(began))
    changed = lambda: [fill for fill in desk.broker.get_fills(began) if fill.price == Decimal("12.34")]  # noqa: E731
    (second,) = eventually(changed)
    assert second.execution_id == first.execution_id
    assert first.revision == 0 < second.revision


# -- ABSENCE ---
def test_a_path_that_is_not_served_says_nothing_of_an_order(desk: ConnectedAlpaca) -> None:
    wanted = resting()
    desk.house.fault("alpaca", "status", operation="find", status=404, code=40410000, text="endpoint not found")
    with pytest.raises(OutcomeUnknown):
        desk.find(wanted)
    desk.house.fault("alpaca", "status", operation="place", status=404, code=40410000, text="endpoint not found")
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)


def test_an_order_that_is_not_found_by_its_id_is_missing_only_if_no_listing_has_it(desk: ConnectedAlpaca) -> None:
    wanted = resting()
    desk.place(wanted)
    desk.house.fault("alpaca", "status", operation="find", status=404, code=40410000, text="order not found")
    seen = desk.find(wanted)
    assert isinstance(seen, Found)
    assert seen.report.broker_client_order_id == wanted.client_order_id
    assert isinstance(desk.find(resting()), Missing)


# -- WHOSE ORDER ---
@pytest.mark.parametrize("theirs", [{"side": "sell"}, {"ticker": "PEP"}, {"quantity": 99}], ids=str)
def test_a_strangers_order_under_our_id_is_not_our_first_send(desk: ConnectedAlpaca, theirs: dict[str, object]) -> None:
    desk.house.fault("alpaca", "id_taken", **{"quantity": 10, **theirs})  # type: ignore[arg-type]
    wanted = resting()
    with pytest.raises(OutcomeUnknown, match="instead of"):
        desk.place(wanted)
    seen = desk.find(wanted)
    assert isinstance(seen, Found)
    assert contradictions(wanted, seen.report)


def test_an_id_that_is_taken_by_an_order_that_is_not_shown_is_unknown_and_says_so(desk: ConnectedAlpaca) -> None:
    wanted = resting()
    desk.house.fault("alpaca", "not_found_lag", seconds=30)
    desk.place(wanted)
    with pytest.raises(OutcomeUnknown, match=r"is taken, says Alpaca, and no order is shown under it .*404") as caught:
        desk.place(wanted)
    assert caught.value.code == ID_TAKEN


def test_a_rejected_order_is_named_by_its_refusal(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "reject_after_accept")
    wanted = order()
    placed = desk.place(wanted)
    desk.settled(wanted, BrokerStatus.REJECTED)
    with pytest.raises(Refused) as caught:
        desk.place(wanted)  # the id is taken: by our own first send
    assert caught.value.broker_order_id == placed.broker_order_id


def test_an_order_replaced_in_the_dashboard_names_its_successor(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "replaced_outside", seconds=0.1)
    wanted = resting()
    placed = desk.place(wanted)
    (report,) = eventually(
        lambda: [r for r in desk.pushed(OrderReport, wanted) if r.status is BrokerStatus.REPLACED and r.replaced_by]
    )
    heirs = [found for found in desk.broker.get_orders() if found.broker_order_id == report.replaced_by]
    assert [heir.replaces for heir in heirs] == [placed.broker_order_id]


# -- ROWS AND PAGES ---
NOISE: tuple[Any, ...] = (None, "", "noise", -1, "NaN", 1.79e308, 2**31 - 1, [], {"no": "such"})


def raw_rows(desk: ConnectedAlpaca, path: str) -> list[Raw]:
    """Return what the door lists, as it stands on the wire."""
    rows: list[Raw] = requests.get(f"{desk.door.url}/v2/{path}", timeout=5, headers=KEYS).json()
    return rows


def spoil_all(desk: ConnectedAlpaca, operation: str, row: Raw, index: int) -> Iterator[tuple[str, object]]:
    """Spoil every field of one row in turn with every noise; what is yielded is spoilt until the next one is asked."""
    assert len(row) > 10
    for field in row:
        for value in NOISE:
            desk.house.fault("alpaca", "spoiled_row", None, operation=operation, field=field, value=value, index=index)
            yield field, value
            desk.house.call(lambda: desk.house.market.faults.clear("alpaca"))


def test_one_spoiled_field_of_one_order_in_a_listing_hides_no_other(desk: ConnectedAlpaca) -> None:
    wanted = [resting(quantity=size) for size in (11, 12, 13)]
    placed = [desk.place(one) for one in wanted]
    row = raw_rows(desk, "orders")[1]
    for spoilt in spoil_all(desk, "list", row, 1):
        found = {report.broker_order_id: report for report in desk.broker.get_orders()}
        assert {found[one.broker_order_id].quantity for one in (placed[0], placed[2])} == {11, 13}, spoilt
        assert len([one for one in found.values() if one.status is BrokerStatus.ACCEPTED]) >= 2, spoilt
        assert all(one.quantity in (11, 12, 13, None) for one in found.values()), spoilt
    assert desk.broker.is_connected()


def test_a_spoiled_order_among_several_is_looked_up_alone(desk: ConnectedAlpaca) -> None:
    wanted = [resting(quantity=size) for size in (11, 12, 13, 14)]
    for one in wanted:
        desk.place(one)
    desk.house.fault("alpaca", "spoiled_row", None, operation="list", field="qty", value="x", index=2)
    assert all(isinstance(seen, Found) for seen in desk.broker.find_orders([ref(one) for one in wanted]))
    desk.house.fault("alpaca", "spoiled_row", None, operation="find", field="qty", value="x")
    seen = desk.broker.find_orders([ref(one) for one in wanted])
    assert len([one for one in seen if isinstance(one, Found)]) == 3


def test_one_spoiled_field_of_one_execution_hides_no_other(desk: ConnectedAlpaca) -> None:
    began = datetime.now(UTC)
    for size in (11, 12, 13):
        desk.place(wanted := order(quantity=size))
        desk.settled(wanted, BrokerStatus.FILLED)
    row = raw_rows(desk, "account/activities")[1]
    for spoilt in spoil_all(desk, "activities", row, 1):
        fills = desk.broker.get_fills(began)
        assert {11, 13} <= {fill.quantity for fill in fills}, spoilt
        assert all(fill.quantity in (11, 12, 13) for fill in fills), spoilt
        assert all(fill.price is None or 0 < fill.price < 10**6 for fill in fills), spoilt
    assert desk.broker.is_connected()


def test_one_spoiled_field_of_one_position_hides_no_other(desk: ConnectedAlpaca) -> None:
    for symbol in ("AAPL", "KO", "PEP"):
        desk.house.hold("alpaca", symbol, 10)
    row = raw_rows(desk, "positions")[1]
    assert row["symbol"] == "KO"
    for field, value in spoil_all(desk, "positions", row, 1):
        found = {position.symbol: position.quantity for position in desk.broker.get_positions()}
        assert found["AAPL"] == found["PEP"] == 10, (field, value)
        assert found.get("KO") in (10, None), (field, value)
        assert field not in ("qty", "side") or found["KO"] is None, (field, value)
    assert desk.broker.is_connected()


def test_pages_of_bars_that_lead_to_each_other_end(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "page_loop", None)
    with pytest.raises(DataError, match="no end"):
        desk.broker.get_historical_data("AAPL", "1Day", datetime.now(UTC) - timedelta(days=99), datetime.now(UTC))
    assert len([strike for strike in desk.house.market.faults.struck if strike["kind"] == "page_loop"]) == 3


def test_a_bar_without_prices_is_left_out(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "spoiled_row", None, operation="bars", field="c", value=None, index=2)
    start = datetime(2026, 1, 5, 15, tzinfo=UTC)
    assert len(desk.broker.get_historical_data("AAPL", "1Min", start, start + timedelta(minutes=10))) == 9
