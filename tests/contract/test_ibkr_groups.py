"""Linked orders at the TWS door, by the whole worker in this process: sent in one burst, followed, taken back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.crash_points import watched
from models.errors import NotFound, NotSent, QuotaExhausted
from models.groups import LEGS, GroupKind, Membership
from models.messages import OrderRequest
from models.record.tables import position_locks
from producers.client import OrderClient
from producers.groups import OrderGroup
from tests.contract.doors import SandboxThread
from tests.contract.tws_doors import TwsDoors, an_order, place
from tests.kit.waiting import eventually
from worker.brokers.base import AbsenceRule, LinkedOrder, Ticket
from worker.brokers.ibkr import groups
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.ibkr.groups import LegEnd, are_gone, links
from worker.brokers.ibkr.numbers import HELD_S, NumberLane
from worker.orders.protection import needs_exits, protective_id
from worker.orders.withdrawal import is_unsent
from worker.rehearsal import rehearsal

TIMING = {
    "open_orders_every": 0.3,
    "positions_every": 0.5,
    "reconcile": (0.05, 0.1),
    "alert_after": 1.0,
}


class TwsDesk:
    """A client whose orders go to the TWS door."""

    def __init__(self, client: OrderClient, doors: TwsDoors, broker: IbkrBroker) -> None:
        self.client, self.doors, self.house, self.broker = client, doors, doors.house, broker

    def bracket(self, **terms: object) -> OrderGroup:
        given = {"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": "e"} | terms
        return self.client.submit_bracket(OrderRequest(**given), take_profit="110", stop_loss="95")

    def until(self, group: OrderGroup, **wanted: str) -> OrderGroup:
        def there() -> OrderGroup | None:
            now = self.client.group(group.group_id)
            return now if {name: str(now.legs[name].status) for name in wanted} == wanted else None

        found = eventually(there, 30, lambda: self.client.group(group.group_id))
        assert found is not None
        return found

    def at_the_door(self) -> list[tuple[str, str, object]]:
        orders = self.house.call(lambda: list(self.house.market.orders("ibkr")))
        return sorted((str(order.client_order_id), order.state, order.filled_quantity) for order in orders)

    def staged(self) -> list[str]:
        return self.house.call(lambda: [held.order_ref for held in self.doors.door.desk._staged.values()])


@contextmanager
def opened(house: SandboxThread, tmp_path: Path, proves: bool = False, **settings: Any) -> Iterator[TwsDesk]:
    doors = TwsDoors(house, "ib_insync")
    broker = doors.broker(connect=False)
    rule = AbsenceRule(min_age_s=0.5, sightings=2, possible=proves)
    broker.capabilities = replace(broker.capabilities, absence=rule)
    house.price("AAPL", "100")
    with rehearsal(tmp_path, broker, timing=TIMING, **settings) as client:
        yield TwsDesk(client, doors, broker)
    doors.close()


@pytest.fixture
def desk(house: SandboxThread, tmp_path: Path) -> Iterator[TwsDesk]:
    with opened(house, tmp_path) as found:
        yield found


def test_a_bracket_whose_answer_is_lost_wakes_its_exits_and_ends_one_by_the_other(desk: TwsDesk) -> None:
    desk.house.fault("ibkr", "accept_drop")
    live = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    assert live.status == "live"
    desk.house.price("AAPL", "111")
    done = desk.until(live, take_profit="filled", stop_loss="canceled")
    assert done.status == "closed"
    assert desk.at_the_door() == [("e", "filled", 10), ("e.sl", "canceled", 0), ("e.tp", "filled", 10)]


@pytest.mark.parametrize("proves", [False, True], ids=["listings prove nothing", "listings prove absence"])
def test_what_is_left_of_a_group_cut_off_between_two_legs_is_taken_back(
    house: SandboxThread, tmp_path: Path, proves: bool
) -> None:
    """TWS holds it back unseen, where one click would send it: it is gone before the group is sent again."""
    with opened(house, tmp_path, proves) as desk:
        _cut_between_two_legs(desk)


def _cut_between_two_legs(desk: TwsDesk) -> None:
    passed: list[str] = []

    def cut(point: str) -> None:
        if point == "between_legs":
            passed.append(point)
            if len(passed) == 2:
                eventually(lambda: len(desk.staged()) == 2)
                desk.house.call(desk.doors.door.cut)
                raise RuntimeError("cut off")

    with watched(cut):
        group = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    assert [name for name, _, _ in desk.at_the_door()] == ["e.sl~2", "e.tp~2", "e~2"]
    assert desk.staged() == []
    assert "taken back by order id" in str([event["detail"] for event in group.legs["entry"].events])


def test_one_of_two_exits_whose_other_never_left_does_not_stand_alone(desk: TwsDesk) -> None:
    desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(15)

    def cut(point: str) -> None:
        if point == "between_legs":
            eventually(lambda: len(desk.at_the_door()) == 2)
            desk.house.call(desk.doors.door.cut)
            raise RuntimeError("cut off")

    terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
    first = OrderRequest(**terms, order_type="limit", limit_price="110", client_order_id="o")
    second = OrderRequest(**terms, order_type="stop", stop_price="95", client_order_id="o.sl")
    with watched(cut):
        done = desk.until(desk.client.submit_oco(first, second), first="canceled", second="canceled")
    assert [event["kind"] for event in done.legs["first"].events].count("group_partial") == 1
    assert [state for _, state, _ in desk.at_the_door()].count("canceled") == 1


@pytest.mark.parametrize(
    ("after", "ends"),
    [
        (1, {"entry": "canceled", "stop_loss": "rejected", "take_profit": "canceled"}),  # let go without its stop
        (2, {"entry": "rejected", "stop_loss": "rejected", "take_profit": "rejected"}),
    ],
)
def test_a_group_of_which_one_order_is_refused_leaves_nothing_behind(
    desk: TwsDesk, after: int, ends: dict[str, str]
) -> None:
    desk.house.fault("ibkr", "refuse", after=after)
    desk.house.fault("ibkr", "no_fill", count=None)
    desk.until(desk.bracket(), **ends)
    assert all(state == "canceled" for _, state, _ in desk.at_the_door())
    assert desk.staged() == []


def test_an_oco_closes_a_position_once_and_an_overfill_by_ib_is_told_and_locked(desk: TwsDesk) -> None:
    def oco(name: str) -> OrderGroup:
        desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(15)
        terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
        first = OrderRequest(**terms, order_type="limit", limit_price="110", client_order_id=name)
        second = OrderRequest(**terms, order_type="stop", stop_price="95", client_order_id=f"{name}.sl")
        return desk.until(desk.client.submit_oco(first, second), first="accepted", second="accepted")

    group = oco("o")
    desk.house.price("AAPL", "94")
    assert desk.until(group, first="canceled", second="filled").status == "closed"
    desk.house.price("AAPL", "100")
    group = oco("p")
    desk.house.fault("ibkr", "both_fill", count=None)
    desk.house.price("AAPL", "111")
    desk.until(group, first="filled")
    desk.house.price("AAPL", "94")
    done = desk.until(group, first="filled", second="filled")
    assert done.status == "broken"
    with desk.client.database.read() as connection:
        assert connection.execute(select(position_locks.c.note)).scalar() == done.reason


def test_what_an_entry_left_open_gets_exits_of_its_own_once_where_that_is_wished(
    house: SandboxThread, tmp_path: Path
) -> None:
    with opened(house, tmp_path, groups={"on_partial": "protect"}) as desk:
        desk.house.fault("ibkr", "partial")
        group = desk.until(desk.bracket(), entry="partially_filled", take_profit="accepted", stop_loss="accepted")
        group.legs["entry"].cancel()
        done = desk.until(group, entry="canceled", take_profit="canceled", stop_loss="canceled")
        assert [event["kind"] for event in done.legs["entry"].events].count("unprotected") == 1

        def oco() -> OrderGroup | None:
            with suppress(NotFound):
                return desk.client.group("e.protect")
            return None

        exits = eventually(oco, 30)
        assert exits is not None
        live = desk.until(exits, first="accepted", second="accepted")
        assert [order.row["quantity"] for order in live.legs.values()] == [5, 5]
        desk.house.price("AAPL", "94")
        desk.until(exits, first="canceled", second="filled")
        assert len(desk.at_the_door()) == 5
        assert [event["kind"] for event in desk.client.group("e").legs["entry"].events].count("protected") == 1


@pytest.mark.parametrize(
    ("entry", "exits", "needs"),
    [
        ({"status": "canceled", "filled_quantity": 5}, {}, True),
        ({"status": "canceled", "filled_quantity": 0}, {}, False),
        ({"status": "partially_filled", "filled_quantity": 5}, {}, False),
        ({"status": "canceled", "filled_quantity": 5}, {"cancel_requested_at": 1}, False),
        ({"status": "canceled", "filled_quantity": 5}, {"filled_quantity": 5}, False),
        ({"status": "canceled", "filled_quantity": 5}, {"status": "accepted"}, False),
    ],
)
def test_exits_are_made_anew_only_where_nothing_can_close_what_is_open_and_nobody_wished_that(
    entry: dict[str, Any], exits: dict[str, Any], needs: bool
) -> None:
    plain = {"quantity": Decimal(10), "filled_quantity": 0, "cancel_requested_at": None, "status": "canceled"}
    plain["closed_at"] = None
    legs: list[Any] = [{**plain, "leg": leg} for leg in ("entry", "take_profit", "stop_loss")]
    legs[0] |= entry
    legs[2] |= exits
    for leg in legs:
        leg["filled_quantity"] = Decimal(leg["filled_quantity"])
    assert needs_exits(legs) == needs
    assert protective_id("a" * 64) == protective_id("a" * 64) != protective_id("a" * 63 + "b")


@pytest.mark.parametrize(
    ("sent_at", "number", "is_group", "unsent"),
    [(None, None, True, True), (1, None, True, True), (1, "7", True, False), (1, None, False, False)],
)
def test_a_group_without_order_ids_has_not_left(
    sent_at: int | None, number: str | None, is_group: bool, unsent: bool
) -> None:
    row: Any = {"sent_at": sent_at, "session_order_id": number}
    assert is_unsent(IbkrBroker.capabilities, row, is_group=is_group) == unsent


def test_nothing_overtakes_the_order_ids_of_a_group_and_overtaken_ones_are_not_sent(house: SandboxThread) -> None:
    """TWS refuses an order id below one that it has had."""
    doors = TwsDoors(house, "ib_insync")
    broker = doors.broker()
    numbers, began = broker.reserve_ids(2), time.monotonic()
    assert place(broker, "plain", an_order()).status in ("accepted", "filled")
    assert time.monotonic() - began > HELD_S * 0.9
    legs = [an_order(group=Membership("g", GroupKind.OTO, leg), version=2) for leg in LEGS[GroupKind.OTO]]
    then = LinkedOrder(order=legs[1], broker_client_order_id="g.then", session_order_id=numbers[1])
    ticket = Ticket(
        order=legs[0],
        broker_client_order_id="g",
        deadline_s=5,
        still_mine=lambda: None,
        legs=(then,),
        session_order_id=numbers[0],
    )
    with pytest.raises(NotSent, match="overtaken"):
        broker.place_order(ticket)
    assert len(house.call(lambda: house.market.orders("ibkr"))) == 1
    assert house.call(lambda: dict(doors.door.desk._staged)) == {}
    doors.close()


def test_a_group_whose_order_ids_are_not_reserved_in_time_was_not_sent(
    house: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is other groups that hold it up, IB stays its broker."""
    doors = TwsDoors(house, "ib_async")
    broker = doors.broker()
    broker.reserve_ids(2)  # another group holds the lane
    monkeypatch.setattr(groups, "RESERVE_S", 0.1)
    with pytest.raises(QuotaExhausted, match=r"had not left within 0\.1 s; nothing was sent"):
        broker.reserve_ids(2)
    assert broker._live is not None
    broker._live._clock.__self__.call_soon_threadsafe(time.sleep, 0.3)  # type: ignore[attr-defined]
    monkeypatch.setattr(groups, "RESERVE_S", -0.9)
    with pytest.raises(NotSent, match=r"did not end within 0\.1 s; nothing was sent"):
        broker.reserve_ids(2)
    doors.close()


