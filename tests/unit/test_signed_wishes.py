"""Signed cancels and replaces: carried out for whoever may, on orders of their own, and never twice.

A wish comes in a message, or was left on the row by a producer that may not change orders.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from models.errors import InvalidOrder, Untrusted
from models.record.tables import orders
from models.vocabulary import Denial
from producers.client import OrderClient
from tests.unit.trust_desk import LOW, Make, TrustDesk, order, sealed, signer, wish
from worker.control.keys import revoke


# -- IN A MESSAGE ---
def rests(desk: TrustDesk, by: Any, client_order_id: str = "o-1", **changes: Any) -> None:
    desk.submit(sealed(by, order(client_order_id, **LOW | changes)))
    assert desk.stands(client_order_id) == ("accepted", None)


def cancel(desk: TrustDesk, envelope: Any) -> None:
    taken = desk.desk.wishes.judge("cancel", envelope.to_wire())
    desk.desk.wishes.record(taken.ids, taken.key)
    desk.desk.cancels.carry_out(taken.ids)


def replace(desk: TrustDesk, envelope: Any) -> None:
    taken = desk.desk.wishes.judge("replace", envelope.to_wire())
    desk.desk.wishes.record_replace(taken)
    desk.desk.replacements.carry_out(taken.ids)


def test_a_signed_cancel_cancels_the_orders_of_its_key(desk: TrustDesk) -> None:
    by = desk.key()
    rests(desk, by)
    cancel(desk, wish(by, "cancel", client_order_ids=["o-1"]))
    assert desk.row()["cancel_sent_at"] is not None


@pytest.mark.parametrize(
    ("bounds", "permitted"),
    [({}, False), ({"may_cancel": "strategy", "strategies": ["dip"]}, True),
     ({"may_cancel": "strategy", "strategies": ["other"]}, False), ({"may_cancel": "all"}, True),
     ({"may_cancel": "all", "symbols": ["PEP"]}, False), ({"may_cancel": "all", "brokers": ["tda"]}, False)],
)  # fmt: skip
def test_a_strangers_order_is_canceled_only_by_who_may(desk: TrustDesk, bounds: Any, permitted: bool) -> None:
    rests(desk, desk.key())
    cancel(desk, wish(desk.key("k-2", **bounds), "cancel", client_order_ids=["o-1"]))
    assert (desk.row()["cancel_requested_at"] is not None) is permitted
    assert any(kind == "wish_denied" for kind, _ in desk.events()) is not permitted


def test_an_unsigned_cancel_is_only_a_ring_where_signatures_are_required(desk: TrustDesk) -> None:
    by = desk.key()
    rests(desk, by)
    for _ in range(3):
        desk.desk.wishes.record(["o-1"])
    assert desk.row()["cancel_requested_at"] is None
    denied = [detail for kind, detail in desk.events() if kind == "wish_denied"]
    assert len(denied) == 1, "said once, however often it comes"
    assert "not_signed" in str(denied[0])
    with OrderClient(desk.settings) as client:
        client.cancel("o-1")
    desk.desk.wishes.record(["o-1"])
    assert desk.row()["cancel_requested_at"] is not None


def test_a_signed_replace_changes_an_order_that_is_live(desk: TrustDesk) -> None:
    by = desk.key()
    rests(desk, by)
    replace(desk, wish(by, "replace", client_order_id="o-1", quantity="3"))
    assert (desk.row()["quantity"], desk.stands()) == (3, ("accepted", None))


def test_a_captured_replace_brings_no_old_terms_back(desk: TrustDesk) -> None:
    by = desk.key()
    rests(desk, by)
    old = wish(by, "replace", client_order_id="o-1", quantity="50")
    replace(desk, old)
    replace(desk, wish(by, "replace", client_order_id="o-1", quantity="3"))
    replace(desk, old)
    assert desk.row()["quantity"] == 3
    assert [kind for kind, _ in desk.events()][-1] == "replace_refused"


def test_a_queued_order_that_its_key_has_replaced_is_sent_with_the_new_terms(make: Make) -> None:
    desk = make(require="all")
    by = desk.key()
    desk.desk.place.intake.take([sealed(by, order())], "alpaca")
    replace(desk, wish(by, "replace", client_order_id="o-1", quantity="3"))
    desk.desk.place.work(["o-1"])
    assert (desk.stands(), desk.row()["filled_quantity"]) == (("filled", None), 3)


def test_strangers_replace_nothing(desk: TrustDesk) -> None:
    rests(desk, desk.key())
    replace(desk, wish(desk.key("k-2"), "replace", client_order_id="o-1", quantity="500"))
    assert desk.row()["replace_request"] is None
    assert [kind for kind, _ in desk.events()][-1] == "wish_denied"


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("cancel", {"client_order_ids": []}, "client_order_ids"),
        ("cancel", {"client_order_ids": ["o-1"], "all": True}, "all"),
        ("cancel", {"client_order_ids": ["o-1"], "expires_at": "2026-01-01T00:00:00Z"}, "is over"),
        ("cancel", {"client_order_ids": ["o-1"], "created_at": "2099-01-01T00:00:00Z"}, "ahead of our clock"),
        ("cancel", {"client_order_ids": ["o-1"], "created_at": "soon"}, "ISO 8601"),
        ("replace", {"client_order_id": "o-1", "quantity": "3", "created_at": None}, "created_at: is required"),
        ("replace", {"client_order_id": "o-1", "quantity": "3", "expires_at": None}, "expires_at: is required"),
        ("replace", {"quantity": "3"}, "client_order_id"),
    ],
)
def test_a_wish_that_cannot_be_read_says_why(desk: TrustDesk, kind: Any, content: Any, words: str) -> None:
    with pytest.raises(InvalidOrder, match=words):
        desk.desk.wishes.judge(kind, wish(desk.key(), kind, **content).to_wire())


def test_a_wish_of_nobody_is_not_taken(desk: TrustDesk) -> None:
    by = desk.key()
    with pytest.raises(Untrusted) as caught:
        desk.desk.wishes.judge("cancel", wish(signer("k-9"), "cancel", client_order_ids=["o-1"]).to_wire())
    assert caught.value.code == Denial.KEY_UNKNOWN
    revoke(desk.database, "k-1", by="test", reason="lost")
    desk.forget()
    with pytest.raises(Untrusted) as caught:
        desk.desk.wishes.judge("cancel", wish(by, "cancel", client_order_ids=["o-1"]).to_wire())
    assert caught.value.code == Denial.KEY_REVOKED


# -- LEFT ON ROWS ---
def leave(desk: TrustDesk, *wishes: dict[str, Any]) -> None:
    with desk.database.write() as connection:
        connection.execute(update(orders).values(wishes=list(wishes)))


def test_a_cancel_that_was_left_on_a_queued_order_ends_it_at_its_claim(desk: TrustDesk) -> None:
    desk.desk.place.intake.take([order()], "alpaca")
    leave(desk, {"kind": "cancel"})
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("canceled", None)
    assert desk.row()["wishes"] is None


def test_a_replace_that_was_left_on_a_queued_order_is_sent_with_it(desk: TrustDesk) -> None:
    desk.desk.place.intake.take([order()], "alpaca")
    leave(desk, {"kind": "replace", "terms": {"quantity": "3"}})
    desk.desk.place.work(["o-1"])
    assert (desk.stands(), desk.row()["filled_quantity"]) == (("filled", None), 3)


@pytest.mark.parametrize(
    ("left", "code"),
    [({"kind": "cancel"}, "not_signed"), ({"kind": "replace", "terms": {"quantity": "500"}}, "not_signed"),
     ({"kind": "cancel", "signed": "{}", "key": "k-1", "sig": "x"}, "bad_signature")],
)  # fmt: skip
def test_what_was_left_on_a_row_has_to_be_signed_where_all_is(make: Make, left: dict[str, Any], code: str) -> None:
    desk = make(require="all")
    desk.desk.place.intake.take([sealed(desk.key(), order())], "alpaca")
    leave(desk, left)
    desk.desk.place.work(["o-1"])
    assert (desk.stands(), desk.row()["filled_quantity"]) == (("filled", None), 5)
    assert [detail for kind, detail in desk.events() if kind == "wish_denied" and code in str(detail)]


def test_a_signed_cancel_of_another_order_does_nothing_here(make: Make) -> None:
    desk = make(require="all")
    by = desk.key()
    desk.desk.place.intake.take([sealed(by, order())], "alpaca")
    envelope = wish(by, "cancel", client_order_ids=["o-2"]).to_wire()
    leave(desk, {"kind": "cancel", **{name: envelope[name] for name in ("signed", "key", "sig")}})
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("filled", None)
