"""What Schwab and TDA say beside what was asked: groups, legs, noise in rows, late executions, an access that ends.

Each of these is a fault of the sandbox's door (`worker.sandbox.tda.lies`), met through the real adapter over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    BrokerError,
    ConfigurationError,
    CorroError,
    DataError,
    NotSent,
    UnreadableReply,
)
from models.reports import Ambiguous, BrokerStatus, FillReport, Found, OrderReport
from models.vocabulary import Side
from tests.contract.suite.desk import eventually, now, order, resting
from tests.contract.tda_desks import DAY, desk, schwab
from worker.brokers.tda.tokens import TokenKeeper
from worker.positions.parted import parted

__all__ = ["desk", "schwab"]


def fills(desk: Any) -> list[FillReport]:
    return list(desk.broker.get_fills(now() - 3 * DAY))


def orders(desk: Any) -> dict[str | None, OrderReport]:
    return {one.broker_order_id: one for one in desk.broker.get_orders(open_only=False, since=now() - 3 * DAY)}


# -- GROUPS AND LEGS ---
def test_every_order_inside_a_group_is_listed_with_its_status_and_its_executions(desk: Any) -> None:
    desk.fault("strange_rows", None)
    found = {str(key)[-1]: one for key, one in orders(desk).items() if one.symbol == "F"}
    assert {key: one.status for key, one in found.items()} == {
        "1": BrokerStatus.FILLED,
        "3": BrokerStatus.REPLACED,
        "4": BrokerStatus.CANCELED,
        "5": BrokerStatus.FILLED,
    }
    assert [(one.side, one.quantity, one.price) for one in fills(desk) if one.symbol == "F"] == [
        (Side.SELL_SHORT, 4, Decimal("11.9")),
        (Side.BUY_TO_COVER, 4, Decimal("11.13")),
    ]
    assert found["3"].replaced_by == found["5"].broker_order_id
    assert found["5"].replaces == found["3"].broker_order_id


def test_a_spread_is_one_order_and_one_fill_a_leg_in_its_own_quantity(desk: Any) -> None:
    desk.fault("strange_rows", None)
    (spread,) = [one for one in orders(desk).values() if one.package]
    assert [(leg.symbol, leg.side, leg.ratio) for leg in spread.package] == [
        ("SPY270115C00700000", Side.BUY, 1),
        ("SPY270115C00710000", Side.SELL_SHORT, 1),
    ]
    assert (spread.quantity, spread.filled_quantity, spread.symbol) == (1, 1, None)
    alone = [part for part in parted(spread) if isinstance(part, OrderReport)]
    assert [(one.side, one.quantity, one.filled_quantity) for one in alone] == [
        (Side.BUY, 1, 1),
        (Side.SELL_SHORT, 1, 1),
    ]
    assert [one.broker_order_id for one in alone] == [f"{spread.broker_order_id}/{leg}" for leg in (1, 2)]
    done = [one for one in fills(desk) if str(one.symbol).startswith("SPY27")]
    assert [(one.symbol, one.quantity, one.price) for one in done] == [
        ("SPY270115C00700000", 1, Decimal("6.2")),
        ("SPY270115C00710000", 1, Decimal("4.1")),
    ]
    assert [(one.broker_order_id, one.leg) for one in done] == [(spread.broker_order_id, leg) for leg in (1, 2)]
    assert len({one.execution_id for one in done}) == 2


def test_an_execution_without_a_price_has_none(desk: Any) -> None:
    desk.fault("strange_rows", None)
    (fill,) = [one for one in fills(desk) if one.symbol == "CUSIP:912828YK0"]
    assert (fill.quantity, fill.price) == (5, None)


def test_what_a_plain_ticker_does_not_mean_has_another_name(desk: Any) -> None:
    desk.hold("KO", 3)
    desk.fault("strange_rows", None)
    held = {one.symbol: one.quantity for one in desk.broker.get_positions()}
    assert held == {
        "KO": 3,
        "SPY270115C00700000": 1,
        "SPY270115C00710000": -1,
        "CUSIP:912828YK0": 5,
        "MUTUAL_FUND:SWPPX": Decimal("12.5"),
    }


# -- NOISE IN ONE ROW ---
NOISE: tuple[Any, ...] = (None, "", "noise", -1, "NaN", 1.79e308, [], {})


#: Where a row says which order it is: a row without them may be ours.
IDS = ("orderId", "orderLegCollection.0.instrument.symbol")


def _fields(row: Any, way: str = "") -> Iterator[str]:
    parts = row.items() if isinstance(row, dict) else enumerate(row) if isinstance(row, list) else ()
    for key, value in parts:
        yield f"{way}{key}"
        yield from _fields(value, f"{way}{key}.")


def test_one_spoiled_field_of_one_foreign_order_closes_nothing_and_hides_nothing_else(schwab: Any) -> None:
    schwab.price("MSFT", "50")
    schwab.place(order(symbol="MSFT", quantity=3))
    ours = resting(quantity=7)
    placed = schwab.place(ours)
    broker = schwab.broker
    path = broker._path("/orders")
    (row,) = [
        raw
        for raw in broker._rest.read(path, broker.dialect.window(now() - DAY, now()), list)
        if raw["orderLegCollection"][0]["instrument"]["symbol"] == "MSFT"
    ]
    fields = list(_fields(row))
    assert len(fields) > 25
    for field in fields:
        for value in NOISE:
            schwab.fault("spoiled_row", None, symbol="MSFT", operation="list", field=field, value=value)
            broker._listings.memory.forget()
            assert placed.broker_order_id in orders(schwab), (field, value)
            assert placed.broker_order_id in [one.broker_order_id for one in broker.get_orders()], (field, value)
            assert all(fill.price != 0 for fill in fills(schwab)), (field, value)
            seen = schwab.find(ours)
            assert isinstance(seen, Found), (field, value)
            assert seen.report.broker_order_id == placed.broker_order_id, (field, value)
            schwab.clear()
    assert broker.is_connected()


@pytest.mark.parametrize("field", ["price", "session", "duration", "orderLegCollection", "orderStrategyType"])
def test_an_order_that_cannot_be_compared_in_full_is_not_taken_for_ours(desk: Any, field: str) -> None:
    wanted = resting(symbol="PEP")
    desk.fault("accept_drop")
    with pytest.raises(BrokerError):
        desk.place(wanted)
    desk.fault("spoiled_row", None, symbol="PEP", operation="list", field=field, value="?")
    seen = desk.find(wanted)
    assert isinstance(seen, Ambiguous)
    assert "unreadable" in seen.words
    desk.clear()
    assert desk.found(wanted).symbol == "PEP"


@pytest.mark.parametrize("status", ["FILLED", "CANCELED", "REJECTED", "EXPIRED", "REPLACED"])
def test_an_end_that_does_not_say_what_was_filled_is_no_end_yet(desk: Any, status: str) -> None:
    wanted = resting()
    placed = desk.place(wanted)
    for field, value in (("filledQuantity", "?"), ("status", status)):
        desk.fault("spoiled_row", None, operation="get", field=field, value=value)
    assert desk.found(wanted, broker_order_id=placed.broker_order_id).status is not BrokerStatus.REJECTED


def test_one_spoiled_field_of_one_foreign_holding_closes_nothing(desk: Any) -> None:
    desk.hold("KO", 3)
    desk.hold("PEP", 4)
    raw = desk.broker._rest.read(desk.broker._path(""), {"fields": "positions"}, dict)
    rows = raw["securitiesAccount"]["positions"]
    place = next(at for at, row in enumerate(rows) if row["instrument"]["symbol"] == "PEP")
    for field in _fields(rows[place]):
        for value in NOISE:
            where = f"securitiesAccount.positions.{place}.{field}"
            desk.fault("spoiled_row", None, operation="account", field=where, value=value)
            held = {one.symbol: one.quantity for one in desk.broker.get_positions()}
            assert held["KO"] == 3, (field, value)
            assert held.get("PEP", 4) in (4, None), (field, value)
            desk.clear()
    assert desk.broker.is_connected()


def test_candles_of_which_none_can_be_read_are_no_empty_history(desk: Any) -> None:
    start = desk.broker.get_historical_data("AAPL", "1Day", now() - 9 * DAY, now())[-1].start
    ask = lambda: desk.broker.get_historical_data("AAPL", "1Day", start, start + timedelta(hours=1))  # noqa: E731
    assert len(ask()) == 1
    for value in (None, "NaN", -1, 1.79e308):
        desk.fault("spoiled_row", operation="bars", field="close", value=value)
        with pytest.raises(DataError, match="can be read"):
            ask()


def test_an_account_that_cannot_be_read_hides_no_other(desk: Any) -> None:
    for value in NOISE:
        field = "0.securitiesAccount.accountId" if desk.name == "tda" else "0.hashValue"
        desk.fault("spoiled_row", None, operation="accounts", field=field, value=value)
        desk.fault("strange_rows", None)  # another account, beside the spoiled one
        with pytest.raises(ConfigurationError, match="2 accounts"):
            desk.adapter(account_id="").connect()
        desk.clear()


# -- ONE IS NOT ANOTHER ---
def test_a_location_that_leads_to_a_twin_entered_before_is_not_believed(desk: Any) -> None:
    twin = desk.place(resting())
    handle = desk.orders()[0].handle
    desk.house.call(lambda: _age(handle, timedelta(minutes=2)))
    desk.fault("location_foreign")
    wanted = resting()
    with pytest.raises(UnreadableReply, match="another"):
        desk.place(wanted)
    assert desk.found(wanted).broker_order_id != twin.broker_order_id


def _age(handle: Any, by: timedelta) -> None:
    handle.received_at -= by


def test_words_about_a_rejection_decide_nothing(desk: Any) -> None:
    desk.fault("stale_words")
    wanted = resting()
    placed = desk.place(wanted)
    assert placed.status is BrokerStatus.ACCEPTED
    desk.cancel_outside(desk.the_one(wanted))
    assert desk.settled(wanted, BrokerStatus.CANCELED, broker_order_id=placed.broker_order_id)


def test_an_order_replaced_in_the_brokers_own_pages_names_its_successor(desk: Any) -> None:
    desk.fault("replaced_outside", price="1.01")
    wanted = resting()
    placed = desk.place(wanted)
    report = desk.settled(wanted, BrokerStatus.REPLACED, broker_order_id=placed.broker_order_id)
    (new,) = [one for one in orders(desk).values() if one.limit_price == Decimal("1.01")]
    assert report.replaced_by == new.broker_order_id
    told = eventually(lambda: [one for one in desk.pushed(placed) if one.status is BrokerStatus.REPLACED])
    assert [one.replaced_by for one in told] == [new.broker_order_id]
    assert new.replaces == placed.broker_order_id


def test_executions_that_come_late_are_asked_for_until_they_are_there(desk: Any) -> None:
    desk.fault("late_executions", seconds=0.5)
    placed = desk.place(order())
    told = eventually(lambda: [one for one in desk.pushed(placed) if one.status is BrokerStatus.FILLED])[0]
    assert (told.filled_quantity, told.avg_fill_price, told.fills) == (10, None, ())
    found = eventually(lambda: desk.executions(placed))
    assert [fill.quantity for fill in found] == [10]
    assert all(fill.price for fill in found)


# -- READINGS THAT DO NOT GROW ---
def _requests(desk: Any, read: Any) -> int:
    calls = desk.door._calls
    before = len(calls)
    read()
    return len(calls) - before


def _cycle(desk: Any) -> None:
    desk.broker.get_fills(now() - timedelta(minutes=10))
    desk.broker.get_orders()


def test_the_number_of_requests_grows_neither_with_the_age_of_an_order_nor_with_the_history(desk: Any) -> None:
    desk.fault("rate_limit", None, per_minute=10_000_000)  # it counts
    days = desk.broker.dialect.lookback.days - 3
    old = desk.place(resting(time_in_force="gtc"))
    for _ in range(40):
        desk.place(order(symbol="KO"))
    handles = [seen.handle for seen in desk.orders()]
    desk.house.call(lambda: [_age(one, timedelta(days=days) * (1 - at / 50)) for at, one in enumerate(handles)])
    eventually(lambda: not any(seen.state == "live" and seen.symbol == "KO" for seen in desk.orders()))
    desk.broker._watch.stop()
    desk.broker._listings.memory.forget()
    the_long_way = _requests(desk, lambda: _cycle(desk))
    assert the_long_way <= 2 * (days // desk.broker.dialect.longest_window.days + 2)
    for _ in range(3):
        assert _requests(desk, lambda: _cycle(desk)) <= 4
    assert old.broker_order_id in [one.broker_order_id for one in desk.broker.get_orders()]
    ours = desk.house.call(lambda: handles[0])
    desk.house.call(lambda: desk.house.market.cancel(ours))
    seen = eventually(lambda: (one := orders(desk).get(old.broker_order_id)) and one.status is BrokerStatus.CANCELED)
    assert seen


def test_no_window_reaches_further_back_than_the_broker_lists(desk: Any) -> None:
    desk.fault("short_lookback", None, days=60 if desk.name == "tda" else 365)
    placed = desk.place(resting(time_in_force="gtc"))
    old = now() - timedelta(days=400)
    assert placed.broker_order_id in [one.broker_order_id for one in desk.broker.get_orders(open_only=False, since=old)]
    desk.broker.get_fills(old)
    seen = desk.find(resting(symbol="PEP"), sent_at=old)
    assert isinstance(seen, Ambiguous)
    assert "further back" in seen.words
    assert desk.can.lookback is not None


# -- SECRETS ---
def test_no_account_hash_or_token_is_in_any_text(
    desk: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.hasten(monkeypatch)
    held = desk.broker._rest.keeper._held
    secrets = {desk.door.account, desk.door.account_path, held.access_token}
    said: list[str] = []
    ways: list[tuple[str, dict[str, Any]]] = [
        ("status", {"status": 500}),
        ("status", {"status": 404}),
        ("status", {"status": 400, "text": f"Invalid account number {desk.door.account} {desk.door.account_path}"}),
        ("status", {"status": 502, "html": True, "text": f"/accounts/{desk.door.account_path}/orders"}),
        ("garbage", {}),
        ("half_reply", {}),
        ("location_missing", {}),
        ("disconnect", {}),
    ]
    for kind, how in ways:
        for name, call in (
            ("place", lambda: desk.place(resting(), deadline_s=0.5)),
            ("list", desk.broker.get_orders),
            ("account", desk.broker.get_positions),
            ("get", lambda: desk.find(resting(), broker_order_id="1")),
            ("token", lambda: desk.adapter(token_path=str(desk.home / "new.json")).connect()),
        ):
            where = {} if kind == "disconnect" else {"operation": name}
            desk.fault(kind, None if kind == "status" else 1, **where, **how)
            try:
                said.append(repr(call()) if name == "get" else "")
            except CorroError as error:
                said += _everything(error)
            desk.clear()
            desk.again(desk.broker.get_account_info)
    desk.down()
    for call in (desk.broker.get_orders, lambda: desk.place(resting())):
        with pytest.raises(CorroError) as caught:
            call()
        said += _everything(caught.value)
    out, err = capsys.readouterr()
    text = "\n".join([*said, out, err])
    assert len(said) > 20
    assert not [secret for secret in secrets if secret in text]


def _everything(error: BaseException | None) -> list[str]:
    found = []
    while error is not None:
        found += [str(error), repr(error)]
        error = error.__cause__
    return found


@pytest.mark.parametrize("life", ["Infinity", "NaN", -5, "soon", None, [], True, 10**400, "1e999", 0])
def test_a_tokens_life_is_a_number_in_its_range(tmp_path: Path, life: Any) -> None:
    value = float(life) if life in ("Infinity", "NaN") else life
    answer = {"access_token": "a", "expires_in": value, "refresh_token_expires_in": value}
    keeper = TokenKeeper("schwab", tmp_path / "t.json", "r0", lambda _: answer, refresh_lifetime_s=604_800)
    assert keeper.token() == "a"
    held = keeper._held
    assert held is not None
    assert 0 < held.renew_at - now().timestamp() <= 86_400
    assert 0 <= held.refresh_expires_at - now().timestamp() <= 366 * 86_400
    assert TokenKeeper("schwab", tmp_path / "t.json", "r0", lambda _: {}).token() == "a"


@pytest.mark.parametrize("token", [None, "", 5, "a\r\nX: y", "ä", " a"])
def test_what_cannot_be_a_token_is_none(tmp_path: Path, token: Any) -> None:
    keeper = TokenKeeper("schwab", tmp_path / "t.json", "r0", lambda _: {"access_token": token})
    with pytest.raises(NotSent):
        keeper.token()


@pytest.mark.parametrize("at", ["1e999", "NaN", '"soon"', "-1", "99999999999999", "true", "null"])
def test_a_token_file_with_a_time_that_cannot_be_is_not_believed(tmp_path: Path, at: str) -> None:
    path = tmp_path / "t.json"
    first = TokenKeeper("schwab", path, "r0", lambda _: {"access_token": "a", "refresh_token": "r1"})
    first.token()
    text = path.read_text()
    whole = text.partition('"renew_at": ')
    path.write_text(whole[0] + whole[1] + at + "," + whole[2].partition(",")[2])
    assert TokenKeeper("schwab", path, "r0", lambda _: {"access_token": "b"}).token() == "b"