def test_who_gives_up_does_not_free_the_lane_of_somebody_else() -> None:
    async def story() -> None:
        lane = NumberLane()
        lane.hold(1)
        lane.hold(3)  # the first one's time was over
        lane.leave(1)
        waiting = asyncio.create_task(lane.free())
        await asyncio.sleep(0)
        assert not waiting.done()
        lane.leave(3)
        await asyncio.wait_for(waiting, 0.5)

    asyncio.run(story())


def test_an_order_of_a_group_is_linked_as_ib_documents_it() -> None:
    def links_of(kind: GroupKind) -> list[dict[str, Any]]:
        legs = [an_order(group=Membership("g", kind, leg), version=2) for leg in LEGS[kind]]
        return [links(legs, position, 7, "g") for position in range(len(legs))]

    oca = {"ocaGroup": "g", "ocaType": 1}
    exits = [{"transmit": False, "parentId": 7, **oca}, {"transmit": True, "parentId": 7, **oca}]
    assert links_of(GroupKind.BRACKET) == [{"transmit": False}, *exits]
    assert links_of(GroupKind.OTO) == [{"transmit": False}, {"transmit": True, "parentId": 7}]
    assert links_of(GroupKind.OCO) == [{"transmit": True, **oca}] * 2


@pytest.mark.parametrize(
    ("ends", "alone", "gone"),
    [
        (("canceled", "canceled", "not_found"), False, True),
        (("not_found", "not_found", "not_found"), False, False),
        (("canceled", "open", "not_found"), False, False),
        (("not_found",), True, True),
        (("open",), True, False),
    ],
)
def test_only_what_tws_held_back_and_gave_up_is_gone(ends: tuple[str, ...], alone: bool, gone: bool) -> None:
    assert are_gone([LegEnd(end) for end in ends], is_group=not alone) == gone
