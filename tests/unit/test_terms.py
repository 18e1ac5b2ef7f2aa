"""An order is ours by our id and our terms: the pure comparison, and every place where an id leads to an order."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from models.messages import OrderRequest, utcnow
from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.evidence import unresolved
from models.record.tables import attempts, external_orders, fills, orders
from models.reports import Ambiguous, BrokerStatus, FillReport, Found, Missing, OrderReport, Sighting
from models.settings import Settings
from models.terms import contradictions
from models.vocabulary import OrderType, Side, TimeInForce
from tests.unit.look_scene import LookScene
from tests.unit.words import NOW, Put
from worker.orders.absence import proven
from worker.orders.record import Recorder
from worker.positions.external import External

D = Decimal


def request(**changes: Any) -> OrderRequest:
    terms = {"symbol": "PEP", "side": "buy", "quantity": 10, "order_type": "limit", "limit_price": 150}
    return OrderRequest(**terms | changes)


def shown(**changes: Any) -> OrderReport:
    """The order of `request`, as a broker shows it."""
    terms: dict[str, Any] = {
        "broker_order_id": "7", "status": BrokerStatus.ACCEPTED, "symbol": "PEP", "side": Side.BUY, "quantity": D(10),
        "order_type": OrderType.LIMIT, "limit_price": D("150.00"), "time_in_force": TimeInForce.DAY,
    }  # fmt: skip
    return OrderReport(**terms | changes)


# -- THE COMPARISON ---
def test_an_order_with_the_same_terms_is_not_contradicted() -> None:
    assert contradictions(request(), shown()) == []


def test_what_no_order_of_ours_has_contradicts_whatever_the_terms() -> None:
    assert contradictions(request(), shown(unlike_ours=("notional 500",))) == ["notional 500"]


def test_an_order_that_was_there_before_ours_was_made_is_not_ours_whatever_its_terms() -> None:
    """Last month's, under an id that a strategy uses again with a new database."""
    ours = request()
    assert contradictions(ours, shown(submitted_at=ours.created_at - timedelta(days=30))) != []
    assert contradictions(ours, shown(submitted_at=ours.created_at - timedelta(minutes=1))) == []
    assert contradictions(ours, shown(submitted_at=ours.created_at + timedelta(days=3))) == []


@pytest.mark.parametrize(
    ("term", "theirs"),
    [
        ("symbol", "KO"), ("symbol", "STK:PEP@TSE.CAD"), ("side", Side.SELL), ("side", Side.SELL_SHORT),
        ("quantity", D(99)), ("order_type", OrderType.MARKET), ("limit_price", D(151)),
        ("time_in_force", TimeInForce.GTC),
    ],
)  # fmt: skip
def test_each_term_contradicts_and_is_named(term: str, theirs: Any) -> None:
    (words,) = contradictions(request(), shown(**{term: theirs}))
    assert words.startswith(f"{term} {theirs} instead of")
    needed = term in ("symbol", "side")  # without them an id would be all there is; no other term has to be shown
    assert contradictions(request(), shown(**{term: None})) == ([f"{term} is not shown"] if needed else [])


@pytest.mark.parametrize(("ours", "theirs"), [
    ("sell_short", Side.SELL), ("buy_to_cover", Side.BUY), ("sell_short", Side.SELL_SHORT), ("sell", Side.SELL_SHORT),
])  # fmt: skip
def test_a_short_sale_is_a_sell_on_the_wire_of_many_brokers(ours: str, theirs: Side) -> None:
    assert contradictions(request(side=ours), shown(side=theirs)) == []


def test_a_class_of_shares_may_be_written_with_another_sign() -> None:
    assert contradictions(request(symbol="BRK.B"), shown(symbol="BRK/B")) == []
    assert contradictions(request(symbol="BRK.B"), shown(symbol="BRK.A")) != []


def test_a_trailing_stop_moves_its_stop_price_and_keeps_its_trail() -> None:
    ours = request(order_type="trailing_stop", limit_price=None, trail_amount=2)
    theirs = {"order_type": OrderType.TRAILING_STOP, "limit_price": None, "stop_price": D(148)}
    assert contradictions(ours, shown(**theirs, trail_amount=D(2))) == []
    assert contradictions(ours, shown(**theirs, trail_amount=D(3))) != []


def test_a_stop_that_trails_by_percent_is_none_that_trails_by_money() -> None:
    theirs: dict[str, Any] = {"order_type": OrderType.TRAILING_STOP, "limit_price": None}
    for mine, other in (("trail_amount", "trail_percent"), ("trail_percent", "trail_amount")):
        ours = request(order_type="trailing_stop", limit_price=None, **{mine: 2})
        assert contradictions(ours, shown(**theirs, **{other: D(2)})) == [f"{other} 2 instead of {mine} 2"]
        assert contradictions(ours, shown(**theirs, **{mine: D(2)})) == contradictions(ours, shown(**theirs)) == []


