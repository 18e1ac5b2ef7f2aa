"""`corro keys`: added with its bounds, listed without its secret, revoked by somebody with a name."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from sqlalchemy import select

from models.record.database import Database
from models.record.keys import by_token
from models.record.tables import control_events
from tests.unit.words import Run

ADD = ("keys", "add", "dip-1", "--alg", "hmac-sha256", "--owner", "ann")


@pytest.fixture
def secret(bare: Path) -> str:
    path = bare / "dip.secret"
    path.write_text("0123456789abcdef\n")
    return str(path)


def journal(database: Database) -> list[tuple[str, str, str, str]]:
    e = control_events.c
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(select(e.kind, e.scope, e.by, e.reason).order_by(e.id))]  # type: ignore[misc]


def test_a_key_is_added_listed_and_revoked_and_the_journal_keeps_who(
    corro: Run, database: Database, secret: str
) -> None:
    bounds = (
        "--strategies",
        "dip, dividends",
        "--symbols",
        "ko,PEP",
        "--brokers",
        "alpaca",
        "--may-cancel",
        "strategy",
    )
    assert corro(*ADD, "--secret-file", secret, *bounds, "--not-after", "2099-01-01", "--by", "ann", "--json")[0] == 0
    [row] = json.loads(corro("keys", "list", "--json")[1])
    assert (row["strategies"], row["symbols"], row["brokers"]) == (["dip", "dividends"], ["KO", "PEP"], ["alpaca"])
    assert (row["state"], row["may_cancel"], row["not_after"]) == ("valid", "strategy", "2099-01-01T00:00:00Z")
    assert "0123456789" not in json.dumps(row)
    assert corro("keys", "revoke", "dip-1", "--by", "bob", "--reason", "lost")[0] == 0
    assert json.loads(corro("keys", "list", "--json")[1])[0]["state"] == "revoked"
    assert journal(database) == [("key_add", "dip-1", "ann", None), ("key_revoke", "dip-1", "bob", "lost")]


def test_the_list_tells_who_may_operate_and_approve_and_whose_orders_wait(corro: Run) -> None:
    for name, more in (("ops", "--operator"), ("officer", "--may-approve"), ("new", "--needs-approval")):
        assert corro("keys", "add", name, "--alg", "token", more, "--by", "ann")[0] == 0
    head, *rows = (line.split("\t") for line in corro("keys", "list")[1].splitlines())
    said = {row[0]: {name for name, cell in zip(head, row, strict=True) if cell == "True"} for row in rows}
    assert said == {"ops": {"operator"}, "officer": {"may_approve"}, "new": {"needs_approval"}}


def test_a_new_private_key_is_its_owners_alone(corro: Run, bare: Path) -> None:
    pytest.importorskip("cryptography")
    path = bare / "new.pem"
    add = ("keys", "add", "dip-1", "--make-file", str(path))
    assert corro(*add)[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    status, _, said = corro(*add[:2], "dip-2", *add[3:])
    assert (status, "is there already" in said) == (2, True), "a key that is in use is not written over"
    link, elsewhere = bare / "link.pem", bare / "elsewhere.pem"
    link.symlink_to(elsewhere)
    status, _, said = corro("keys", "add", "dip-3", "--make-file", str(link))
    assert (status, "is there already" in said) == (2, True), "nor is a link followed that leads nowhere yet"
    assert not elsewhere.exists()


def test_a_token_is_shown_once_and_kept_as_its_digest(corro: Run, database: Database) -> None:
    status, token, _ = corro("keys", "add", "page", "--alg", "token", "--operator")
    token = token.strip().splitlines()[-1]
    assert status == 0
    assert token.startswith("corro_page_")
    assert token not in corro("keys", "list", "--json")[1]
    with database.read() as connection:
        found = by_token(connection, token)
        assert found is not None
        assert (found["key_id"], found["operator"], token in str(found)) == ("page", True, False)
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        assert by_token(connection, wrong) is None
        assert by_token(connection, "corro_none_" + "0" * 64) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("keys", "add", "a b", "--alg", "token"), "key_id"),
        (("keys", "add", "k", "--alg", "rsa"), "alg: must be one of"),
        (("keys", "add", "k", "--alg", "token", "--public", "x"), "nothing: it is made here"),
        (("keys", "add", "k"), "--make-file or --public"),
        (("keys", "add", "k", "--public", "x"), "32 bytes"),
        (("keys", "add", "k", "--alg", "hmac-sha256", "--secret-file", "nowhere"), "No such file"),
        (("keys", "add", "k", "--alg", "token", "--may-cancel", "some"), "may_cancel"),
        (("keys", "add", "k", "--alg", "token", "--brokers", "nobody"), "no broker 'nobody'"),
        (("keys", "add", "k", "--alg", "token", "--owner", " "), "owner"),
        (
            ("keys", "add", "k", "--alg", "token", "--not-before", "2030-01-01", "--not-after", "2029-01-01"),
            "not_after",
        ),
        (("keys", "revoke", "k"), "--by and --reason are required"),
        (("keys", "revoke", "k", "--by", "ann", "--reason", " "), "reason"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    corro: Run, database: Database, arguments: tuple[str, ...], words: str
) -> None:
    status, _, said = corro(*arguments)
    assert (status, words in said) == (2, True), said
    assert journal(database) == []


def test_the_id_of_a_key_is_never_another_ones(corro: Run, secret: str) -> None:
    assert corro(*ADD, "--secret-file", secret)[0] == 0
    assert corro("keys", "revoke", "dip-1", "--by", "a", "--reason", "b")[0] == 0
    status, _, said = corro(*ADD, "--secret-file", secret)
    assert (status, "never another key's" in said) == (2, True)
    assert corro("keys", "revoke", "dip-1", "--by", "a", "--reason", "b")[0] == 2
    assert corro("keys", "revoke", "dip-9", "--by", "a", "--reason", "b")[0] == 1
