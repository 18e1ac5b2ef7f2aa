"""What a real IB Gateway said, through both SDKs into the adapter: what it reports must be what happened.

Recordings of a paper account, server version 200, April 2026, from the public repository ThomasMarcelis/ibkr-go. They
lie outside of this repository; what was learnt from each is in `test_ibkr_wire.py` too, as small inputs of our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from models.errors import NotConnected, NotSent, OrderRejected, SubmitTimeout
from models.messages import OrderRequest
from models.reports import BrokerStatus, CommissionReport, FillReport, Found, OrderReport, Report
from models.settings import BrokerSettings
from models.vocabulary import OrderType
from tests.contract.recordings import Body, PlayingGateway, RecordedStep, playing, recording
from tests.kit.waiting import eventually
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.adapter import IbkrBroker

SDKS = ("ib_insync", "ib_async")
_TYPES = {wire: ours for ours, wire in terms.ORDER_TYPES.items()}


class Playback:
    """A playing gateway, and adapters connected to it."""

    def __init__(self, sdk: str) -> None:
        self.sdk, self._exit = sdk, ExitStack()
        self.told: list[Report] = []
        self.gateway: PlayingGateway

    def play(self, name: str, *observe: str) -> list[RecordedStep]:
        steps = recording(name)
        self.gateway = self._exit.enter_context(playing(steps, frozenset(observe)))
        return steps

    def broker(self, client_id: int = 1, **settings: Any) -> IbkrBroker:
        table = {"port": self.gateway.port, "client_id": client_id, "sdk": self.sdk, "request_timeout": 2}
        broker = IbkrBroker("ibkr", BrokerSettings(adapter="ibkr", **(table | settings)))
        self._exit.callback(broker.disconnect)
        broker.updates(self.told.append)
        broker.connect()
        return broker

    def close(self) -> None:
        self._exit.close()

    # -- WHAT WAS TOLD ---
    def statuses(self, ref: str) -> list[BrokerStatus]:
        return [r.status for r in self.told if isinstance(r, OrderReport) and r.broker_client_order_id == ref]

    def fills(self) -> list[FillReport]:
        return [r for r in self.told if isinstance(r, FillReport)]

    def commissions(self) -> list[CommissionReport]:
        return [r for r in self.told if isinstance(r, CommissionReport)]

    def settled(self, ref: str, status: BrokerStatus) -> OrderReport:
        def last() -> OrderReport | None:
            mine = [r for r in self.told if isinstance(r, OrderReport) and r.broker_client_order_id == ref]
            return mine[-1] if mine and mine[-1].status is status else None

        found = eventually(last)
        assert found is not None
        return found


@pytest.fixture(params=SDKS)
def stage(request: pytest.FixtureRequest) -> Iterator[Playback]:
    found = Playback(request.param)
    yield found
    found.close()


def recorded(steps: list[RecordedStep], what: str) -> list[Body]:
    return [step.body for step in steps if step.what == what]


def order_of(body: Body) -> OrderRequest:
    """Return the order that the recorder's client placed."""
    kind = _TYPES.get(body["order_type"], OrderType.LIMIT)
    prices = {"limit_price": body["lmt_price"]} if body.get("lmt_price") and kind is OrderType.LIMIT else {}
    if body.get("trailing_percent"):
        prices = {"trail_percent": body["trailing_percent"]}
    side, quantity = body["action"].lower(), body["total_quantity"]
    return OrderRequest(
        symbol="AAPL", side=side, quantity=quantity, order_type=kind, time_in_force=body["tif"].lower(), **prices
    )


def place(broker: IbkrBroker, ref: str, order: OrderRequest, deadline_s: float = 4) -> OrderReport:
    return broker.place_order(Ticket(order=order, broker_client_order_id=ref, deadline_s=deadline_s, still_mine=int))


def a_ref(ref: str, order: OrderRequest, broker_order_id: str | None = None) -> OrderRef:
    return OrderRef(order=order, broker_client_order_id=ref, broker_order_id=broker_order_id, sent_at=datetime.now(UTC))