def test_a_listing_in_another_currency_is_another_order() -> None:
    ours = request(symbol="SHOP@TSE", asset_class="equity", currency="CAD")
    assert contradictions(ours, shown(symbol="SHOP@TSE", currency="CAD")) == []
    assert contradictions(ours, shown(symbol="SHOP@TSE", currency="USD")) == ["currency USD instead of CAD"]


def test_a_broker_may_rewrite_what_it_documents_and_nothing_else() -> None:
    rewrites = {"time_in_force": frozenset({"day"})}
    assert contradictions(request(time_in_force="gtc"), shown(), rewrites=rewrites) == []
    assert contradictions(request(), shown(time_in_force=TimeInForce.GTC), rewrites=rewrites) != []


def test_an_order_made_in_place_of_ours_trades_what_ours_had_left() -> None:
    assert contradictions(request(), shown(quantity=D(6)), is_heir=True) == []
    assert contradictions(request(), shown(quantity=D(6))) != []
    assert contradictions(request(), shown(quantity=D(11)), is_heir=True) != []


# -- FOUND ---
@pytest.mark.parametrize("sighting", [Missing(evidence="all"), Ambiguous(candidates=()), Found(report=shown())])
def test_only_an_order_that_is_found_on_other_terms_becomes_ambiguous(sighting: Sighting) -> None:
    assert proven(sighting, []) is sighting
    assert isinstance(proven(sighting, ["side sell instead of buy"]), Ambiguous) != isinstance(sighting, Missing)


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "PEP", "status": BrokerStatus.FILLED, "filled_quantity": D(3)},
        {"side": Side.SELL, "quantity": D(99)},
    ],
    ids=["last month's, filled", "a stranger's, live"],
)
def test_an_order_that_has_our_id_and_other_terms_waits_for_a_person(
    database: Database, settings: Settings, other: dict[str, Any]
) -> None:
    scene = LookScene(database, settings)  # buy 3 KO, limit 60
    terms = {"symbol": "KO", "quantity": D(3), "limit_price": D(60), "broker_client_order_id": "o1"}
    scene.paper.answer = Found(report=shown(**terms | other))
    for _ in range(3):
        scene.look()
    assert scene.attempt["outcome"] == "unknown"
    (row,) = unresolved(database, 10.0)
    ours, (theirs,) = row["sent"], row["answers"]["ambiguous"]["candidates"]
    assert (ours["symbol"], ours["side"], ours["quantity"]) == ("KO", "buy", 3)
    expected = {"side": Side.BUY} | terms | other
    assert [theirs[name] for name in ("symbol", "side", "quantity")] == [
        str(expected[name]) for name in ("symbol", "side", "quantity")
    ]
    assert "carries our id, but not our terms" in row["latest"]
    assert scene.attempt["outcome"] == "unknown"
    with database.read() as connection:
        order = connection.execute(select(orders)).mappings().one()
    assert (order["status"], order["filled_quantity"]) == ("submitted", 0)

    scene.paper.answer = Found(report=shown(**terms))
    scene.look()
    assert scene.attempt["outcome"] == "accepted"


# -- PUSHED AND LISTED ---
def told(database: Database, settings: Settings, *reports: Any) -> Effects:
    with database.write() as connection:
        return Recorder(settings, "ibkr", dedupes=False).updates(connection, reports, utcnow(), infer=True)


def execution(**changes: Any) -> FillReport:
    values: dict[str, Any] = {
        "execution_id": "e1", "quantity": D(4), "price": D(100), "filled_at": NOW, "symbol": "AAPL", "side": Side.BUY,
        "broker_client_order_id": "o-1", "broker_order_id": "7",
    }  # fmt: skip
    return FillReport(**values | changes)


@pytest.mark.parametrize("other", [{"symbol": "KO"}, {"side": Side.SELL}, {"symbol": "STK:AAPL@FWB.EUR"}])
@pytest.mark.parametrize("outcome", ["sending", "unknown", "accepted", "absent"])
def test_a_fill_of_another_symbol_or_side_is_not_booked_whatever_id_it_carries(
    database: Database, settings: Settings, put: Put, other: dict[str, Any], outcome: str
) -> None:
    put(attempt={"outcome": outcome, "broker_order_id": "7"})
    strange = execution(**other)
    after = told(database, settings, strange)
    assert (after.unmatched, after.strays) == ([strange], [])
    with database.read() as connection:
        assert connection.execute(select(fills)).all() == []
        assert connection.execute(select(attempts.c.outcome)).scalar() == outcome
    External(database, "ibkr").note([strange])
    with database.read() as connection:  # a position moved, so it is told as somebody else's
        assert connection.execute(select(external_orders.c.broker_order_id)).scalar() == "7"
    told(database, settings, execution())
    with database.read() as connection:
        assert connection.execute(select(fills.c.quantity)).scalar() == 4


