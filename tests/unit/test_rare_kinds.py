"""The rarer kinds of orders: what fits together, what travels, and that no broker leaves one of them out in silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.errors import InvalidOrder, Unsupported
from models.kinds import EXTRAS
from models.messages import OrderRequest
from models.record.intake import Intake, body_of, request_of
from models.terms import conflicts
from models.vocabulary import TimeInForce
from tests.unit.test_notional import shown
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.capabilities import Capabilities
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.ibkr.terms import check_listed, check_terms, order_fields
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.brokers.tda.dialects import SCHWAB
from worker.brokers.tda.terms import order_body

TILL = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
#: Kind -> its terms, the fields of IB's order that it makes, and the words that the contract's list must have.
RARE: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "until a date": (
        {"order_type": "limit", "limit_price": 50, "time_in_force": "gtd", "good_till": TILL},
        {"orderType": "LMT", "tif": "GTD", "goodTillDate": f"{TILL:%Y%m%d-%H:%M:%S}"},
        {"LMT", "GTD"},
    ),
    "if touched": (
        {"order_type": "market_if_touched", "stop_price": 45},
        {"orderType": "MIT", "auxPrice": 45.0},
        {"MIT", "DAY"},
    ),
    "limit if touched": (
        {"order_type": "lit", "stop_price": 45, "limit_price": "45.5"},
        {"orderType": "LIT", "auxPrice": 45.0, "lmtPrice": 45.5},
        {"LIT", "DAY"},
    ),
    "trailing stop limit": (
        {"order_type": "trailing_stop_limit", "stop_price": 70, "trail_amount": 2, "limit_offset": "0.5"},
        {"orderType": "TRAIL LIMIT", "auxPrice": 2.0, "trailStopPrice": 70.0, "lmtPriceOffset": 0.5},
        {"TRAILLMT", "DAY"},
    ),
    "iceberg": (
        {"order_type": "limit", "limit_price": 50, "quantity": 100, "display_quantity": 10},
        {"orderType": "LMT", "displaySize": 10},
        {"LMT", "DAY", "ICE"},
    ),
    "hidden": ({"order_type": "limit", "limit_price": 50, "hidden": True}, {"hidden": True}, {"LMT", "DAY", "HID"}),
    "adaptive": (
        {"algo": {"name": "adaptive", "priority": "patient"}},
        {"orderType": "MKT", "algoStrategy": "Adaptive", "algoParams": [("adaptivePriority", "Patient")]},
        {"MKT", "DAY", "ALGO"},
    ),
}
EVERY = pytest.mark.parametrize("kind", list(RARE))


def made(kind: str, **more: Any) -> OrderRequest:
    return OrderRequest(
        **({"symbol": "KO", "side": "buy", "quantity": 10, "client_order_id": "r-1"} | RARE[kind][0] | more)
    )


@EVERY
def test_each_travels_is_kept_and_is_another_order_than_one_without(intake: Intake, kind: str) -> None:
    wanted = made(kind)
    (row,) = intake.record([wanted])
    for again in (request_of(row), OrderRequest(**body_of(row)), OrderRequest(**wanted.to_wire())):
        assert again.body_hash == wanted.body_hash
        assert {name: getattr(again, name) for name in EXTRAS} == {name: getattr(wanted, name) for name in EXTRAS}
    plain = OrderRequest(symbol="KO", side="buy", quantity=wanted.quantity)
    assert wanted.body_hash != plain.body_hash


@EVERY
def test_ib_gets_each_as_its_documents_say_where_the_contract_lists_it(kind: str) -> None:
    wanted = made(kind)
    IbkrBroker.capabilities.check(wanted, "ibkr")
    check_terms(wanted, "r-1", "ibkr")
    fields, listed = order_fields(wanted, "r-1", ""), RARE[kind][2]
    assert {name: fields[name] for name in RARE[kind][1]} == RARE[kind][1]
    check_listed(wanted, frozenset(listed), "ibkr")
    for word in listed:
        with pytest.raises(Unsupported, match=word):
            check_listed(wanted, frozenset(listed - {word} | {"STP"}), "ibkr")


@EVERY
@pytest.mark.parametrize("adapter", [AlpacaBroker, TdaBroker, SchwabBroker])
def test_a_broker_without_it_refuses_it_before_sending(kind: str, adapter: Any) -> None:
    if (kind, adapter) == ("until a date", SchwabBroker):
        adapter.capabilities.check(made(kind), "schwab")
        body = order_body(made(kind), SCHWAB, "schwab")
        assert (body["duration"], body["cancelTime"]) == ("GOOD_TILL_CANCEL", f"{TILL:%Y-%m-%dT%H:%M:%S}+0000")
        assert conflicts(made(kind), shown(time_in_force=TimeInForce.GTC)) == []
        return
    for capabilities in (adapter.capabilities, Capabilities()):
        with pytest.raises(Unsupported):
            capabilities.check(made(kind), "other")


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"time_in_force": "gtd"}, "good_till: time_in_force gtd needs one"),
        ({"good_till": TILL}, "good_till: only time_in_force gtd"),
        ({"time_in_force": "gtd", "good_till": datetime(2026, 1, 5, tzinfo=UTC)}, "good_till: must be after"),
        ({"order_type": "trail_limit", "trail_amount": 1}, "limit_offset: a trail_limit order needs one"),
        ({"order_type": "trail_limit", "limit_offset": 1}, "trail_amount: a trail_limit order needs"),
        ({"order_type": "limit", "limit_price": 5, "limit_offset": 1}, "limit_offset: a limit order takes none"),
        ({"order_type": "if_touched"}, "stop_price: an if_touched order needs one"),
        (
            {"order_type": "if_touched", "stop_price": 1, "limit_price": 1},
            "limit_price: an if_touched order takes none",
        ),
        ({"display_quantity": 1}, "display_quantity: a market order"),
        (
            {"order_type": "limit", "limit_price": 5, "display_quantity": 10},
            "display_quantity: must be whole, and less",
        ),
        ({"order_type": "limit", "limit_price": 5, "display_quantity": 1, "hidden": True}, "hidden: an order shows"),
        ({"order_type": "stop", "stop_price": 5, "hidden": True}, "hidden: a stop order"),
        (
            {"order_type": "stop", "stop_price": 5, "algo": {"name": "adaptive"}},
            "algo: a broker works market and limit",
        ),
        ({"algo": {"priority": "urgent"}}, "algo: needs a name"),
        (
            {"version": 1, "hidden": True, "order_type": "limit", "limit_price": 5},
            "hidden: only an order object of version 2",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_field(terms: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOrder, match=words):
        OrderRequest(**({"symbol": "KO", "side": "buy", "quantity": 10} | terms))


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"algo": {"name": "vwap"}}, "no algo 'vwap'"),
        ({"algo": {"name": "adaptive"}}, "needs priority"),
        ({"algo": {"name": "adaptive", "priority": "yesterday"}}, "was 'yesterday'"),
        ({"algo": {"name": "adaptive", "priority": "urgent", "size": "1"}}, "has no size"),
        ({"order_type": "trail_limit", "trail_amount": 1, "limit_offset": 1}, "needs a stop_price"),
    ],
)
def test_ib_checks_what_it_is_to_be_told(terms: dict[str, Any], words: str) -> None:
    wanted = OrderRequest(**({"symbol": "KO", "side": "buy", "quantity": 10} | terms))
    with pytest.raises(Unsupported, match=words):
        check_terms(wanted, "r-1", "ibkr")


def test_an_order_without_any_is_the_order_that_it_was() -> None:
    terms = {"symbol": "KO", "side": "buy", "quantity": 10, "client_order_id": "r-1"}
    assert OrderRequest(**terms, hidden=False, version=2).body_hash == OrderRequest(**terms).body_hash
    assert not set(EXTRAS) & set(OrderRequest(**terms).to_wire())


@pytest.mark.parametrize(
    "algo",
    [
        {"name": "\0"}, {"name": "adaptive", "priority": "\u202eurgent"}, {"name": "a\nb"}, {"name": "x" * 65},
        {"name": "adaptive", "\x1b[31m": "x"}, {"name": "adaptive", "prio\u200brity": "x"},
        {"name": "Adaptive", "NAME ": "x"},
        {"name": "adaptive"} | {f"k{n}": "x" for n in range(20)}, {"name": "adaptive", "size": 5}, ["adaptive"],
    ],
    ids=repr,
)  # fmt: skip
def test_an_algorithm_is_words_that_every_database_and_log_takes(algo: Any) -> None:
    """A NUL in it would end every query of PostgreSQL that looks into the column."""
    with pytest.raises(InvalidOrder, match="algo"):
        OrderRequest(symbol="KO", side="buy", quantity=1, algo=algo)


def test_case_and_blanks_of_an_algorithm_do_not_count() -> None:
    shouted = OrderRequest(symbol="KO", side="buy", quantity=1, algo={" Name": "ADAPTIVE ", "Priority": " Patient"})
    assert shouted.algo == {"name": "adaptive", "priority": "patient"}
