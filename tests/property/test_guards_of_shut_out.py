"""A broker that shuts one order out, or takes our access away again and again: what is asked how often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from models.errors import AccessLost, NotPermitted, OrderRejected
from models.record.tables import order_events
from tests.property.scenario import DEDUPES, KEEPS, Scenario
from worker.connection import Supervisor

#: Seconds between a supervisor's looks, in these tests.
LOOK_S = 1.0


class WatchedSeat:
    """A worker whose supervisor looks after its connection while time passes."""

    def __init__(self, at: Scenario, patch: pytest.MonkeyPatch, broker: str = KEEPS) -> None:
        self.at, self.process, self.told = at, at.worker[broker], list[str]()
        self.desk, self.seat, self.broker = self.process.desk, self.process.seat, broker
        self.connects = 0
        patch.setattr(self.seat, "disconnect", self._count)
        tell = lambda _state, detail: self.told.append(detail)  # noqa: E731
        timing = at.world.settings.timing
        self.supervisor = Supervisor(self.seat, timing, self.desk.gate, lambda: None, tell)
        self.supervisor.look()

    def _count(self) -> None:
        self.connects += 1

    def live(self, seconds: float, duty: Callable[[], object], every: float = LOOK_S) -> None:
        """Let time pass, with looks of the supervisor and a duty while the gate is open."""
        for _ in range(int(seconds / every)):
            self.at.world.clock.advance(every)
            self.supervisor.look()
            if self.desk.gate.is_open():
                duty()


@pytest.fixture
def watched(at: Scenario, monkeypatch: pytest.MonkeyPatch) -> WatchedSeat:
    return WatchedSeat(at, monkeypatch)


def shuts_out(one: str, calls: list[str], others: Callable[[Any], Any]) -> Callable[..., Any]:
    """Answer requests about one order as if access were lost, and let others through; `calls` keeps what was asked."""

    def asked(first: Any, *rest: Any) -> Any:
        calls.append(first.order.client_order_id)
        if first.order.client_order_id == one:
            raise AccessLost(f"{KEEPS}: HTTP 401: unauthorized.", broker=KEEPS, code="401")
        return others(first, *rest)

    return asked


# -- THE CONNECTION ---
def test_access_that_is_lost_again_soon_after_the_gate_opened_backs_off_like_a_failed_connect(
    watched: WatchedSeat,
) -> None:
    def loses() -> None:
        watched.desk.gate.heeded(AccessLost(f"{KEEPS}: HTTP 401", broker=KEEPS))

    watched.live(120, loses)
    longest = watched.at.world.settings.timing.reconnect_longest
    assert watched.connects < 6 + 120 / longest, "half a second, one, two, four, eight, and then the longest"
    assert any("in a row" in detail and "401" in detail for detail in watched.told), "corro fleet says so"


def test_access_that_lasted_is_made_anew_at_once_when_it_is_lost(watched: WatchedSeat) -> None:
    lost = AccessLost(f"{KEEPS}: HTTP 401", broker=KEEPS)
    for _ in range(5):
        watched.desk.gate.heeded(lost)
        watched.live(20, lambda: None)
    watched.live(60, lambda: None)
    watched.desk.gate.heeded(lost)
    before = watched.connects
    watched.supervisor.look()
    assert watched.connects == before + 1
    assert watched.desk.gate.is_open()


# -- ONE ORDER ---
def test_an_order_that_alone_is_shut_out_waits_longer_each_time_and_holds_up_no_other(
    at: Scenario, watched: WatchedSeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = at.world.clock.now() + timedelta(hours=1)
    one, calls = at.order(KEEPS, expires_at=late), list[str]()
    monkeypatch.setattr(watched.seat, "place_order", shuts_out(one, calls, watched.seat.place_order))
    watched.live(300, watched.desk.place.sweep)
    assert 5 <= len(at.tries(one)) == calls.count(one) <= 10
    assert "401" in at.row(one)["reason"]
    other = at.order(KEEPS, expires_at=late)
    watched.live(10, watched.desk.place.sweep)
    assert at.status(other) == "accepted"


def test_an_order_that_is_shut_out_goes_on_to_the_next_broker(at: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    monkeypatch.setattr(at.worker[KEEPS].seat, "place_order", shuts_out(id_, [], lambda _: None))
    at.work(KEEPS, id_)
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(KEEPS, "not_sent"), (DEDUPES, "accepted")]


def test_a_replace_that_alone_is_shut_out_waits_longer_each_time(
    at: Scenario, watched: WatchedSeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (at.order(KEEPS, order_type="limit", limit_price=50) for _ in range(2))
    at.work(KEEPS, one, other)
    calls = list[str]()
    replace = watched.seat.replace_order
    monkeypatch.setattr(watched.seat, "replace_order", shuts_out(one, calls, replace))
    at.wish(one, limit_price="51")
    watched.live(300, watched.desk.replacements.carry_out)
    assert 5 <= calls.count(one) <= 10
    assert len(at.tries(one)) == 1 + calls.count(one)
    at.wish(other, limit_price="51")
    watched.live(10, watched.desk.replacements.carry_out)
    assert calls.count(other) == 1
    assert at.row(other)["replace_request"] is None


# -- CANCELS ---
@pytest.mark.parametrize(
    ("error", "kind"),
    [(AccessLost, "cancel_not_sent"), (NotPermitted, "cancel_refused"), (OrderRejected, "cancel_refused")],
)
def test_a_cancel_that_is_refused_is_said_once_and_asked_again_with_growing_pauses(
    at: Scenario, watched: WatchedSeat, monkeypatch: pytest.MonkeyPatch, error: Any, kind: str
) -> None:
    id_ = at.order(KEEPS, order_type="limit", limit_price=50)
    at.work(KEEPS, id_)
    calls, words = list[str](), ["not now"]

    def refuses(ref: Any) -> None:
        calls.append(ref.order.client_order_id)
        raise error(words[0], broker=KEEPS)

    monkeypatch.setattr(watched.seat, "cancel_order", refuses)
    watched.desk.wishes.record([id_])
    watched.live(1200, watched.desk.cancels.carry_out, every=5.0)
    assert 5 <= len(calls) <= 8
    assert at.kinds(id_).count(kind) == 1
    words[0] = "other words"
    watched.desk.cancels.carry_out([id_])
    assert at.kinds(id_).count(kind) == 2, "whoever asks anew is answered at once, and new words are told"
    assert [e["detail"] for e in at.world.rows(order_events) if e["kind"] == kind] == ["not now", "other words"]
