"""Four eyes: who approves an order is not who submitted it, by name and by key."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from models.encoding import loads
from models.errors import InvalidOrder, Untrusted
from models.record.tables import control_events, order_events, orders
from producers.client import OrderClient
from tests.unit.trust_desk import LOW, Make, TrustDesk, order, sealed, signer, wish
from worker.orders.releases import approve, deny


def held(desk: TrustDesk, **bounds: Any) -> None:
    """An order of ann's key waits for somebody."""
    by = desk.key("trader", needs_approval=True, owner="ann", **bounds)
    desk.desk.place.intake.take([sealed(by, order())], "alpaca")
    assert desk.stands()[0] == "held"


def refused(desk: TrustDesk, by: str, **more: Any) -> str:
    with OrderClient(desk.settings) as client, pytest.raises(Untrusted) as why:
        approve(client, "o-1", by=by, **more)
    assert desk.stands()[0] == "held"
    assert why.value.code == "not_permitted"
    return str(why.value)


@pytest.mark.parametrize("name", ["ann", " Ann", "trader"])
def test_whoever_submitted_an_order_does_not_approve_it(desk: TrustDesk, name: str) -> None:
    held(desk)
    assert "submitted by key 'trader' of ann" in refused(desk, name)
    with OrderClient(desk.settings) as client:
        approve(client, "o-1", by="ben")
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("filled", None)


def test_where_a_key_may_approve_one_has_to_and_what_it_signed_is_kept(desk: TrustDesk) -> None:
    held(desk)
    officer = desk.key("officer", may_approve=True, owner="ben")
    assert "an approval is signed" in refused(desk, "ben")
    with OrderClient(desk.settings) as client:
        approve(client, "o-1", by="ben", signer=officer)
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("filled", None)
    with desk.database.read() as connection:
        query = control_events.select().where(control_events.c.kind == "approve")
        (event,) = connection.execute(query).mappings()
    word = loads(event["detail"])
    assert (event["by"], word["key"]) == ("ben", "officer")
    assert loads(word["signed"])["client_order_id"] == "o-1"


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"owner": "ben"}, "may not approve"),
        ({"owner": "ann", "may_approve": True}, "as 'officer' is"),
    ],
)
def test_a_key_approves_only_what_is_not_its_owners_and_only_if_it_may(
    desk: TrustDesk, bounds: dict[str, Any], words: str
) -> None:
    held(desk)
    assert words in refused(desk, "ben", signer=desk.key("officer", **bounds))


def test_an_order_cannot_approve_itself(desk: TrustDesk) -> None:
    held(desk, may_approve=True)
    assert "as 'trader' is" in refused(desk, "ben", signer=signer("trader"))


def test_a_setting_lets_one_pair_of_eyes_do(make: Make) -> None:
    desk = make(self_approval=True)
    held(desk)
    with OrderClient(desk.settings) as client:
        approve(client, "o-1", by="ann")
    assert desk.stands()[0] == "queued"


def test_whoever_submitted_an_order_may_give_it_up(desk: TrustDesk) -> None:
    held(desk)
    with OrderClient(desk.settings) as client:
        deny(client, "o-1", by="ann")
    assert desk.stands() == ("denied", "not_approved")


# -- AN APPROVAL IS OF THE TERMS THAT WERE APPROVED ---
def stand(desk: TrustDesk, where: str) -> None:
    """Let an order of ann's key, for 5 shares, be approved and stand where a replace finds it."""
    later = {"version": 2, "not_before": (datetime.now(UTC) + timedelta(seconds=60)).isoformat()}
    by = desk.key("trader", needs_approval=True, owner="ann")
    body = order(**LOW, **(later if where == "held" else {}))
    desk.desk.place.intake.take([sealed(by, body)], "alpaca")
    with OrderClient(desk.settings) as client:
        approve(client, "o-1", by="ben")
    if where == "live":
        desk.desk.place.work(["o-1"])
    assert desk.stands() == ({"held": "held", "queued": "queued", "live": "accepted"}[where], None)


