"""The id a broker sees: one per attempt, within the broker's length, never another order's."""

from __future__ import annotations

import hashlib
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import OrderRequest
from worker.orders.claiming import attempt_id

#: IB keeps 40 characters (docs/facts/ibkr.md#2.1), Alpaca 128; None: the broker has no such id.
LENGTHS = [40, 48, 128, None]
IDS = st.text(string.ascii_letters + string.digits + "._:+/=@#!$%&()*?^|{}[]<>-", min_size=1, max_size=64)
NUMBERS = st.integers(1, 12) | st.integers(1, 100_000)


def test_the_first_attempt_carries_the_orders_own_id() -> None:
    assert attempt_id("rebalance-7", 1, 40) == "rebalance-7"


def test_later_attempts_say_which_they_are() -> None:
    assert attempt_id("rebalance-7", 3, 40) == "rebalance-7~3"


def test_no_order_may_have_an_id_that_looks_like_an_attempts() -> None:
    with pytest.raises(ValueError, match="client_order_id"):
        OrderRequest(symbol="AAPL", side="buy", quantity=1, client_order_id="rebalance-7~3")


@given(IDS, NUMBERS, st.sampled_from(LENGTHS))
@settings(max_examples=100, deadline=None)
def test_it_fits_and_keeps_to_the_characters_brokers_take(client_order_id: str, number: int, longest: int) -> None:
    found = attempt_id(client_order_id, number, longest)
    assert longest is None or len(found) <= longest
    assert not re.search(r"[\s,\"']", found)
    assert found == attempt_id(client_order_id, number, longest), "the same question has the same answer"


@pytest.mark.parametrize("number", [2, 9, 99, 100, 999, 1000, 12345])
def test_an_order_that_was_tried_all_night_still_fits(number: int) -> None:
    """A broker that is down over a weekend is tried every few seconds: numbers of four digits and more happen."""
    assert [n for n in range(1, 65) if len(attempt_id("x" * n, number, 40)) > 40] == []


@given(IDS, st.lists(NUMBERS, min_size=2, unique=True), st.sampled_from(LENGTHS))
@settings(max_examples=80, deadline=None)
def test_attempts_of_one_order_have_different_ids(client_order_id: str, numbers: list[int], longest: int) -> None:
    found = {attempt_id(client_order_id, number, longest) for number in numbers}
    assert len(found) == len(numbers)


@st.composite
def two_ids(draw: st.DrawFn) -> tuple[str, str]:
    """Different ids, often with a long common beginning, or one built to look like the other's short form."""
    first = draw(IDS)
    digest = hashlib.sha256(first.encode()).hexdigest()[:16]
    kin = st.builds(lambda n, tail: first[:n] + tail, st.integers(0, 64), st.text(string.ascii_letters, max_size=9))
    forged = st.sampled_from([f"{first[:n]}{dot}{digest}" for n in range(16, 25) for dot in ".-"])
    second = draw((IDS | kin | forged).filter(lambda text: 0 < len(text) <= 64 and text != first))
    return first, second


@given(two_ids(), NUMBERS, NUMBERS, st.sampled_from(LENGTHS))
@settings(max_examples=100, deadline=None)
def test_two_orders_never_share_an_id(pair: tuple[str, str], one: int, other: int, longest: int) -> None:
    assert attempt_id(pair[0], one, longest) != attempt_id(pair[1], other, longest)


def test_an_id_forged_from_anothers_digest_does_not_meet_it() -> None:
    long, number = "x" * 64, 2
    forged = attempt_id(long, number, 40).rpartition("~")[0]
    assert "~" in forged or attempt_id(forged, number, 40) != attempt_id(long, number, 40)
