"""Four eyes: who approves an order is not who submitted it, by name and by key."""

from __future__ import annotations

from typing import Any

import pytest

from models.encoding import loads
from models.errors import Untrusted
from models.record.tables import control_events
from producers.client import OrderClient
from tests.unit.trust_desk import Make, TrustDesk, order, sealed, signer
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