def ask(desk: TrustDesk, way: str, **terms: str) -> None:
    """Ask for other terms: as a client that may write rows, by a signed message, or by a wish on the row."""
    word = wish(signer("trader"), "replace", client_order_id="o-1", **terms)
    if way == "message":
        desk.desk.wishes.record_replace(desk.desk.wishes.judge("replace", word.to_wire()))
    elif way == "wish":
        with desk.database.write() as connection:
            connection.execute(update(orders).values(wishes=[{"kind": "replace", **word.to_wire()}]))
        desk.desk.batches.change(["o-1"], desk.desk.wishes._take_all_left)  # by itself on PostgreSQL alone
    else:
        with OrderClient(desk.settings) as client, suppress(InvalidOrder):
            client.replace("o-1", **terms)
    desk.desk.replacements.carry_out(["o-1"])


@pytest.mark.parametrize("way", ["row", "message", "wish"])
@pytest.mark.parametrize("where", ["held", "queued", "live"])
def test_what_is_approved_can_only_become_less(desk: TrustDesk, where: str, way: str) -> None:
    stand(desk, where)
    for terms in ({"quantity": "5000"}, {"limit_price": "2"}, {"quantity": "4", "limit_price": "2"}):
        ask(desk, way, **terms)
        row = desk.row()
        assert (row["quantity"], row["limit_price"], row["replace_request"]) == (5, 1, None)
    ask(desk, way, quantity="3")
    assert (desk.row()["quantity"], desk.row()["limit_price"]) == (3, 1)
    ask(desk, way, quantity="5")
    assert desk.row()["quantity"] == 3


def test_a_replace_to_more_says_why_not_and_what_to_do(desk: TrustDesk) -> None:
    stand(desk, "live")
    with OrderClient(desk.settings) as client, pytest.raises(InvalidOrder) as why:
        client.replace("o-1", quantity=5000)
    assert "on the terms it has (quantity 5, limit_price 1, time_in_force day)" in str(why.value)
    assert "cancel it and submit anew" in str(why.value)
    ask(desk, "message", quantity="5000")
    assert [detail for kind, detail in desk.events() if kind == "replace_refused"] == [str(why.value)]


def test_an_order_that_waits_for_approval_does_not_grow_before_the_eyes_of_its_approver(desk: TrustDesk) -> None:
    held(desk)
    for way in ("row", "message"):
        ask(desk, way, quantity="5000")
        assert desk.row()["quantity"] == 5
    ask(desk, "message", quantity="4")
    assert (desk.row()["quantity"], desk.stands()[0]) == (4, "held")


def test_a_key_whose_orders_need_approval_lets_no_other_order_grow(desk: TrustDesk) -> None:
    desk.desk.place.submit([sealed(desk.key("free"), order(**LOW))])  # type: ignore[list-item]
    desk.key("trader", needs_approval=True, may_cancel="all")
    ask(desk, "message", quantity="5000")
    assert (desk.row()["quantity"], desk.row()["replace_request"]) == (5, None)
    ask(desk, "message", quantity="4")
    assert desk.row()["quantity"] == 4


def test_a_wish_to_grow_that_somebody_wrote_on_the_row_is_refused_by_the_worker(desk: TrustDesk) -> None:
    """A client of an earlier version knows nothing of this."""
    stand(desk, "live")
    with desk.database.write() as connection:
        connection.execute(update(orders).values(replace_request={"quantity": "5000"}, available_at=datetime.now(UTC)))
        asked = {"client_order_id": "o-1", "at": datetime.now(UTC), "detail": "quantity 5000"}
        steps = {"from_status": "accepted", "to_status": "accepted", "kind": "replace_requested"}
        connection.execute(insert(order_events).values(**asked, **steps))
    desk.desk.replacements.carry_out(["o-1"])
    assert (desk.row()["quantity"], desk.row()["replace_request"]) == (5, None)
    assert desk.events()[-1][0] == "replace_refused"