@pytest.mark.parametrize("outcome", ["sending", "unknown", "accepted"])
def test_an_execution_of_another_connection_is_not_ours_whatever_id_it_carries(
    database: Database, settings: Settings, put: Put, outcome: str
) -> None:
    """IB: somebody's program uses our orderRef under another client id, even on the very same terms."""
    put(attempt={"outcome": outcome, "session": "1"})
    terms: dict[str, Any] = {"symbol": "AAPL", "order_type": OrderType.MARKET, "limit_price": None, "session": "9"}
    strange: list[Any] = [execution(session="9"), shown(**terms, broker_client_order_id="o-1", broker_order_id="8")]
    assert told(database, settings, *strange).unmatched == strange
    External(database, "ibkr").note(strange)
    with database.read() as connection:
        assert connection.execute(select(fills)).all() == []
        assert set(connection.execute(select(external_orders.c.broker_order_id)).scalars()) == {"7", "8"}
    told(database, settings, shown(**terms | {"session": "1"}, broker_client_order_id="o-1"), execution(session="1"))
    with database.read() as connection:
        assert connection.execute(select(fills.c.quantity)).scalar() == 4


@pytest.mark.parametrize("status", [BrokerStatus.ACCEPTED, BrokerStatus.FILLED, BrokerStatus.CANCELED])
@pytest.mark.parametrize("outcome", ["sending", "unknown", "absent", "not_sent", "refused"])
def test_a_stranger_under_our_id_neither_fills_nor_cancels_our_order(
    database: Database, settings: Settings, put: Put, outcome: str, status: BrokerStatus
) -> None:
    put(attempt={"outcome": outcome})  # buy 10 AAPL at the market
    strange = shown(symbol="AAPL", quantity=D(99), status=status, filled_quantity=D(99), broker_client_order_id="o-1")
    after = told(database, settings, strange)
    assert (after.unmatched, after.strays) == ([strange], [])
    with database.read() as connection:
        order = connection.execute(select(orders)).mappings().one()
        assert connection.execute(select(attempts.c.outcome)).scalar() == outcome
    assert (order["status"], order["filled_quantity"]) == ("submitted", 0)


@pytest.mark.parametrize("outcome", ["sending", "unknown", "absent", "not_sent", "refused"])
def test_an_execution_counts_once_its_order_has_shown_our_terms_and_not_before(
    database: Database, settings: Settings, put: Put, outcome: str
) -> None:
    """The stream of a stranger's order under our id told of an order of 99, and then of its execution."""
    put(attempt={"outcome": outcome})
    names = {"symbol": "AAPL", "broker_client_order_id": "o-1"}
    stranger = shown(**names, quantity=D(99), status=BrokerStatus.FILLED, filled_quantity=D(99))
    theirs = execution(quantity=D(99))
    assert told(database, settings, stranger, theirs).unmatched == [stranger, theirs]
    assert told(database, settings, theirs).unmatched == [theirs]  # alone it shows no terms at all
    with database.read() as connection:
        assert connection.execute(select(orders.c.filled_quantity)).scalar() == 0
        assert connection.execute(select(attempts.c.outcome)).scalar() == outcome
    market = {"order_type": OrderType.MARKET, "limit_price": None}
    ours = shown(**names, **market, broker_order_id="8", status=BrokerStatus.PARTIALLY_FILLED, filled_quantity=D(4))
    mine = execution(execution_id="e2", broker_order_id="8")
    assert told(database, settings, mine, ours).unmatched == []  # an execution may come first in a listing
    with database.read() as connection:
        assert connection.execute(select(orders.c.filled_quantity)).scalar() == 4


def test_an_order_that_somebody_changed_at_its_broker_is_still_ours(
    database: Database, settings: Settings, put: Put
) -> None:
    """The broker confirmed it under this id: a person who makes it smaller in TWS does not make it a stranger's."""
    put(status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"})
    smaller = shown(symbol="AAPL", quantity=D(5), status=BrokerStatus.CANCELED, broker_client_order_id="o-1")
    assert told(database, settings, smaller).unmatched == []
    with database.read() as connection:
        assert connection.execute(select(orders.c.status)).scalar() == "canceled"


# -- ANSWERED ---
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"symbol": "KO"}, "symbol KO"), ({"side": Side.SELL}, "side sell"), ({"quantity": D(99)}, "quantity 99"),
        ({"order_type": OrderType.LIMIT}, "order_type limit"),
        ({"time_in_force": TimeInForce.GTC}, "time_in_force gtc"),
        ({"session": "9"}, "session 9"), ({"submitted_at": NOW - timedelta(days=30)}, "submitted_at"),
    ],
)  # fmt: skip
def test_an_answer_about_another_order_settles_nothing(
    database: Database, settings: Settings, put: Put, wrong: dict[str, Any], words: str
) -> None:
    put(attempt={"session": "1"})  # buy 10 AAPL at the market
    with database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], utcnow())
        ours: dict[str, Any] = {"symbol": "AAPL", "order_type": OrderType.MARKET, "limit_price": None}
        answer = shown(**ours | wrong)
        Recorder(settings, "ibkr", dedupes=False).settle(batch["o-1"], 1, answer)
        batch.write()
    with database.read() as connection:
        row = connection.execute(select(attempts)).mappings().one()
    assert (row["outcome"], row["broker_order_id"]) == ("unknown", None)
    assert words in row["message"]
