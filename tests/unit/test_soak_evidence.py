"""The check of the long run can fail: each way to be wrong is found, and what is right is left alone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.soak.doors import AtDoor, fold
from tests.soak.tally import Tally
from tests.unit.storm_books import ASKED, TWIN, at_door, attempt, event, fill, found, row


def test_what_is_right_is_left_alone() -> None:
    verdict = found([at_door()])
    assert verdict.clean
    assert verdict.became == {"a": ("filled at once", 1.0)}


def test_two_doors_with_one_order_are_a_duplicate() -> None:
    both = [attempt(), attempt(number=2, broker="tda")]
    verdict = found([at_door(), at_door("tda", "a~2", wire_id="tda-a~2", state="live", filled=0)], attempts=both)
    assert len(verdict.duplicates) == 1


def test_an_attempt_that_may_live_beside_one_that_does_is_a_duplicate() -> None:
    tries = [attempt(outcome="unknown"), attempt(number=2, broker="tda")]
    assert found([at_door("tda", "a~2", wire_id="tda-a~2")], attempts=tries).duplicates


def test_an_order_of_money_is_held_against_what_it_spent() -> None:
    asked = replace(ASKED, quantity=Decimal(0), money=Decimal(100))
    door = at_door(money=Decimal(100))  # 2 at 50, while its door thought of another number at first
    door.quantity = Decimal("1.9")
    assert found([door], (asked,)).clean
    door.executions["e1"] = Decimal(2), Decimal("50.01")
    assert "of 100" in found([door], (asked,)).duplicates[0]
    door.amended = True  # its price was put right afterwards
    assert not found([door], (asked,)).duplicates
    door.money = Decimal(101)
    assert found([door], (asked,)).duplicates, "another amount is another order"


def test_an_order_of_money_is_filled_when_its_door_says_so() -> None:
    extra = {"notional": "100"}
    came = {
        "event": "arrived",
        "number": 1,
        "door": "alpaca",
        "client_order_id": "a",
        "symbol": "SIM001",
        "extra": extra,
    }
    came |= {"quantity": "2", "side": "buy", "order_type": "market"}
    part = {
        "event": "fill",
        "number": 1,
        "execution_id": "e1",
        "quantity": "2",
        "price": "49",
        "state": "partially_filled",
    }
    assert [(one.state, one.money) for one in fold([came, part], {})] == [("live", 100)]
    (whole,) = fold([came, part | {"quantity": "1.9", "price": "52", "state": "filled"}], {})
    assert (whole.state, whole.filled, whole.spent) == ("filled", Decimal("1.9"), Decimal("98.8"))


def test_an_order_that_nobody_asked_for_is_a_duplicate() -> None:
    stranger = AtDoor(9, "tda", None, "x", "SIM777", Decimal(1), "filled", Decimal(1))
    assert found([at_door(), stranger]).duplicates


def test_one_more_than_the_twins_asked_for_is_a_duplicate() -> None:
    tries = [attempt("a", broker="tda"), attempt("b", broker="tda")]
    books: dict[str, Any] = {"orders": [row("a"), row("b")], "attempts": tries, "fills": [fill("a"), fill("b")]}
    two = [at_door("tda", "a"), at_door("tda", "b")]
    assert found(two, (ASKED, TWIN), **books).clean
    assert found([*two, at_door("tda", "c")], (ASKED, TWIN), **books).duplicates


def test_a_refusal_belongs_to_the_twin_that_says_so() -> None:
    refused = attempt("b", broker="tda", outcome="refused", broker_order_id=None)
    tries = [attempt("a", broker="tda", outcome="not_sent", broker_order_id=None), refused, attempt("a", 2)]
    books: dict[str, Any] = {"orders": [row("a"), row("b", "rejected", 0)], "attempts": tries, "fills": [fill("a")]}
    nameless = at_door("tda", None, "rejected", 0, reasons=["refused"])
    assert found([nameless, at_door(name="a~2")], (ASKED, TWIN), **books).clean


@pytest.mark.parametrize(
    "books",
    [
        {"orders": [], "attempts": [], "fills": []},  # its row vanished
        {"orders": [row(filled=1)], "fills": [fill(quantity=1)]},  # a fill that our books lack
        {"fills": []},  # filled in its row, not in its fills
    ],
)
def test_what_our_books_lack_is_a_loss(books: dict[str, Any]) -> None:
    assert found([at_door()], **books).losses


def test_an_order_that_is_live_nowhere_is_a_loss() -> None:
    lost = {"orders": [row(status="accepted", filled=0)], "fills": []}
    assert found([at_door(state="live", filled=0)], **lost).clean
    assert found([at_door(state="canceled", filled=0)], **lost).losses
    assert found([], **lost).losses


def test_an_order_without_an_end_is_unfinished_unless_it_waits_for_a_person() -> None:
    waits: dict[str, Any] = {"orders": [row(status="submitted", filled=0)], "fills": []}
    assert found([], attempts=[attempt(outcome="unknown")], **waits).unfinished  # this broker can prove absence
    there = attempt(broker="tda", outcome="unknown", broker_order_id=None)
    verdict = found([], attempts=[there], **waits)
    assert not verdict.unfinished
    assert verdict.clean
    assert verdict.became["a"][0] == "unresolved, listed"


@pytest.mark.parametrize(
    ("status", "state", "filled", "reasons"),
    [
        ("filled", "live", 0, []),
        ("canceled", "live", 0, []),
        ("rejected", "live", 0, []),
        ("rejected", "canceled", 0, []),
        ("rejected", "rejected", 0, ["swallowed"]),
        ("rejected", "rejected", 0, ["status 503"]),
        ("denied", "canceled", 0, []),
        ("expired", "live", 0, []),
        ("canceled", "expired", 0, []),
    ],
)
def test_an_end_that_no_door_shows_is_a_false_terminal(
    status: str, state: str, filled: int, reasons: list[str]
) -> None:
    entry = at_door(state=state, filled=filled, reasons=reasons)
    assert found([entry], orders=[row(status=status, filled=filled)], fills=[]).false_terminals


def test_ends_that_a_door_shows_are_true() -> None:
    refused = at_door(state="rejected", filled=0, reasons=["refused"])
    rejected = {"orders": [row(status="rejected", filled=0)], "attempts": [attempt(outcome="refused")], "fills": []}
    assert found([refused], **rejected).clean
    canceled = {"orders": [row(status="canceled", filled=0)], "fills": []}
    assert found([at_door(state="canceled", filled=0)], **canceled).clean


def test_an_end_that_was_taken_back_is_a_false_terminal() -> None:
    assert found([at_door()], order_events=[event("queued", "submitted"), event("submitted", "filled")]).clean
    assert found([at_door()], order_events=[event("rejected", "filled")]).false_terminals


@pytest.mark.parametrize("outcome", ["absent", "not_sent", "refused"])
def test_an_attempt_that_ended_though_its_door_has_it_is_a_false_terminal(outcome: str) -> None:
    assert found([at_door()], attempts=[attempt(outcome=outcome)]).false_terminals


# -- EXECUTIONS AS THEY STAND ---
TERMS = {"client_order_id": "a", "symbol": "SIM001", "quantity": "2", "side": "buy", "order_type": "market"}
ARRIVED = {"event": "arrived", "number": 1, "door": "ibkr", **TERMS}
FILLED = {"event": "fill", "number": 1, "execution_id": "1.01", "quantity": "2", "price": "50"}
CORRECTED = {"event": "amended", "number": 1, "execution_id": "1.01", "quantity": "2", "price": "49"}
BUSTED = {**CORRECTED, "quantity": "0"}
AT_IB = {"attempts": [attempt(broker="ibkr", broker_order_id=None)]}


def standing(*lines: dict[str, Any]) -> AtDoor:
    (entry,) = fold([ARRIVED, *lines], {1: "7"})
    return entry


def test_a_wrong_price_is_a_guess_told_as_a_fact() -> None:
    door = standing(FILLED)
    assert found([door], **AT_IB).clean
    assert found([door], fills=[fill(price=49)], orders=[row(avg_fill_price=49)], **AT_IB).false_terminals
    assert found([door], orders=[row(avg_fill_price="50.01")], **AT_IB).false_terminals
    assert found([door], fills=[fill(price=49, inferred=True)], **AT_IB).false_terminals
    two = [fill(quantity=1, price=49), fill(quantity=1, price=51)]
    assert found([door], fills=two, **AT_IB).false_terminals  # on average it is right, in each it is not


def test_a_price_that_nobody_told_is_no_claim() -> None:
    unknown = {"fills": [fill(price=None, inferred=True)], "orders": [row(avg_fill_price=None)]}
    assert found([standing(FILLED)], **unknown, **AT_IB).clean


def test_an_inferred_execution_may_have_the_mean_of_several() -> None:
    half = {**FILLED, "quantity": "1"}
    door = standing({**half, "price": "49"}, {**half, "execution_id": "1.02", "price": "51"})
    assert found([door], fills=[fill(inferred=True)], **AT_IB).clean


def test_a_correction_has_to_be_followed() -> None:
    door = standing(FILLED, CORRECTED)
    assert found([door], **AT_IB).false_terminals
    assert found([door], fills=[fill(price=49)], orders=[row(avg_fill_price=49)], **AT_IB).clean


def test_a_bust_has_to_be_followed_and_leaves_the_end_an_end() -> None:
    door = standing(FILLED, BUSTED)
    assert found([door], **AT_IB).false_terminals
    followed = {"fills": [fill(quantity=0)], "orders": [row(filled=0, avg_fill_price=None)]}
    assert found([door], **followed, **AT_IB).clean
    assert found([standing(FILLED)], **followed, **AT_IB).losses  # nobody took it back


def test_what_was_taken_back_before_we_saw_it_waits_for_a_person_and_that_is_right() -> None:
    """Its broker calls it filled, with nothing filled: it is listed, and says so."""
    unclear = {"orders": [row(status="submitted", filled=0, avg_fill_price=None, reason_code="unclear_at_broker")]}
    verdict = found([standing(FILLED, BUSTED)], **unclear, fills=[], **AT_IB)
    assert (verdict.clean, verdict.unfinished, verdict.became["a"][0]) == (True, [], "unresolved, listed")
    assert found([standing(FILLED)], **unclear, fills=[], **AT_IB).unfinished


# -- OTHERS ---
def stranger(state: str = "live", name: str = "a", **more: Any) -> AtDoor:
    return at_door(name=name, state=state, filled=more.pop("filled", 0), stranger=True, **more)


WAITS: dict[str, Any] = {
    "orders": [row(status="submitted", filled=0, avg_fill_price=None)],
    "attempts": [attempt(outcome="unknown", broker_order_id=None)],
    "fills": [],
}


def test_an_order_whose_id_is_a_strangers_waits_for_a_person_and_that_is_right() -> None:
    verdict = found([stranger()], **WAITS)
    assert verdict.clean
    assert not verdict.unfinished
    assert verdict.became["a"][0] == "unresolved, listed"
    assert found([], **WAITS).unfinished  # without the stranger, its broker can tell


def test_a_strangers_order_counts_for_nothing_of_ours() -> None:
    assert found([at_door(), stranger("filled", "theirs", filled=2)]).clean


def test_a_strangers_order_that_we_cancel_is_touched() -> None:
    assert not found([stranger()], **WAITS).touched
    assert found([stranger("canceled")], **WAITS).touched


def test_a_strangers_order_that_we_take_for_ours_is_seen() -> None:
    adopted = attempt(outcome="accepted", broker="tda", broker_order_id="tda-9")
    theirs = at_door("tda", "a", state="live", filled=0, wire_id="tda-9", stranger=True)
    books = {"orders": [row(status="accepted", filled=0)], "attempts": [adopted], "fills": []}
    verdict = found([theirs], **books)
    assert verdict.touched
    assert verdict.losses  # and ours is nowhere


def test_an_order_that_somebody_else_replaced_is_canceled() -> None:
    canceled = {"orders": [row(status="canceled", filled=0)], "fills": []}
    assert found([at_door(state="replaced", filled=0), stranger(name="theirs")], **canceled).clean


# -- REFUSED, AND KEPT ---
@pytest.mark.parametrize("status", ["rejected", "denied"])
def test_what_was_refused_and_kept_may_go_on_once_it_is_canceled(status: str) -> None:
    over = {"orders": [row(status=status, filled=0)], "attempts": [attempt(outcome="refused")], "fills": []}
    assert found([at_door(state="canceled", filled=0, doubted=True)], **over).clean
    assert not found([at_door(state="live", filled=0, doubted=True)], **over).clean
    assert not found([at_door(state="filled", filled=2, doubted=True)], **over).clean


def test_an_order_swallowed_where_nothing_proves_absence_waits_and_is_not_lost() -> None:
    swallowed = at_door("ibkr", "a", "rejected", 0, reasons=["swallowed"])
    waits = {**WAITS, "attempts": [attempt(broker="ibkr", outcome="unknown", broker_order_id=None)]}
    verdict = found([swallowed], **waits)
    assert verdict.clean
    assert not verdict.unfinished


def test_the_ledger_is_folded() -> None:
    names = {"door": "alpaca", **TERMS}
    lines = [
        {"event": "opened"},
        {"event": "arrived", "number": 1, **names},
        {"event": "fill", "number": 1, "execution_id": "1", "quantity": "1", "price": "50"},
        {"event": "fill", "number": 1, "execution_id": "2", "quantity": "1", "price": "50"},
        {"event": "arrived", "number": 2, **names},
        {"event": "rejected", "number": 2, "reason": "swallowed"},
    ]
    filled, swallowed = fold(lines, {2: "w"})
    assert (filled.state, filled.filled, filled.counts) == ("filled", 2, True)
    assert (swallowed.state, swallowed.was_taken, swallowed.was_refused, swallowed.wire_id) == (
        "rejected", False, False, "w",
    )  # fmt: skip


def test_the_tally_adds_up_and_says_what_is_not_zero() -> None:
    record = {
        "world": 3, "orders": 10, "faults": 50, "crossed": 2, "unharmed": 1, "became": {"filled at once": 10},
        "duplicates": ["two"], "losses": [], "false_terminals": [], "touched": [], "died": [],
        "table": {"queue wiped": {"injected": 50, "orders": 9, "became": {"filled at once": 9}, "seconds": [1.0, 3.0]}},
    }  # fmt: skip
    tally = Tally()
    tally.add(record)
    tally.add({**record, "duplicates": []})
    assert not tally.clean
    assert tally.per_100_000("duplicates") == 1000
    assert "duplicates: 1 (1000 per 100,000 faults)" in tally.zeros()
    wiped, everything = tally.table().splitlines()[-2:]
    assert wiped.split() == [
        "|",
        "queue",
        "wiped",
        "|",
        "100",
        "|",
        "18",
        "|",
        "18",
        *["|"] * 10,
        "3.0",
        "s",
        "|",
        "3.0",
        "s",
        "|",
    ]
    assert "| 100 " in everything
