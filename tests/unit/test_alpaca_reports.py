"""Alpaca's JSON, every field of every message spoiled: nothing crashes, and nothing is made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any

import pytest

from models.errors import UnreadableReply
from models.messages import OrderRequest
from models.reports import BrokerStatus, FillReport, OrderReport
from models.terms import conflicts
from worker.brokers.alpaca import account, prices
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.executions import LISTED_WITHIN_S, Executions, amended, of_activity, of_event
from worker.brokers.alpaca.symbols import symbol_of
from worker.brokers.rest.reading import Paging
from worker.brokers.values import UNREADABLE

AT = "2026-10-08T15:10:18.909428548Z"
ORDER: dict[str, Any] = {
    "id": "61d1feca-aa11-4863-8b79-64c5e4731a98", "client_order_id": "ours-1", "asset_class": "us_equity",
    "created_at": AT, "submitted_at": AT, "updated_at": AT, "extended_hours": False, "filled_avg_price": "86.88",
    "filled_qty": "3", "legs": None, "limit_price": "87", "stop_price": "86", "trail_price": "1.5",
    "trail_percent": "2", "notional": None, "order_class": "", "type": "limit", "order_type": "limit", "qty": "10",
    "replaced_by": None, "replaces": None, "side": "buy", "status": "partially_filled", "symbol": "KO",
    "time_in_force": "day",
}  # fmt: skip
EVENT: dict[str, Any] = {
    "event": "partial_fill", "execution_id": "7c8a", "timestamp": AT, "price": "86.88", "qty": "3",
    "position_qty": "3", "order": ORDER,
}  # fmt: skip
ACTIVITY: dict[str, Any] = {
    "activity_type": "FILL", "id": "20261008111019061::1", "order_id": ORDER["id"], "price": "86.88", "qty": "3",
    "cum_qty": "3", "leaves_qty": "7", "side": "buy", "symbol": "KO", "transaction_time": AT, "type": "partial_fill",
}  # fmt: skip
POSITION: dict[str, Any] = {
    "symbol": "KO", "qty": "0.557436865", "side": "long", "avg_entry_price": "86.87", "market_value": "48.4",
    "unrealized_pl": "0.1", "asset_class": "us_equity",
}  # fmt: skip
ACCOUNT: dict[str, Any] = {
    "account_number": "PA1", "id": "x", "currency": "USD", "buying_power": "1", "cash": "1", "equity": "1",
    "portfolio_value": "1", "daytrade_count": 0,
}  # fmt: skip
BAR: dict[str, Any] = {"t": "2026-01-05T15:00:00Z", "o": 1.5, "h": 2, "l": 1, "c": 1.5, "v": 100, "n": 3, "vw": 1.4}
SNAPSHOT: dict[str, Any] = {
    "latestQuote": {"t": AT, "bp": 1.5, "ap": 1.6, "bs": 2, "as": 3},
    "latestTrade": {"t": AT, "p": 1.55, "s": 10},
    "dailyBar": {"t": AT, "v": 1000},
}
START, END = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
READERS: dict[str, tuple[dict[str, Any], Any]] = {
    "order": (ORDER, read.order_report),
    "event": (EVENT, lambda raw: of_event(raw, read.order_report(raw["order"]))),
    "order of an event": (ORDER, lambda raw: of_event(EVENT | {"order": raw}, read.order_report(raw))),
    "activity": (ACTIVITY, of_activity),
    "position": (POSITION, account.position_report),
    "account": (ACCOUNT, lambda raw: account.account_report(raw, paper=True)),
    "bar": (BAR, lambda raw: prices.read_bars([raw], START, END)),
    "quote": (SNAPSHOT["latestQuote"], lambda raw: prices.quote_report("KO", SNAPSHOT | {"latestQuote": raw})),
    "trade": (SNAPSHOT["latestTrade"], lambda raw: prices.quote_report("KO", SNAPSHOT | {"latestTrade": raw})),
    "day": (SNAPSHOT["dailyBar"], lambda raw: prices.quote_report("KO", SNAPSHOT | {"dailyBar": raw})),
    "snapshot": (SNAPSHOT, lambda raw: prices.quote_report("KO", raw)),
}
LARGEST = 1.7976931348623157e308
SENTINELS: list[Any] = [
    None, "", " ", "null", "nan", "NaN", "inf", "-inf", "Infinity", -1, "-1", 0, "0", 0.0, str(LARGEST), LARGEST,
    "1.7976931348623157E308", 2**31 - 1, str(2**31 - 1), 2**63 - 1, -(2**31), "1e30", "1_0", "\u0663", True, False, [],
    {}, [1], {"a": 1}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x" * 300, "a\x00b", float("nan"), float("inf"),
]  # fmt: skip
CASES = [(name, field) for name, (raw, _) in READERS.items() for field in raw]


def numbers_in(found: Any) -> Iterator[Any]:
    if isinstance(found, tuple | list):
        for part in found:
            yield from numbers_in(part)
    elif isinstance(found, Decimal):
        yield found
    elif hasattr(found, "__dataclass_fields__"):
        for field in fields(found):
            yield from numbers_in(getattr(found, field.name))


@pytest.mark.parametrize(("name", "field"), CASES)
def test_a_spoiled_field_of_any_message_is_unreadable_or_nothing_and_never_an_invention(name: str, field: str) -> None:
    raw, reader = READERS[name]
    told = set(numbers_in(reader(raw)))
    for sentinel in [*SENTINELS, KeyError]:
        spoiled = {key: value for key, value in raw.items() if key != field or sentinel is not KeyError}
        if sentinel is not KeyError:
            spoiled[field] = sentinel
        try:
            found = reader(spoiled)
        except UNREADABLE:
            continue  # said to be unreadable, by an exception that every caller expects
        for number in numbers_in(found):
            assert number.is_finite()
            assert abs(number) < Decimal("1e18")
            shown = number in told or abs(number) in {0, 1, 2**31 - 1, 2**31, 2**63 - 1}
            assert shown, f"{sentinel!r} became {number}"


MONEY = ("filled_avg_price", "limit_price", "stop_price", "trail_price", "trail_percent")


@pytest.mark.parametrize("field", MONEY)
@pytest.mark.parametrize("nothing", [None, "", "0", 0, "-1", "nan", LARGEST])
def test_a_price_that_is_not_told_is_none(field: str, nothing: Any) -> None:
    names = {"filled_avg_price": "avg_fill_price", "trail_price": "trail_amount"}
    assert getattr(read.order_report(ORDER | {field: nothing}), names.get(field, field)) is None


def test_an_execution_without_a_price_has_none_and_never_zero_nor_the_limit() -> None:
    for nothing in (None, "", "0", "nan", "-1"):
        assert of_event(EVENT | {"price": nothing}, read.order_report(ORDER)).price is None
        assert of_activity(ACTIVITY | {"price": nothing}).price is None


def test_an_order_shows_every_term_that_the_broker_shows() -> None:
    found = read.order_report(ORDER | {"replaces": "a", "replaced_by": "b"})
    assert (found.trail_amount, found.trail_percent, found.extended_hours) == (Decimal("1.5"), Decimal(2), False)
    assert (found.replaces, found.replaced_by, found.unlike_ours) == ("a", "b", ())


@pytest.mark.parametrize(
    "odd",
    [
        {"notional": "-500", "qty": None},
        {"order_class": "advanced"},
        {"asset_class": "treasury", "symbol": "912828YK0"},
        {"type": "something_new"},
        {"time_in_force": "gtx"},
        {"side": "sideways"},
    ],
    ids=str,
)
def test_what_no_order_of_ours_has_is_named(odd: dict[str, Any]) -> None:
    assert read.order_report(ORDER | odd).unlike_ours


def test_legs_that_cannot_be_read_are_legs_of_none_of_our_orders() -> None:
    report = read.order_report(ORDER | {"order_class": "mleg", "legs": [{"symbol": "X"}]})
    assert [(leg.symbol, leg.side) for leg in report.package] == [("X", None)]


def test_an_order_that_alpaca_links_is_not_one_on_its_own_and_its_legs_are_read_with_it() -> None:
    legs = [ORDER | {"id": f"leg-{n}", "client_order_id": f"theirs-{n}", "order_class": "bracket"} for n in (1, 2)]
    report = read.order_report(ORDER | {"order_class": "bracket", "legs": legs})
    assert (report.linked, [leg.broker_order_id for leg in report.legs]) == ("bracket", ["leg-1", "leg-2"])
    assert {leg.part_of for leg in report.legs} == {ORDER["client_order_id"]}
    assert report.unlike_ours == ()
    given = {"symbol": "AAPL", "side": "buy", "quantity": 1}
    assert "it is linked to others (bracket)" in conflicts(OrderRequest(**given), report)
    linked = OrderRequest(**given, group={"id": "g", "kind": "bracket", "leg": "entry"})
    assert not any("linked" in words for words in conflicts(linked, report))


@pytest.mark.parametrize("noise", [None, "", "NaN", -1])
def test_an_order_whose_size_is_not_told_is_not_taken_for_ours_by_its_id(noise: Any) -> None:
    assert read.order_report(ORDER | {"qty": noise}).unlike_ours


@pytest.mark.parametrize("noise", ["?", [], {}])
def test_an_order_whose_size_cannot_be_read_is_a_row_that_cannot_be_read(noise: Any) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        read.order_report(ORDER | {"qty": noise})


def test_a_reason_of_the_past_does_not_explain_an_order_that_lives() -> None:
    assert read.order_report(ORDER | {"reject_reason": "too late"}).message is None
    assert read.order_report(ORDER | {"reject_reason": "no", "status": "rejected"}).message == "no"


def test_filled_with_nothing_is_an_order_to_be_read_again() -> None:
    for nothing in (None, "0", "nan", -1):
        assert read.order_report(ORDER | {"status": "filled", "filled_qty": nothing}).status is BrokerStatus.UNKNOWN


def test_holdings_have_the_canonical_text_of_what_is_held() -> None:
    """Coins have one name in orders and another in holdings and activities, where no class stands beside it."""
    for joined, pair in (("BTCUSD", "BTC/USD"), ("ETHBTC", "ETH/BTC"), ("USDTUSD", "USDT/USD"), ("BTC/USD", "BTC/USD")):
        assert account.position_report(POSITION | {"asset_class": "crypto", "symbol": joined}).symbol == pair
        assert symbol_of({"symbol": joined}) == pair
    assert [symbol_of({"symbol": name}) for name in ("AUSD", "BRK.B", "F")] == ["AUSD", "BRK.B", "F"], "shares"
    unknown = POSITION | {"asset_class": "treasury", "symbol": "912828YK0"}
    assert account.position_report(unknown).symbol == "TREASURY:912828YK0"
    option = "AAPL261218C00200000"
    assert account.position_report(POSITION | {"asset_class": "us_option", "symbol": option}).symbol == option
    assert account.position_report(POSITION).currency == "USD"


def test_a_bar_without_prices_among_good_ones_is_left_out_and_returned_as_unreadable() -> None:
    empty = BAR | {"t": "2026-01-05T15:01:00Z", "o": None, "h": None, "l": None, "c": None}
    later = BAR | {"t": "2026-01-05T15:02:00Z"}
    found, unreadable = prices.read_bars([BAR, empty, later], START, END)
    assert [bar.start.minute for bar in found] == [0, 2]
    assert unreadable == [empty]


# -- EXECUTIONS ---
def event(**more: Any) -> dict[str, Any]:
    return EVENT | more


def told(executions: Executions, raw: dict[str, Any]) -> FillReport:
    return executions.known(of_event(raw, read.order_report(ORDER)), amended(raw))


def test_a_correction_is_the_same_execution_with_a_higher_revision() -> None:
    known = Executions()
    first = told(known, event())
    second = told(known, event(event="trade_correct", execution_id="b", previous_execution_id="7c8a", price="86"))
    third = told(known, event(event="trade_correct", execution_id="c", previous_execution_id="b", price="86.88"))
    assert {fill.execution_id for fill in (first, second, third)} == {"7c8a"}
    assert 0 == first.revision < second.revision < third.revision < 2**31
    assert [fill.price for fill in (second, third)] == [Decimal(86), Decimal("86.88")]
    assert second.cumulative_quantity is None  # the order counts all executions now, not those up to this one


def test_a_bust_names_what_it_takes_back() -> None:
    known = Executions()
    told(known, event())
    busted = told(known, event(event="trade_bust", execution_id="b", previous_execution_id="7c8a", qty="-3"))
    assert (busted.execution_id, busted.busted, busted.quantity) == ("7c8a", True, 3)
    assert busted.revision > 0


@pytest.mark.parametrize("kind", ["trade_bust", "trade_correct"])
def test_what_changes_an_execution_says_that_it_is_none_itself(kind: str) -> None:
    assert not told(Executions(), event()).amends
    assert told(Executions(), event(event=kind, execution_id="b", previous_execution_id="7c8a", qty="3")).amends
    assert not of_activity(ACTIVITY).amends
    assert of_activity(ACTIVITY | {"type": kind}).amends


def test_a_bust_without_the_earlier_id_means_its_own() -> None:
    assert told(Executions(), event(event="trade_bust", qty="-3")).execution_id == "7c8a"


def test_what_is_told_twice_is_no_correction() -> None:
    known = Executions()
    correction = event(event="trade_correct", execution_id="b", previous_execution_id="7c8a", price="86")
    assert [told(known, event()).revision for _ in range(2)] == [0, 0]
    assert told(known, correction) == told(known, correction)
    assert told(known, event()).revision == 0  # a late repetition of the first telling stays what it was


def test_an_activity_with_another_price_under_its_old_id_is_a_correction() -> None:
    known = Executions()
    prices = ("86.88", "86.88", "86", "86", "86.88")
    found = [
        known.known(of_activity(ACTIVITY | {"price": price}), listed_at=float(at)) for at, price in enumerate(prices)
    ]
    assert {fill.execution_id for fill in found} == {ACTIVITY["id"].rpartition("::")[2]}
    first, again, corrected, still, back = (fill.revision for fill in found)
    assert first == again == 0 < corrected == still < back


def listed(executions: Executions, price: str, at: float) -> FillReport:
    return executions.known(of_activity(ACTIVITY | {"price": price}), listed_at=at)


def test_an_event_that_comes_after_the_listing_of_its_correction_corrects_nothing() -> None:
    known = Executions()
    own = ACTIVITY["id"].rpartition("::")[2]
    corrected = listed(known, "86", monotonic())
    late = told(known, event(execution_id=own, price="86.88"))
    assert (late.execution_id, corrected.revision, late.revision) == (own, 0, 0)  # the record keeps what it has
    assert listed(known, "86", monotonic()).revision == 0


def test_a_listing_that_was_asked_for_before_a_correction_was_told_takes_nothing_back() -> None:
    known = Executions()
    own = ACTIVITY["id"].rpartition("::")[2]
    first, asked_at = listed(known, "86.88", monotonic()), monotonic()
    second = told(known, event(event="trade_correct", execution_id="b", previous_execution_id=own, price="86"))
    late = listed(known, "86.88", asked_at)
    assert late.revision == first.revision < second.revision
    assert listed(known, "86.88", monotonic()).revision == first.revision  # listings lag
    assert listed(known, "86.88", monotonic() + LISTED_WITHIN_S).revision > second.revision  # it was put right again


@pytest.mark.parametrize("is_known", [False, True], ids=["heard first", "known before"])
@pytest.mark.parametrize("kind", ["trade_bust", "trade_correct"])
def test_a_listing_that_lags_behind_an_event_brings_nothing_back_for_a_while(kind: str, is_known: bool) -> None:
    known, own = Executions(), _own(ACTIVITY)
    if is_known:
        told(known, event(execution_id=own))
    news = {"previous_execution_id": own, "price": "86", "qty": "3"}
    heard = told(known, event(event=kind, execution_id="b", **news))
    late = [listed(known, "86.88", monotonic()) for _ in range(2)]
    assert [fill.revision for fill in late] == [0, 0]
    row = ACTIVITY | {"type": kind, "id": "20261008::b", **news}
    beside = {amended(one) for one in (ACTIVITY, row)}
    both = [
        known.known(of_activity(one), amended(one), listed_at=monotonic(), beside=beside) for one in (ACTIVITY, row)
    ]
    assert [fill.revision for fill in both] == [0, heard.revision]


@pytest.mark.parametrize("is_pushed_first", [False, True])
def test_a_listing_that_goes_on_showing_what_was_put_right_beside_its_correction_takes_nothing_back(
    is_pushed_first: bool,
) -> None:
    """Of three tellings the last one stands, in every reading; told twice, none is news."""
    known, own = Executions(), _own(ACTIVITY)
    row = ACTIVITY | {"type": "trade_correct"}
    first = row | {"id": "20261008::b", "previous_execution_id": own, "price": "86"}
    second = row | {"id": "20261008::c", "previous_execution_id": "b", "price": "87"}
    if is_pushed_first:
        told(known, event(event="trade_correct", execution_id="b", previous_execution_id=own, price="86"))
    rows, readings, later = [ACTIVITY, first, second], [], monotonic() + LISTED_WITHIN_S
    for at in range(3):
        beside = {amended(one) for one in rows}
        readings.append([
            known.known(of_activity(one), amended(one), listed_at=later + at, beside=beside) for one in rows
        ])  # fmt: skip
    assert {fill.execution_id for fill in readings[0]} == {own}
    revisions = [[fill.revision for fill in found] for found in readings]
    assert revisions[0] == revisions[1] == revisions[2]
    assert revisions[0][0] == 0 <= revisions[0][1] < revisions[0][2]


def _own(raw: dict[str, Any]) -> str:
    return str(raw["id"]).rpartition("::")[2]


def test_both_feeds_name_an_execution_alike_where_the_activity_has_the_id_of_the_stream_in_it() -> None:
    own = ACTIVITY["id"].rpartition("::")[2]
    stream = told(Executions(), event(execution_id=own))
    assert of_activity(ACTIVITY).execution_id == stream.execution_id == own
    amends = {"type": "trade_bust", "previous_execution_id": ACTIVITY["id"]}
    assert amended(ACTIVITY | amends) == own
    assert amended(ACTIVITY | {"type": "trade_bust"}) == own


def test_a_restart_does_not_make_a_correction_older() -> None:
    correction = event(event="trade_correct", execution_id="b", previous_execution_id="7c8a", price="86")
    assert told(Executions(), correction).revision > (datetime.now(UTC) - timedelta(minutes=1)).timestamp()


def test_an_execution_of_the_future_is_unreadable() -> None:
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    with pytest.raises(ValueError, match="future"):
        of_activity(ACTIVITY | {"transaction_time": later})


# -- LISTINGS ---
@pytest.mark.parametrize("field", sorted(set(ORDER) - {"id", "client_order_id"}))
def test_an_order_that_cannot_be_read_is_still_known_by_its_ids(field: str) -> None:
    for sentinel in SENTINELS:
        found: OrderReport = read.ids_of(ORDER | {field: sentinel})
        assert (found.broker_order_id, found.broker_client_order_id) == (ORDER["id"], "ours-1")
        assert found.status is BrokerStatus.UNKNOWN


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"], [None], [""], [5], [["a"]]])
def test_pages_that_come_again_or_lead_nowhere_end_the_reading(tokens: list[Any]) -> None:
    pages = Paging("alpaca", "orders")
    for token in tokens[:-1]:
        pages.turn(token)
    with pytest.raises(UnreadableReply, match="no end"):
        pages.turn(tokens[-1])


def test_a_listing_has_a_largest_number_of_pages() -> None:
    pages = Paging("alpaca", "orders", most=3)
    for token in "abc":
        assert pages.turn(token) == token
    with pytest.raises(UnreadableReply, match="after 3 pages"):
        pages.turn("d")