def found(broker: IbkrBroker, ref: str, order: OrderRequest) -> OrderReport:
    sighting = broker.find_order(a_ref(ref, order))
    assert isinstance(sighting, Found), sighting
    return sighting.report


def agrees(body: Body, order: OrderReport) -> None:
    """What the adapter reports has the terms, the ids and the session of the recorded openOrder."""
    assert order.broker_order_id == body["perm_id"]
    assert (order.quantity, order.symbol) == (Decimal(body["quantity"]), "AAPL")
    assert order.time_in_force == body["tif"].lower()
    limited = body["order_type"] == "LMT"
    assert order.limit_price == (Decimal(body["lmt_price"]) if limited else None)


def sent_as_recorded(gateway: PlayingGateway) -> None:
    """What the adapter sent is what the recorder's client sent."""
    for body, request in gateway.sent:
        limit = Decimal(body["lmt_price"]) if body.get("lmt_price") else None
        assert (request.action, str(request.quantity), request.order_type) == (
            body["action"], body["total_quantity"], body["order_type"],
        )  # fmt: skip
        assert (request.limit_price, request.tif, request.transmit) == (limit, body["tif"], True)


# -- FILLS ---
@pytest.mark.parametrize("name", ["place_order_fill_native_execution_time", "api_completed_orders_variants_aapl"])
def test_a_market_order_is_filled_at_what_the_execution_says(stage: Playback, name: str) -> None:
    steps = stage.play(name)
    broker = stage.broker()
    first = order_of(recorded(steps, "place_order")[0])
    placed = place(broker, "m1", first)
    agrees(recorded(steps, "open_order")[0], placed)
    done = stage.settled("m1", BrokerStatus.FILLED)
    execution = recorded(steps, "execution_detail")[0]
    (fill,) = eventually(stage.fills)
    assert (fill.execution_id, fill.revision) == (execution["exec_id"].rpartition(".")[0], 1)
    assert (fill.quantity, fill.price) == (Decimal(execution["shares"]), Decimal(execution["price"]))
    assert (done.filled_quantity, done.avg_fill_price) == (fill.quantity, fill.price)
    (commission,) = eventually(stage.commissions)
    assert (commission.execution_id, commission.commission, commission.currency) == (fill.execution_id, 1, "USD")
    sent_as_recorded(stage.gateway)


def test_an_execution_time_is_read_in_the_zone_it_names(stage: Playback) -> None:
    steps = stage.play("place_order_fill_native_execution_time")
    place(stage.broker(), "m1", order_of(recorded(steps, "place_order")[0]))
    (fill,) = eventually(stage.fills)
    assert fill.filled_at == datetime(2026, 4, 13, 19, 27, 4, tzinfo=UTC)  # 15:27:04 US/Eastern


def test_completed_orders_are_found_with_their_executions(stage: Playback) -> None:
    steps = stage.play("api_completed_orders_variants_aapl")
    broker = stage.broker()
    buy, sell = (order_of(body) for body in recorded(steps, "place_order"))
    place(broker, "b1", buy)
    stage.settled("b1", BrokerStatus.FILLED)
    place(broker, "s1", sell)
    stage.settled("s1", BrokerStatus.FILLED)
    for ref, order, price in (("b1", buy, "265.35"), ("s1", sell, "265.32")):  # one listing each
        report = found(broker, ref, order)
        assert (report.status, report.filled_quantity, report.session) == (BrokerStatus.FILLED, 5, "1")
        assert [fill.price for fill in report.fills] == [Decimal(price)]
    assert broker.capabilities.absence.possible is False


