"""Previews: what each broker says of an order that is not sent, and that none of it is ever an order."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from models.errors import DataError
from models.groups import GroupKind, Membership
from models.lookups import PreviewReport
from models.messages import OrderRequest
from models.vocabulary import TimeInForce
from tests.contract.brokers import EVERY, SDKS, AdapterBench, bench, order
from tests.kit.waiting import eventually
from worker.brokers.ibkr.what_if import read_state, together
from worker.brokers.lookups import previewed

OPTION = "AAPL301220C00200000"


@pytest.fixture(params=EVERY)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AdapterBench]:
    with bench(request.param, tmp_path) as found:
        yield found


def test_a_preview_tells_what_the_broker_tells_and_leaves_nothing_there(desk: AdapterBench) -> None:
    told = previewed(desk.broker, order(quantity=100, order_type="limit", limit_price=50))
    assert (told.supported, told.refused) == (True, None)
    if desk.name == "ibkr":
        assert told.margin_before == 0
        assert told.margin_after == 1250
        assert (told.commission, told.currency) == (1, "USD")
    elif desk.kind == "schwab":
        assert (told.margin_after, told.commission, told.currency) == (None, 0, "USD")
    else:
        assert told == PreviewReport()
    assert desk.orders() == []
    assert list(desk.broker.get_orders(open_only=False)) == []
    assert desk.reports == []


def test_what_a_broker_takes_in_no_form_is_no_failure(desk: AdapterBench) -> None:
    told = previewed(desk.broker, order(quantity="1.5", order_type="limit", limit_price=50, time_in_force="gtc"))
    assert told.supported is False
    assert told.refused is not None
    assert told.refused.startswith(f"{desk.name} takes ")


def test_what_the_broker_would_refuse_is_told_in_its_words(desk: AdapterBench) -> None:
    told = previewed(desk.broker, order(quantity=100_000_000, order_type="limit", limit_price=50))
    words = {"ibkr": "201", "schwab": "You do not have enough available cash"}
    assert (told.refused is None) == (desk.name not in words)
    assert words.get(desk.name, "") in (told.refused or "")
    assert told.supported is True
    assert desk.orders() == []


def test_schwab_tells_commission_and_fees_of_options_together(tmp_path: Path) -> None:
    with bench("schwab", tmp_path) as desk:
        told = previewed(desk.broker, order(OPTION, quantity=2, order_type="limit", limit_price="1.50"))
    assert told.commission == Decimal("1.34")


@pytest.mark.parametrize("sdk", SDKS)
def test_an_order_after_a_preview_is_an_order_of_its_own(sdk: str, tmp_path: Path) -> None:
    with bench(sdk, tmp_path) as desk:
        wanted = order(order_type="limit", limit_price=1)
        previewed(desk.broker, wanted)
        ref = desk.place(wanted)
        previewed(desk.broker, wanted)
        (placed,) = desk.orders()
        assert placed.client_order_id == wanted.client_order_id
        found = desk.found(ref)
        assert found is not None
        assert found.broker_order_id == ref.broker_order_id


@pytest.mark.parametrize("sdk", SDKS)
def test_a_what_if_that_tws_takes_for_an_order_is_canceled_and_told(sdk: str, tmp_path: Path) -> None:
    with bench(sdk, tmp_path) as desk:
        desk.fault("what_if_placed", None)
        with pytest.raises(DataError, match="for an order"):
            desk.broker.preview_order(order(order_type="limit", limit_price=1))
        eventually(lambda: [one.state for one in desk.orders()] == ["canceled"])


def test_what_ibs_answer_leaves_open_stays_open() -> None:
    class WhatIfState:
        initMarginBefore, initMarginAfter, warningText = "100.5", "1.7976931348623157E308", "Your order is odd"
        commission, minCommission, maxCommission = 1.7976931348623157e308, 1.0, 2.5
        commissionCurrency = "CAD"

    told = read_state(WhatIfState(), None)  # type: ignore[arg-type]
    assert (told.margin_before, told.margin_after) == (Decimal("100.5"), None)
    assert (told.commission, told.currency) == (Decimal("2.5"), "CAD")
    assert told.warnings == ("Your order is odd", "commission: 2.5 at most, 1 at least")
    in_dollars = read_state(WhatIfState(), "USD")  # type: ignore[arg-type]
    assert (in_dollars.commission, in_dollars.currency) == (None, "USD")
    assert in_dollars.warnings[-1] == "commission: 2.5 CAD, while margins are in USD"


# -- GROUPS AND PACKAGES ---
def bracket(**entry: object) -> list[OrderRequest]:
    lead = order(**{"quantity": 100, "order_type": "limit", "limit_price": 50, **entry})
    same = {"symbol": lead.symbol, "quantity": lead.quantity, "side": "sell"}
    exits = [order(**same, order_type="limit", limit_price=60), order(**same, order_type="stop", stop_price=40)]
    legs = zip(("entry", "take_profit", "stop_loss"), (lead, *exits), strict=True)
    return [
        one.model_copy(update={"group": Membership(lead.client_order_id, GroupKind.BRACKET, leg), "version": 2})
        for leg, one in legs
    ]


def test_a_group_is_previewed_as_one_and_leaves_nothing_there(desk: AdapterBench) -> None:
    told = previewed(desk.broker, *bracket())
    assert (told.supported, told.refused) == (True, None)
    if desk.name == "ibkr":
        assert told.margin_after == 1250, "the entry's: its exits close"
        assert told.commission == 2, "of the entry and one exit"
        assert "each leg by itself" in told.warnings[-1]
    elif desk.kind == "schwab":
        assert (told.commission, told.currency) == (0, "USD")
    else:
        assert told == PreviewReport()
    poor = previewed(desk.broker, *bracket(quantity=100_000_000))
    assert (poor.refused is None) == (desk.name not in ("ibkr", "schwab"))
    unlinked = previewed(desk.broker, *(one.model_copy(update={"time_in_force": TimeInForce.IOC}) for one in bracket()))
    assert unlinked.supported is False
    assert unlinked.refused is not None
    assert "ioc" in unlinked.refused or "day or gtc" in unlinked.refused
    assert desk.orders() == []
    assert desk.reports == []


@pytest.mark.parametrize(
    ("kind", "refused", "margin"),
    [(GroupKind.OTO, None, 100), (GroupKind.OCO, "second, asked by itself: 201 no", None)],
)
def test_of_orders_that_exclude_each_other_no_refusal_is_taken(
    kind: GroupKind, refused: str | None, margin: int | None
) -> None:
    legs = [order().model_copy(update={"group": Membership("g", kind, leg)}) for leg in ("first", "second")]
    taken = PreviewReport(margin_after=Decimal(100))
    told = together(legs, [taken, PreviewReport(refused="201 no")])
    assert (told.refused, told.margin_after) == (refused, margin)
    assert ("second, asked by itself: 201 no" in told.warnings) == (refused is None)
    dearer = together(legs, [taken, PreviewReport(margin_after=Decimal(150))])
    assert (dearer.refused, dearer.margin_after) == (None, 150 if kind is GroupKind.OCO else 100)


@pytest.mark.parametrize("name", [*SDKS, "schwab"])
def test_a_package_is_previewed_at_its_net_price(name: str, tmp_path: Path) -> None:
    legs = [
        {"symbol": symbol, "side": side, "ratio": 1, "position_effect": "open"}
        for symbol, side in ((OPTION, "buy"), ("AAPL301220C00210000", "sell"))
    ]
    with bench(name, tmp_path) as desk:
        told = previewed(desk.broker, order("AAPL", quantity=2, legs=legs, order_type="limit", limit_price="2.00"))
        assert (told.supported, told.refused) == (True, None)
        if desk.name == "ibkr":
            assert told.margin_after == 100, "a quarter of 2 x 100 x 2.00"
        assert told.commission is not None
        assert desk.orders() == []
