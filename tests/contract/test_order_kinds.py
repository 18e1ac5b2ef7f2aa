"""Every kind of order at every broker, against its door: what the market got must be what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import Unsupported
from models.messages import OrderRequest, utcnow
from models.reports import BrokerStatus
from models.terms import contradictions
from models.vocabulary import OrderType, Side, TimeInForce, signed
from tests.contract.brokers import EVERY, NEW_ORDER, SDKS, AdapterBench, a_ref, a_ticket, bench, order
from tests.kit.waiting import eventually
from worker.brokers.base import Ticket
from worker.brokers.tda.dialects import SCHWAB, TDA
from worker.brokers.tda.terms import order_body

#: Prices that keep an order from being filled, whatever its side is.
TERMS: dict[str, dict[str, Any]] = {
    "market": {},
    "limit": {"limit_price": "1.05"},
    "stop": {"stop_price": "900.5"},
    "stop_limit": {"stop_price": "900.5", "limit_price": "901.25"},
    "trail_amount": {"order_type": "trailing_stop", "trail_amount": "2.25"},
    "trail_percent": {"order_type": "trailing_stop", "trail_percent": "1.5"},
    "if_touched": {"stop_price": "1.5"},
    "limit_if_touched": {"stop_price": "1.5", "limit_price": "1.75"},
    "trail_limit": {"trail_amount": "2.25", "stop_price": "900.5", "limit_offset": "0.25"},
}
#: Kinds that IB alone has.
RARE = ("if_touched", "limit_if_touched", "trail_limit")
#: What no broker takes with these, or this one does not.
AUCTIONS = ("opg", "cls")
_NOT_TRAILING = ("ioc", "fok")


def a_kind(kind: str, time_in_force: str, **more: Any) -> OrderRequest:
    till = {"good_till": utcnow() + timedelta(days=2)} if time_in_force == "gtd" else {}
    return order(**{"order_type": kind, **TERMS[kind], "time_in_force": time_in_force, **till, **more})


def is_taken(broker: str, kind: str, time_in_force: str) -> bool:
    """Whether the capabilities and the rules of a broker let this combination through."""
    if (kind in RARE and broker != "ibkr") or (time_in_force == "gtd" and broker not in ("ibkr", "schwab")):
        return False
    if time_in_force in AUCTIONS and kind not in ("market", "limit"):
        return False
    if broker == "alpaca" and kind.startswith("trail"):
        return time_in_force in ("day", "gtc")
    if broker == "tda":
        return time_in_force in ("day", "gtc", "fok") or (time_in_force, kind) == ("cls", "market")
    if broker == "ibkr" and time_in_force == "fok":
        return False  # no US stock lists it among its order types: recorded
    return broker != "schwab" or time_in_force not in ("opg", "ioc")


@pytest.fixture(scope="module", params=EVERY)
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdapterBench]:
    with bench(request.param, tmp_path_factory.mktemp("kinds")) as found:
        yield found


@pytest.fixture(autouse=True)
def _calm(desk: AdapterBench) -> Iterator[None]:
    """Nothing fills, and nothing of a test is left for the next."""
    desk.house.hold(desk.name, "AAPL", 1000)
    desk.house.fault(desk.name, "no_fill", None)
    yield
    desk.house.clear()
    for one in desk.live():
        desk.house.call(lambda one=one: desk.house.market.cancel(one))


def only(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("desk", kinds, indirect=True, scope="module")


def placed(desk: AdapterBench, wanted: OrderRequest) -> Any:
    """Place an order and return it as the market has it."""
    before = len(desk.orders())
    report = desk.broker.place_order(desk_ticket(wanted))
    assert (report.symbol, report.order_type, report.time_in_force) == (
        wanted.symbol, wanted.order_type, _shown(desk, wanted),
    )  # fmt: skip
    (got,) = desk.orders()[before:]
    return got


def _shown(desk: AdapterBench, wanted: OrderRequest) -> TimeInForce:
    """Schwab has no word for a date: it is a time beside."""
    as_gtc = wanted.time_in_force is TimeInForce.GTD and desk.name == "schwab"
    return TimeInForce.GTC if as_gtc else wanted.time_in_force


def desk_ticket(wanted: OrderRequest) -> Ticket:
    return a_ticket(wanted, wanted.client_order_id)


@pytest.mark.parametrize("time_in_force", [str(one) for one in TimeInForce])
@pytest.mark.parametrize("kind", list(TERMS))
def test_every_kind_and_time_in_force_arrives_as_meant(desk: AdapterBench, kind: str, time_in_force: str) -> None:
    wanted = a_kind(kind, time_in_force)
    if not is_taken(desk.name, kind, time_in_force):
        with pytest.raises(Unsupported):
            desk.broker.place_order(desk_ticket(wanted))
        return
    got = placed(desk, wanted)
    names = ["order_type", "time_in_force", "limit_price", "trail_amount", "trail_percent", "quantity", "symbol"]
    names += [] if wanted.order_type is OrderType.TRAILING_STOP else ["stop_price"]
    names = [name for name in names if name != "limit_price" or wanted.limit_offset is None]
    assert {name: getattr(got, name) for name in names} == {name: getattr(wanted, name) for name in names}
    assert got.extended_hours is False


@only(*SDKS)
def test_a_future_rests_at_a_limit_below_zero_and_is_ours_on_its_terms(desk: AdapterBench) -> None:
    future = {"symbol": f"MESZ{(utcnow().year + 1) % 100:02d}@CME", "asset_class": "future", "quantity": 1}
    wanted = order(**future, order_type="limit", limit_price="-3.25")
    got = placed(desk, wanted)
    assert got.limit_price == Decimal("-3.25")
    found = eventually(lambda: desk.broker.find_order(a_ref(wanted, wanted.client_order_id)))
    assert (found.report.limit_price, contradictions(wanted, found.report)) == (Decimal("-3.25"), [])


@pytest.mark.parametrize("kind", list(TERMS))
@pytest.mark.parametrize("side", [str(one) for one in Side])
def test_every_side_arrives_as_meant(desk: AdapterBench, kind: str, side: str) -> None:
    if not is_taken(desk.name, kind, "day"):
        pytest.skip(f"{desk.name} has no {kind}")
    desk.house.hold(desk.name, "AAPL", {"buy_to_cover": -1000, "sell": 1000}.get(side, 0))
    got = placed(desk, a_kind(kind, "day", side=side))
    assert got.is_buy is (signed(Side(side)) > 0)
    if desk.name in ("tda", "schwab"):
        assert got.side == side


@pytest.mark.parametrize("time_in_force", ["day", "gtc"])
def test_extended_hours_are_for_limit_orders(desk: AdapterBench, time_in_force: str) -> None:
    wanted = a_kind("limit", time_in_force, extended_hours=True)
    if (desk.name, time_in_force) == ("alpaca", "gtc"):
        with pytest.raises(Unsupported):
            desk.broker.place_order(desk_ticket(wanted))
    else:
        assert placed(desk, wanted).extended_hours is True


@pytest.mark.parametrize("kind", [name for name in TERMS if name != "limit"])
def test_extended_hours_are_refused_for_everything_else(desk: AdapterBench, kind: str) -> None:
    before = len(desk.orders())
    for wanted in (a_kind(kind, "day", extended_hours=True), a_kind("limit", "cls", extended_hours=True)):
        with pytest.raises(Unsupported):
            desk.broker.place_order(desk_ticket(wanted))
    assert len(desk.orders()) == before


def test_fractions_are_for_alpaca_and_the_day(desk: AdapterBench) -> None:
    for kind in ("market", "limit", "stop", "stop_limit"):
        wanted = a_kind(kind, "day", quantity="0.125")
        if desk.name == "alpaca":
            assert placed(desk, wanted).quantity == Decimal("0.125")
    before = len(desk.orders())
    for kind, time_in_force in (("limit", "gtc"), ("trail_amount", "day"), ("market", "cls")):
        with pytest.raises(Unsupported):
            desk.broker.place_order(desk_ticket(a_kind(kind, time_in_force, quantity="0.125")))
    assert len(desk.orders()) == before


@only("alpaca")
def test_a_fraction_keeps_its_size_in_a_replace(desk: AdapterBench) -> None:
    old = desk.place(a_kind("limit", "day", quantity="0.5"))
    with pytest.raises(Unsupported):
        desk.replace(old, quantity="0.75")
    _, report = desk.replace(old, limit_price="1.25")
    assert (report.quantity, report.limit_price) == (Decimal("0.5"), Decimal("1.25"))


# -- SYMBOLS ---
def test_a_class_of_shares_has_one_name_everywhere(desk: AdapterBench) -> None:
    desk.house.hold(desk.name, "BRK.B", 7)
    assert placed(desk, a_kind("limit", "day", symbol="BRK.B")).symbol == "BRK.B"
    assert "BRK.B" in [one.symbol for one in desk.broker.get_orders()]
    assert ("BRK.B", 7) in [(one.symbol, one.quantity) for one in desk.broker.get_positions()]
    assert desk.broker.get_market_data("BRK.B").symbol == "BRK.B"
    now = utcnow()
    assert desk.broker.get_historical_data("BRK.B", "1Day", now - timedelta(days=9), now)


def test_fills_of_a_class_of_shares_carry_that_name(desk: AdapterBench) -> None:
    desk.house.clear()
    began = utcnow() - timedelta(seconds=1)
    desk.broker.place_order(desk_ticket(order("BRK.B", quantity=1)))
    eventually(lambda: "BRK.B" in [fill.symbol for fill in desk.broker.get_fills(began)])


@only(*NEW_ORDER[1:])
def test_the_wire_says_what_the_documents_say(desk: AdapterBench) -> None:
    dialect = {"tda": TDA, "schwab": SCHWAB}[desk.name]
    body = order_body(a_kind("trail_percent", "gtc", side="sell_short", symbol="BRK.B"), dialect, desk.name)
    leg = body["orderLegCollection"][0]
    assert (leg["instruction"], leg["quantity"]) == ("SELL_SHORT", 10)
    assert leg["instrument"]["symbol"] == {"tda": "BRK.B", "schwab": "BRK/B"}[desk.name]
    assert (body["session"], body["duration"], body["orderType"]) == ("NORMAL", "GOOD_TILL_CANCEL", "TRAILING_STOP")
    trail = {name: body[name] for name in ("stopPriceLinkBasis", "stopPriceLinkType", "stopPriceOffset")}
    assert trail == {"stopPriceLinkBasis": "LAST", "stopPriceLinkType": "PERCENT", "stopPriceOffset": 1.5}
    assert order_body(a_kind("limit", "gtc", extended_hours=True), dialect, desk.name)["session"] == "SEAMLESS"


@only(*SDKS)
def test_the_wire_of_ib_says_what_the_documents_say(desk: AdapterBench) -> None:
    def wire(wanted: OrderRequest) -> tuple[Any, ...]:
        placed(desk, wanted)
        request = desk.house.call(lambda: desk.door.desk.all()[-1].request)
        return (request.action, request.order_type, request.tif, request.outside_rth, request.contract.symbol)

    assert wire(a_kind("market", "cls")) == ("BUY", "MOC", "DAY", False, "AAPL")
    assert wire(a_kind("limit", "cls")) == ("BUY", "LOC", "DAY", False, "AAPL")
    assert wire(a_kind("limit", "opg", side="sell_short")) == ("SELL", "LMT", "OPG", False, "AAPL")
    assert wire(a_kind("trail_amount", "gtc", side="buy_to_cover")) == ("BUY", "TRAIL", "GTC", False, "AAPL")
    assert wire(a_kind("limit", "gtc", symbol="BRK.B", extended_hours=True)) == ("BUY", "LMT", "GTC", True, "BRK B")


@only(*SDKS)
def test_the_rarer_terms_arrive_at_ib_and_are_read_again(desk: AdapterBench) -> None:
    def sent(wanted: OrderRequest) -> Any:
        placed(desk, wanted)
        return desk.house.call(lambda: desk.door.desk.all()[-1].request)

    iceberg = a_kind("limit", "day", quantity=100, display_quantity=10)
    patient = a_kind("limit", "day", algo={"name": "adaptive", "priority": "patient"})
    assert sent(iceberg).display_size == 10
    assert sent(a_kind("limit", "day", hidden=True)).hidden is True
    worked = sent(patient)
    assert (worked.algo, worked.algo_params) == ("Adaptive", [["adaptivePriority", "Patient"]])
    for wanted in (iceberg, patient, a_kind("trail_limit", "day"), a_kind("limit", "gtd")):
        if wanted not in (iceberg, patient):
            placed(desk, wanted)
        found = desk.broker.find_order(a_ref(wanted, wanted.client_order_id)).report
        assert (contradictions(wanted, found), found.limit_offset) == ([], wanted.limit_offset)


@only("ib_async")
def test_an_order_if_touched_waits_for_a_better_price_and_one_with_an_end_ends(desk: AdapterBench) -> None:
    desk.house.clear()
    desk.house.price("KO", "60")
    touched = a_kind("if_touched", "day", symbol="KO", stop_price="55", quantity=3)
    desk.broker.place_order(desk_ticket(touched))
    short = a_kind("limit", "gtd", symbol="KO", limit_price="1.05", good_till=utcnow() + timedelta(seconds=3))
    desk.broker.place_order(desk_ticket(short))
    desk.house.price("KO", "54.50")
    last = lambda wanted: desk.broker.find_order(a_ref(wanted, wanted.client_order_id)).report  # noqa: E731
    eventually(lambda: last(touched).filled_quantity == 3)
    eventually(lambda: last(short).status is BrokerStatus.CANCELED)
