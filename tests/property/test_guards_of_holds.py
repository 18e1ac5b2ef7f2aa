"""Held orders: no claim sees them; they are released by time, by the exchange's calendar, and by a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import InvalidOrder, InvalidRequest
from models.lifecycle import Fact
from models.lookups import InstrumentReport
from models.messages import OrderRequest
from models.record.batch import OrderBatch
from models.record.instruments import keep_instruments
from models.record.order import cancel
from models.record.tables import control_events, fetches, orders
from models.trading_hours import TradingHours
from models.vocabulary import AssetClass
from tests.property.scenario import KEEPS, Scenario
from tests.property.test_guards_of_limits import limit
from worker.orders import releases
from worker.orders.releases import Releases

#: A Monday before the bell, and the scenario's clock: it stands at half past two in the afternoon UTC, at the bell.
BELL = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


class RingingClient:
    """As much of a client as an approval asks."""

    def __init__(self, at: Scenario) -> None:
        self.settings, self.database, self.rung = at.world.settings, at.world.database, list[str]()

    def ring(self, effects: Any) -> None:
        self.rung += [id_ for ids in effects.rings.values() for id_ in ids]


def look(at: Scenario) -> None:
    process = at.worker[KEEPS]
    Releases(at.world.settings, at.world.database, process.desk.batches).look()


def held(at: Scenario, **terms: Any) -> str:
    id_ = at.order(KEEPS, **terms)
    assert at.status(id_) == "held"
    at.work(KEEPS, id_)
    assert at.at_brokers() == []
    return id_


def left_s(at: Scenario, id_: str) -> float:
    return float((at.row(id_)["expires_at"] - at.world.clock.now()).total_seconds())


# -- NOT BEFORE ---
def test_an_order_is_held_until_its_moment_and_lives_from_then_on(at: Scenario) -> None:
    id_ = held(at, not_before=at.world.clock.later(3600))
    at.world.pass_time(3590)
    look(at)
    assert at.status(id_) == "held"
    at.world.pass_time(11)
    look(at)
    assert at.status(id_) == "queued"
    assert at.kinds(id_) == ["held", "released"]
    assert 59 < left_s(at, id_) <= 60
    at.work(KEEPS, id_)
    assert at.at_brokers() == [KEEPS]


def test_the_ceiling_of_a_life_counts_from_the_release(at: Scenario) -> None:
    tomorrow = at.world.clock.later(30 * 3600)
    id_ = held(at, not_before=tomorrow, expires_at=tomorrow + timedelta(minutes=30))
    at.world.pass_time(30 * 3600 + 1)
    look(at)
    assert 29 * 60 < left_s(at, id_) <= 30 * 60
    with pytest.raises(InvalidOrder, match="not_before"):
        at.order(KEEPS, not_before=at.world.clock.later(8 * 86_400))


def test_a_moment_that_is_over_holds_nothing(at: Scenario) -> None:
    id_ = at.order(KEEPS, not_before=at.world.clock.now() - timedelta(seconds=5))
    at.work(KEEPS, id_)
    assert at.at_brokers() == [KEEPS]


def test_a_held_order_can_be_canceled(at: Scenario) -> None:
    id_ = held(at, not_before=at.world.clock.later(3600))
    with at.world.database.write() as connection:
        batch = OrderBatch.open(connection, [id_], at.world.clock.now())
        cancel(batch[id_])
        batch.write()
    at.world.pass_time(3601)
    look(at)
    assert at.status(id_) == "canceled"


# -- SESSION ---
def test_an_order_for_the_regular_session_waits_for_the_bell(at: Scenario) -> None:
    at.world.clock.advance(-3600)  # half past eight in New York
    id_ = held(at, session="regular")
    look(at)
    assert at.status(id_) == "held"
    assert at.row(id_)["available_at"] == BELL
    assert "opens at 2026-01-05 14:30 UTC" in at.row(id_)["reason"]
    at.world.pass_time(3601)
    look(at)
    assert at.status(id_) == "queued"
    assert 59 < left_s(at, id_) <= 60


def test_in_the_session_it_is_released_at_once(at: Scenario) -> None:
    id_ = held(at, session="regular")
    look(at)
    at.work(KEEPS, id_)
    assert at.at_brokers() == [KEEPS]


def test_the_session_is_that_of_the_instrument(at: Scenario) -> None:
    at.world.clock.advance(-3600)
    coin = held(at, session="regular", symbol="BTC/USD", asset_class="crypto")
    corn = held(at, session="regular", symbol="ZCH26@CBOT", asset_class="future")
    look(at)
    assert at.status(coin) == "queued"
    assert at.status(corn) == "held", "nobody has told when it trades"
    (asked,) = at.world.rows(fetches)
    assert (asked["kind"], asked["broker"], asked["request"]) == (
        "instruments", KEEPS, {"query": "ZCH26@CBOT", "asset_class": "future"},
    )  # fmt: skip
    now = at.world.clock.now()
    told = TradingHours(since=now, until=now + timedelta(days=1), regular=((BELL, BELL + timedelta(hours=4)),))
    report = InstrumentReport(
        symbol="ZCH26@CBOT", asset_class=AssetClass.FUTURE, underlying="ZC", currency="USD", hours=told
    )
    with at.world.database.write() as connection:
        keep_instruments(connection, KEEPS, [report], now)
    at.world.pass_time(61)
    look(at)
    assert at.row(corn)["available_at"] == BELL
    at.world.pass_time(3600)
    look(at)
    assert at.status(corn) == "queued"
    assert at.kinds(corn) == ["held", "held", "held", "released"]


# -- THE LIMIT `session` ---
CORN = {"symbol": "ZCH26@CBOT", "asset_class": "future"}


def test_where_nobody_knows_the_hours_the_broker_is_asked_and_the_order_waits_for_the_answer(at: Scenario) -> None:
    limit(at, "session", "regular")
    place = at.worker[KEEPS].desk.place
    place.capabilities = replace(place.capabilities, asset_classes=frozenset(AssetClass))
    told, untold = at.order(KEEPS, **CORN), at.order(KEEPS, symbol="ZWH26@CBOT", asset_class="future")
    at.work(KEEPS, told, untold)
    assert [(at.status(id_), at.row(id_)["reason_code"]) for id_ in (told, untold)] == [("queued", "session")] * 2
    assert at.row(told)["reason"] == f"waits: {KEEPS} is asked when ZCH26@CBOT trades"
    asked = [(row["broker"], row["request"]["query"]) for row in at.world.rows(fetches)]
    assert sorted(asked) == [(KEEPS, "ZCH26@CBOT"), (KEEPS, "ZWH26@CBOT")]
    now = at.world.clock.now()
    hours = TradingHours(since=now, until=now + timedelta(days=1), regular=((now, now + timedelta(hours=1)),))
    corn = InstrumentReport(
        symbol="ZCH26@CBOT", asset_class=AssetClass.FUTURE, underlying="ZC", currency="USD", hours=hours
    )
    with at.world.database.write() as connection:
        keep_instruments(connection, KEEPS, [corn], now)
    at.world.pass_time(11)
    at.work(KEEPS, told, untold)
    assert (at.status(told), at.row(told)["reason"]) == ("accepted", None)
    assert (at.status(untold), at.row(untold)["reason_code"]) == ("denied", "session")
    assert at.row(untold)["reason"].startswith("the hours of ZWH26@CBOT are not known")


def test_a_package_of_options_does_not_go_out_after_hours(at: Scenario) -> None:
    limit(at, "session", "extended")
    at.world.clock.advance(-3600)  # half past eight in New York
    legs = [{"symbol": f"KO280121C000{strike}000", "side": side} for strike, side in ((60, "buy"), (65, "sell"))]
    share, package = at.order(KEEPS), at.order(KEEPS, legs=legs)
    at.work(KEEPS, share, package)
    assert at.status(share) == "accepted"
    assert (at.status(package), at.row(package)["reason_code"]) == ("denied", "session")


# -- APPROVAL ---
def test_an_order_of_more_value_waits_for_somebody(at: Scenario) -> None:
    limit(at, "approve_above_value", "1000")
    small = at.order(KEEPS, order_type="limit", limit_price="100")
    assert at.status(small) == "queued"
    id_ = held(at, order_type="limit", limit_price="100.01")
    at.world.pass_time(86_400)
    look(at)
    assert at.status(id_) == "held"
    client: Any = RingingClient(at)
    releases.approve(client, id_, by="ann", reason="looks right")
    assert client.rung == [id_]
    assert at.kinds(id_) == ["held", "approved", "released"]
    at.work(KEEPS, id_)
    assert at.status(id_) == "accepted"
    (act,) = at.world.rows(control_events)
    assert (act["kind"], act["scope_kind"], act["scope"], act["by"]) == ("approve", "order", id_, "ann")


def test_an_order_whose_value_nobody_knows_waits_too_and_one_that_closes_does_not(at: Scenario) -> None:
    limit(at, "approve_above_value", "1000")
    held(at)
    assert at.status(at.order(KEEPS, side="sell")) == "queued"


def test_an_approval_is_of_the_terms_that_were_approved(at: Scenario) -> None:
    limit(at, "approve_above_value", "1000")
    id_, small = held(at, order_type="limit", limit_price="101"), at.order(KEEPS, order_type="limit", limit_price="100")
    releases.approve(RingingClient(at), id_, by="ann")  # type: ignore[arg-type]
    at.work(KEEPS, small)
    with pytest.raises(InvalidOrder, match="somebody has to approve it, on the terms it has"):
        at.wish(id_, quantity=500)
    at.wish(id_, limit_price="100.5")  # still of more value than passes without a word
    at.wish(small, quantity=11)
    at.work(KEEPS, id_)
    at.replace(KEEPS)
    assert (at.status(id_), at.row(id_)["limit_price"]) == ("accepted", Decimal("100.5"))
    assert (at.status(small), at.row(small)["quantity"]) == ("accepted", 10)
    assert at.kinds(small)[-1] == "replace_refused"


def test_what_is_not_approved_is_denied(at: Scenario) -> None:
    limit(at, "approve_above_value", "1")
    id_, client = held(at), RingingClient(at)
    releases.deny(client, id_, by="ann", reason="too much")  # type: ignore[arg-type]
    assert (at.status(id_), at.row(id_)["reason_code"]) == ("denied", "not_approved")
    assert at.row(id_)["reason"] == "not approved by ann: too much"
    with pytest.raises(InvalidRequest, match="is not held for approval: it is denied"):
        releases.approve(client, id_, by="ann")  # type: ignore[arg-type]
    assert [row["kind"] for row in at.world.rows(control_events)] == ["deny"]


def test_an_approved_order_may_still_have_to_wait_for_its_moment(at: Scenario) -> None:
    limit(at, "approve_above_value", "1")
    id_, client = held(at, not_before=at.world.clock.later(60)), RingingClient(at)
    releases.approve(client, id_, by="ann")  # type: ignore[arg-type]
    look(at)
    assert (at.status(id_), client.rung) == ("held", [])
    at.world.pass_time(61)
    look(at)
    assert at.status(id_) == "queued"


def test_nobody_approves_for_a_week(at: Scenario) -> None:
    limit(at, "approve_above_value", "1")
    id_ = held(at)
    at.world.pass_time(7 * 86_400 + 1)
    look(at)
    assert at.status(id_) == "expired"
    assert at.kinds(id_)[-1] == Fact.EXPIRED


# -- THE ORDER OBJECT ---
def test_version_1_has_neither_field_and_goes_on_as_it_was() -> None:
    plain = OrderRequest(symbol="KO", side="buy", quantity=1)
    assert plain.version == 1
    assert {"not_before", "session"}.isdisjoint(plain.to_wire())
    later = OrderRequest(symbol="KO", side="buy", quantity=1, session="regular")
    assert later.version == 2
    assert later.to_wire()["session"] == "regular"
    assert later.body_hash != plain.body_hash
    assert OrderRequest(**later.to_wire()).body_hash == later.body_hash
    with pytest.raises(InvalidOrder, match="only an order object of version 2 has it"):
        OrderRequest(symbol="KO", side="buy", quantity=1, session="regular", version=1)


def test_a_held_order_that_comes_again_is_the_same(at: Scenario) -> None:
    request = OrderRequest(
        client_order_id="one", symbol="KO", side="buy", quantity=1, session="regular",
        not_before=at.world.clock.later(60), created_at=at.world.clock.now(),
    )  # fmt: skip
    at.world.submit(request)
    at.worker[KEEPS].desk.place.submit([request.to_wire()])
    assert [row["client_order_id"] for row in at.world.rows(orders)] == ["one"]
    assert at.kinds("one") == ["held"]
