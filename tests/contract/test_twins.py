"""Look-alikes at brokers that keep no id of ours: when one was entered tells whether it can be the order that was sent.

Somebody else's equal order is a fault of the sandbox's door (`twin`), met through the real adapter over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from models.errors import OutcomeUnknown
from models.messages import OrderRequest
from models.reports import Ambiguous, Found
from tests.contract.desks import SchwabDesk, TdaDesk
from tests.contract.suite.desk import Seen, eventually, resting
from worker.brokers.broker_clock import BrokerClock


@pytest.fixture(params=[TdaDesk, SchwabDesk], ids=lambda kind: kind.name)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as found:
        found.broker._rest.clock = BrokerClock()  # learnt from the door's answers, as at a broker
        found.broker.connect()
        yield found


def sent(desk: Any, answer: str = "location_missing", **twin: Any) -> tuple[OrderRequest, Seen, Seen]:
    """Send an order whose answer says nothing of it, beside an equal one; returns ours, and both at the broker."""
    wanted = resting()
    desk.fault("twin", **twin)
    desk.fault(answer)
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)
    theirs, ours = desk.orders()[-2:]
    return wanted, theirs, ours


def id_of(seen: Seen) -> str:
    return str(seen.handle.extra["order_id"])


def found(desk: Any, wanted: OrderRequest) -> str | None:
    """Look, as the reconciler does, until one order is taken for ours; returns its id."""
    eventually(lambda: isinstance(desk.find(wanted), Found))
    return str(desk.found(wanted).broker_order_id)


@pytest.mark.parametrize("answer", ["location_missing", "accept_drop"])
def test_an_equal_order_entered_seconds_before_ours_is_not_taken_for_it(desk: Any, answer: str) -> None:
    desk.fault("list_lag", seconds=0.5)
    wanted, theirs, ours = sent(desk, answer, seconds=2)
    seen = desk.find(wanted)
    assert isinstance(seen, Ambiguous)
    assert [one.broker_order_id for one in seen.candidates] == [id_of(theirs)]
    assert found(desk, wanted) == id_of(ours)


def test_an_equal_order_entered_before_ours_is_shown_while_ours_is_nowhere(desk: Any) -> None:
    desk.fault("list_lag", seconds=60)
    wanted, theirs, _ = sent(desk, seconds=3)
    seen = desk.find(wanted)
    assert isinstance(seen, Ambiguous)
    assert "entered before the send" in seen.words
    assert [one.broker_order_id for one in seen.candidates] == [id_of(theirs)]


def test_an_equal_order_entered_long_before_ours_is_not_even_shown(desk: Any) -> None:
    wanted, _, ours = sent(desk, seconds=9)
    assert found(desk, wanted) == id_of(ours)


def test_equal_orders_entered_at_once_are_told_apart_by_a_person(desk: Any) -> None:
    wanted, theirs, ours = sent(desk, seconds=0)
    seen = desk.find(wanted)
    assert isinstance(seen, Ambiguous)
    assert {one.broker_order_id for one in seen.candidates} == {id_of(theirs), id_of(ours)}


def test_of_a_broker_that_tells_no_time_our_clock_tells_which_order_is_from_before(desk: Any) -> None:
    desk.fault("odd_date", None)
    desk.broker._rest.clock = BrokerClock()
    wanted, _, ours = sent(desk, seconds=3)
    assert found(desk, wanted) == id_of(ours)


@pytest.mark.parametrize("tag", ["API_OTHER:a-person", ""], ids=["another tag", "no tag"])
def test_an_equal_order_entered_through_another_application_is_not_taken_for_ours(desk: Any, tag: str) -> None:
    """A person's order, entered right after a send of which nothing arrived: it is shown, never adopted."""
    desk.place(resting(symbol="MSFT"))  # shows the tag of our orders
    desk.fault("list_lag", seconds=60)
    wanted, theirs, _ = sent(desk, seconds=0, tag=tag)
    seen = desk.find(wanted)
    assert isinstance(seen, Ambiguous)
    assert "another application" in seen.words
    assert [one.broker_order_id for one in seen.candidates] == [id_of(theirs)]


@pytest.mark.parametrize("tag", ["API_OTHER:a-person", ""], ids=["another tag", "no tag"])
def test_an_answer_that_points_to_an_equal_order_of_another_application_is_not_believed(desk: Any, tag: str) -> None:
    desk.place(resting(symbol="MSFT"))
    wanted, theirs, ours = sent(desk, "location_foreign", seconds=0, tag=tag)
    assert found(desk, wanted) == id_of(ours) != id_of(theirs)


@pytest.mark.parametrize("tag", ["API_OTHER:a-person", ""], ids=["another tag", "no tag"])
def test_a_tag_tells_orders_apart_in_a_process_that_has_sent_none(desk: Any, tag: str) -> None:
    """The reconciler may be another worker: then our other orders in the listing tell."""
    known = str(desk.place(resting(symbol="MSFT")).broker_order_id)
    wanted, _, ours = sent(desk, seconds=0, tag=tag)
    assert found(desk, wanted) == id_of(ours)
    desk.broker._listings.our_tags.clear()
    assert desk.found(wanted, known=frozenset({known})).broker_order_id == id_of(ours)
    assert isinstance(desk.find(wanted), Ambiguous)  # with nothing to compare, a person decides