def test_a_change_to_a_market_order_is_seen_and_its_execution_may_come_after_filled(stage: Playback) -> None:
    """corro changes no order types: the change is played as somebody's at the same client id."""
    steps = stage.play("place_order_modify_to_market_late_execution")
    first, second = recorded(steps, "place_order")
    stage.gateway.legs[0][:] = [s for s in stage.gateway.legs[0] if s.body is not second]
    broker = stage.broker()
    placed = place(broker, "c1", order_of(first))
    assert (placed.status, placed.limit_price) == (BrokerStatus.ACCEPTED, Decimal("12.89"))
    done = stage.settled("c1", BrokerStatus.FILLED)
    assert (done.order_type, done.limit_price, done.filled_quantity) == (OrderType.MARKET, None, 1)
    assert done.avg_fill_price == Decimal("257.90")  # told by orderStatus, 100 ms before the execution
    (fill,) = eventually(stage.fills)
    assert (fill.execution_id, fill.revision, fill.price) == ("late-exec-13", 0, Decimal("257.90"))
    assert found(broker, "c1", order_of(first)).filled_quantity == 1


# -- ENDS ---
def test_an_ioc_order_that_ib_cancels_is_canceled_and_never_rejected(stage: Playback) -> None:
    """PendingCancel and Cancelled, without any code; then FOK twice, which is Inactive for good."""
    steps = stage.play("api_ioc_fok_aapl")
    broker = stage.broker()
    ioc, *foks = (order_of(body) for body in recorded(steps, "place_order"))
    place(broker, "i1", ioc)
    done = stage.settled("i1", BrokerStatus.CANCELED)
    assert (done.filled_quantity, done.code) == (None, None)
    assert BrokerStatus.REJECTED not in stage.statuses("i1")
    for fok in foks:
        with pytest.raises(NotSent, match="FOK"):
            place(broker, "f1", fok)


def test_inactive_without_a_code_decides_nothing(stage: Playback) -> None:
    """As recorded of FOK orders; here a limit order is told the same, since no FOK order leaves for a US stock."""
    steps = stage.play("api_ioc_fok_aapl")
    stage.gateway.legs[0] = [s for s in stage.gateway.legs[0] if str(s.body.get("order_id")) != "61"]
    broker = stage.broker()
    day = order_of({**recorded(steps, "place_order")[1], "tif": "DAY"})
    with pytest.raises(SubmitTimeout, match="Inactive"):
        place(broker, "f1", day, deadline_s=1)
    assert found(broker, "f1", day).status is BrokerStatus.UNKNOWN


def test_a_gtc_order_is_canceled_by_its_own_client(stage: Playback) -> None:
    steps = stage.play("api_tif_attribute_matrix_aapl")
    broker = stage.broker()
    gtc, trail = (order_of(body) for body in recorded(steps, "place_order"))
    placed = place(broker, "g1", gtc)
    agrees(recorded(steps, "open_order")[0], placed)
    broker.cancel_order(a_ref("g1", gtc, placed.broker_order_id))
    done = stage.settled("g1", BrokerStatus.CANCELED)
    assert (done.filled_quantity, done.broker_order_id) == (None, "142600")

    held = place(broker, "t1", trail)
    assert (held.status, held.limit_price, held.trail_percent) == (BrokerStatus.ACCEPTED, None, Decimal("1.5"))
    filled = stage.settled("t1", BrokerStatus.FILLED)
    assert (filled.avg_fill_price, filled.limit_price) == (Decimal("263.88"), None)
    assert stage.gateway.heard.count("cancel_order 246") == 1


def test_an_order_type_that_does_not_exist_is_refused_with_321(stage: Playback) -> None:
    steps = stage.play("place_order_invalid_type_live_error")
    with pytest.raises(OrderRejected, match="Invalid order type") as caught:
        place(stage.broker(), "x1", order_of(recorded(steps, "place_order")[0]))
    assert caught.value.code == "321"


