"""Who may trade: what is signed is executed within its key's bounds, and what nobody stands behind is not."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from models.messages import OrderRequest
from models.record.tables import orders
from models.signing import signed_bytes, to_base64
from producers.client import OrderClient
from tests.kit import eventually
from tests.unit.trust_desk import DEPLOYMENT, SECRET, Make, TrustDesk, order, sealed, signer
from worker.control.keys import revoke
from worker.orders.releases import approve


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


# -- WITHOUT KEYS ---
def test_without_keys_an_unsigned_message_trades_as_it_always_did(desk: TrustDesk) -> None:
    desk.submit(order())
    assert desk.stands() == ("filled", None)
    assert {desk.row()[name] for name in ("key_id", "signed_text", "signature", "wishes")} == {None}


def test_a_token_alone_requires_no_signature(desk: TrustDesk) -> None:
    from worker.control.keys import add

    add(desk.database, "page", "token", by="test", owner="test")
    desk.forget()
    desk.submit(order())
    assert desk.stands() == ("filled", None)


# -- SIGNED ---
def test_a_signed_order_trades_and_its_text_stands_beside_it(desk: TrustDesk) -> None:
    body = order()
    desk.submit(sealed(desk.key(), body))
    assert desk.stands() == ("filled", None)
    assert (desk.row()["key_id"], json.loads(desk.row()["signed_text"])) == ("k-1", body)


def test_copies_of_a_signed_order_are_the_same_order(desk: TrustDesk) -> None:
    body = sealed(desk.key(), order())
    desk.submit(body, body)
    desk.submit(body)
    assert len(desk.rows()) == 1
    assert desk.attempts() == [("alpaca", "accepted", None)]


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '"x"', '{"client_order_id": "o-1", "client_order_id": "o-2"}', json.dumps(order(colour="red")),
     json.dumps(order(expires_at=None)), json.dumps(order(quantity="-5"))],
)  # fmt: skip
def test_a_signed_text_that_cannot_be_read_takes_no_id(desk: TrustDesk, text: str) -> None:
    raw = hmac.digest(SECRET, signed_bytes("order", DEPLOYMENT, text), "sha256")
    desk.key()
    desk.submit({"signed": text, "key": "k-1", "sig": to_base64(raw)})
    [row] = desk.rows()
    assert (row["status"], row["reason_code"]) == ("denied", None)
    assert row["client_order_id"].startswith("invalid-")


@pytest.mark.parametrize("name", ["client_order_id", "created_at", "expires_at", "strategy"])
def test_a_signed_order_says_who_asks_for_which_and_until_when(desk: TrustDesk, name: str) -> None:
    body = order()
    del body[name]
    desk.submit(sealed(desk.key(), body))
    [row] = desk.rows()
    assert row["client_order_id"].startswith("invalid-")
    assert f"{name}: is required" in row["reason"]


# -- NOBODY STANDS BEHIND IT ---
def unsigned(desk: TrustDesk, body: dict[str, Any]) -> object:
    desk.key()
    return body


def tampered(desk: TrustDesk, body: dict[str, Any]) -> object:
    good = sealed(desk.key(), body)
    return good | {"signed": good["signed"].replace('"5"', '"500"')}


def of_another_kind(desk: TrustDesk, body: dict[str, Any]) -> object:
    envelope = desk.key().sign("cancel", body).to_wire()
    return {name: envelope[name] for name in ("signed", "key", "sig")}


def of_nobody(desk: TrustDesk, body: dict[str, Any]) -> object:
    desk.key()
    return sealed(signer("k-9"), body)


def of_another_secret(desk: TrustDesk, body: dict[str, Any]) -> object:
    desk.key()
    return sealed(signer(secret=b"x" * 32), body)


def from_elsewhere(desk: TrustDesk, body: dict[str, Any]) -> object:
    desk.key()
    return sealed(signer(deployment="test"), body)


def from_elsewhere_by_our_client(desk: TrustDesk, body: dict[str, Any]) -> object:
    desk.key()
    return signer(deployment="test").sign("order", body).to_wire()


def without_its_secret(desk: TrustDesk, body: dict[str, Any]) -> object:
    good = sealed(desk.key(), body)
    (desk.home / "k-1.secret").unlink()
    return good


NOBODY = [
    (unsigned, "not_signed"), (tampered, "bad_signature"), (of_another_kind, "bad_signature"),
    (of_nobody, "key_unknown"), (of_another_secret, "bad_signature"), (from_elsewhere, "bad_signature"),
    (from_elsewhere_by_our_client, "wrong_deployment"), (without_its_secret, "key_unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "code"), NOBODY, ids=[how.__name__ for how, _ in NOBODY])
def test_what_nobody_stands_behind_is_denied_and_takes_no_id(desk: TrustDesk, how: Any, code: str) -> None:
    desk.submit(how(desk, order()))
    [row] = desk.rows()
    assert (row["status"], row["reason_code"]) == ("denied", code)
    assert row["client_order_id"].startswith("invalid-")
    assert "o-1" in row["reason"], "whoever looks for it finds it"
    assert not desk.attempts(row["client_order_id"])
    (desk.home / "k-1.secret").write_bytes(b"0123456789abcdef0123456789abcdef")
    desk.submit(sealed(signer(), order()))
    assert desk.stands() == ("filled", None), "the id was free for who may use it"


def test_an_order_for_the_databases_own_name_is_told_from_a_forged_one(desk: TrustDesk) -> None:
    desk.key()
    with desk.database.read() as connection:
        marker = desk.desk.vouching.reader.marker(connection)
    desk.submit(sealed(signer(deployment=marker), order()))
    assert [row["reason_code"] for row in desk.rows()] == ["wrong_deployment"]


# -- WHAT A KEY MAY ---
@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"strategies": ["other"]}, "not_permitted"),
        ({"strategies": []}, "not_permitted"),
        ({"symbols": ["PEP"]}, "not_permitted"),
        ({"not_after": ago(1)}, "key_expired"),
        ({"not_before": ago(-86_400)}, "key_expired"),
        ({"strategies": ["dip"], "symbols": ["KO"], "brokers": ["alpaca"], "not_before": ago(60)}, None),
    ],
)
def test_a_key_reaches_as_far_as_its_bounds(desk: TrustDesk, bounds: dict[str, Any], code: str | None) -> None:
    desk.submit(sealed(desk.key(**bounds), order()))
    assert desk.stands() == (("denied", code) if code else ("filled", None))
    assert bool(desk.attempts()) is (code is None)


def test_an_order_goes_on_to_a_broker_that_its_key_reaches(desk: TrustDesk) -> None:
    desk.submit(sealed(desk.key(brokers=["tda"]), order()))
    assert (desk.row()["status"], desk.row()["broker"]) == ("queued", "tda")
    assert desk.attempts() == [("alpaca", "not_sent", "not_permitted")]


def test_an_order_whose_key_reaches_none_of_its_brokers_ends_with_that_code(desk: TrustDesk) -> None:
    desk.submit(sealed(desk.key(brokers=["tda"]), order(route=["alpaca"])))
    assert desk.stands() == ("denied", "not_permitted")
    assert desk.attempts() == [("alpaca", "not_sent", "not_permitted")]


def test_revoking_a_key_denies_what_is_queued_under_it(desk: TrustDesk) -> None:
    by = desk.key()
    desk.desk.place.intake.take([sealed(by, order())], "alpaca")
    assert desk.stands() == ("queued", None)
    revoke(desk.database, "k-1", by="test", reason="lost")
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("denied", "key_revoked")


# -- ROWS ---
def test_a_client_signs_with_its_key_whatever_it_submits(make: Make) -> None:
    desk = make(require="all")
    desk.key(strategies=["dip"])
    path = desk.home / "k-1.secret"
    with OrderClient(desk.settings, key="k-1", key_file=path) as client:
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=5, strategy="dip", client_order_id="o-1"))
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=5, strategy="x", client_order_id="o-2"))
    with OrderClient(desk.settings) as client:
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=5, strategy="dip", client_order_id="o-3"))
    desk.desk.place.work(["o-1", "o-2", "o-3"])
    stands = [desk.stands(id_) for id_ in ("o-1", "o-2", "o-3")]
    assert stands == [("filled", None), ("denied", "not_permitted"), ("denied", "not_signed")]


def test_as_soon_as_a_key_exists_messages_are_signed_and_rows_need_not_be(desk: TrustDesk) -> None:
    desk.key()
    with OrderClient(desk.settings) as client:
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=5, client_order_id="o-1"))
    desk.desk.place.work(["o-1"])
    desk.submit(order("o-2"))
    assert desk.stands() == ("filled", None)
    assert desk.stands("o-2") == (None, None)


def test_where_signatures_are_off_given_ones_are_checked_all_the_same(make: Make) -> None:
    desk = make(require="off")
    desk.submit(tampered(desk, order("o-1")), order("o-2"))
    assert desk.stands("o-2") == ("filled", None)
    assert [row["reason_code"] for row in desk.rows() if row["client_order_id"] != "o-2"] == ["bad_signature"]


def test_all_can_be_required_before_there_is_a_key(make: Make) -> None:
    desk = make(require="all")
    with OrderClient(desk.settings) as client:
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=5, client_order_id="o-1"))
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("denied", "not_signed")


@pytest.mark.parametrize(
    "forged",
    [{"quantity": 500}, {"symbol": "PEP"}, {"side": "sell_short"}, {"route": ["tda"]}, {"strategy": "other"},
     {"expires_at": ago(-3_000)}, {"signed_text": None}, {"signature": None}, {"key_id": None},
     {"client_order_id": "o-2"}, {"order_type": "limit", "limit_price": 1}],
)  # fmt: skip
def test_a_row_says_what_was_signed_and_nothing_else(make: Make, forged: dict[str, Any]) -> None:
    """Whoever can insert orders, and has seen a signed one, cannot make another one of it."""
    desk = make(require="all")
    by = desk.key()
    desk.desk.place.intake.take([sealed(by, order(route=["alpaca", "tda"]))], "alpaca")
    row = dict(desk.row())
    with desk.database.write() as connection:
        connection.execute(update(orders).values(status="canceled"))
        if "client_order_id" in forged:
            connection.execute(insert(orders).values(**row | forged))
        else:
            connection.execute(update(orders).values(status="queued", **forged))
    id_ = forged.get("client_order_id", "o-1")
    desk.desk.place.work([id_])
    status, code = desk.stands(id_)
    if "route" not in forged:
        assert (status, code) == ("denied", "key_unknown" if "key_id" in forged else "bad_signature")
    else:
        assert status == "denied"


def test_a_signed_order_that_was_held_lives_from_its_release(make: Make) -> None:
    """What is signed bounds when it is submitted; how long it may wait to be sent counts from the release."""
    desk = make(require="all")
    by, soon = desk.key(), (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    desk.desk.place.intake.take([sealed(by, order(version=2, not_before=soon))], "alpaca")
    assert desk.stands() == ("held", None)

    def is_released() -> bool:
        desk.desk.releases.look()
        return desk.stands() == ("queued", None)

    eventually(is_released)
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("filled", None)


def test_an_order_of_a_key_that_needs_approval_waits_for_it(desk: TrustDesk) -> None:
    by = desk.key(needs_approval=True)
    desk.desk.place.intake.take([sealed(by, order())], "alpaca")
    assert desk.stands()[0] == "held"
    with OrderClient(desk.settings) as client:
        approve(client, "o-1", by="ann")
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("filled", None)


def test_a_row_that_skips_its_approval_is_denied(desk: TrustDesk) -> None:
    by = desk.key(needs_approval=True)
    desk.desk.place.intake.take([sealed(by, order())], "alpaca")
    with desk.database.write() as connection:
        connection.execute(update(orders).values(status="queued", held_for=None))
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("denied", "bad_signature")