def test_an_order_that_is_not_transmitted_is_not_shown_in_any_way(stage: Playback) -> None:
    """Silence is no absence: the gateway has the order, and shows it once it is placed again with transmit."""
    steps = stage.play("api_transmit_false_then_transmit_aapl")
    del stage.gateway.legs[0][3]  # the adapter always transmits: one placeOrder
    broker = stage.broker()
    order = order_of(recorded(steps, "place_order")[1])
    placed = place(broker, "t1", order)
    broker.cancel_order(a_ref("t1", order, placed.broker_order_id))
    stage.settled("t1", BrokerStatus.CANCELED)
    sent_as_recorded(stage.gateway)


# -- RECONNECTS AND OTHER CLIENTS ---
@pytest.mark.parametrize("name", ["api_reconnect_active_order_aapl", "api_order_handle_reconnect_cancel_aapl"])
def test_an_order_survives_a_reconnect_and_is_canceled_over_the_new_connection(stage: Playback, name: str) -> None:
    steps = stage.play(name)
    broker = stage.broker()
    order = order_of(recorded(steps, "place_order")[0])
    placed = place(broker, "r1", order)
    eventually(lambda: not broker.is_connected())
    broker.connect()
    broker.cancel_order(a_ref("r1", order, placed.broker_order_id))
    stage.settled("r1", BrokerStatus.CANCELED)
    assert stage.gateway.heard[-1] == "cancel_order 294"


#: What the adapter asks for once more before the end is told.
_THE_TIME = (RecordedStep("client", "req_current_time"), RecordedStep("server", "current_time", {"time": "1776270534"}))


@pytest.mark.parametrize(
    ("name", "client_id"), [("api_cross_client_cancel_aapl", 2), ("api_client_id0_order_observation_aapl", 0)]
)
def test_an_order_of_another_client_is_seen_with_its_session_and_its_end_by_its_perm_id(
    stage: Playback, name: str, client_id: int
) -> None:
    """The end is told with the id of the client that asked for it: only permId says whose order it is."""
    steps = stage.play(name, "cancel_order")
    order = order_of(recorded(steps, "place_order")[0])
    owner = stage.broker()
    placed = place(owner, "o1", order)
    agrees(recorded(steps, "open_order")[0], placed)
    eventually(lambda: not owner.is_connected())
    ends = stage.gateway.legs[0][-4:-2]
    stage.gateway.legs[0][-4:-2] = [*_THE_TIME, *ends]
    other = stage.broker(client_id)
    report = found(other, "o1", order)
    agrees(recorded(steps, "open_order")[0], report)
    assert (report.status, report.session) == (BrokerStatus.ACCEPTED, "1")
    with pytest.raises(NotSent, match="belongs to client id 1, under which somebody is connected"):
        other.cancel_order(a_ref("o1", order, report.broker_order_id))
    other.server_time()
    done = stage.settled("o1", BrokerStatus.CANCELED)
    assert (done.broker_order_id, done.session) == (placed.broker_order_id, "1")


def test_a_future_of_somebody_else_has_no_name_and_no_fill_until_its_contract_is_known(stage: Playback) -> None:
    """Its exchange, and in which parts of a dollar its prices are, only its details tell: the next reading asks."""
    steps = stage.play("api_future_campaign_mes", "place_order")
    for body in recorded(steps, "open_order"):
        body["order_ref"] = "theirs"
    stage.broker(client_id=5)
    reports = eventually(lambda: [r for r in stage.told if isinstance(r, OrderReport)])
    assert {(r.symbol, r.session) for r in reports} == {(None, "1")}
    assert stage.fills() == []


def test_executions_that_never_end_keep_the_connection_closed(stage: Playback) -> None:
    """A reading without its end is no empty reading: nothing may be sent on it."""
    stage.play("executions_missing_end_live")
    with pytest.raises(NotConnected, match="executions"):
        stage.broker(request_timeout=0.3)


def test_the_clock_of_a_gateway_is_read(stage: Playback) -> None:
    steps = stage.play("current_time")
    broker = stage.broker()
    told = recorded(steps, "current_time")[0]["time"]
    assert broker.server_time() == datetime.fromtimestamp(int(told), UTC)
