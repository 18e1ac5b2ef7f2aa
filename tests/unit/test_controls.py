"""Who stops trading, and who lets it go on, has a name; a reason has words. The journal is read years later."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from sqlalchemy import select

from models.errors import CorroError, InvalidRequest
from models.record.database import Database
from models.record.tables import control_events, halts
from tests.unit.words import Put, Run
from worker.control.controls import resume, stop
from worker.control.scopes import Scope
from worker.positions.ledger import unlock

BLANK = ("", " ", "\t \n", "\u200b", "\u00a0", "\x00")


def kept(database: Database) -> list[str]:
    with database.read() as connection:
        acts = list(connection.execute(select(control_events.c.kind)).scalars())
        return acts + list(connection.execute(select(halts.c.kind)).scalars())


@pytest.mark.parametrize("text", BLANK)
@pytest.mark.parametrize(
    "act",
    [
        lambda db, text: stop(db, Scope(), "halt", text, "ana"),
        lambda db, text: stop(db, Scope(), "halt", "storm", text),
        lambda db, text: stop(db, Scope("broker", "ibkr"), "drain", text, "ana"),
        lambda db, text: resume(db, Scope(), by=text),
        lambda db, text: resume(db, None, by="ana", reason=text),
    ],
)
def test_no_control_is_set_or_ended_by_nobody_or_for_no_reason(
    act: Callable[[Database, str], object], text: str, database: Database
) -> None:
    with pytest.raises(InvalidRequest, match=r"by: must be a name|reason: must say why"):
        act(database, text)
    assert kept(database) == []


@pytest.mark.parametrize("name", ["a" * 129, "ana\x1b[2J", "ana\nbob"])
def test_a_name_is_one_line_that_the_journal_can_hold(name: str, database: Database) -> None:
    with pytest.raises(InvalidRequest, match="by: must be a name"):
        stop(database, Scope(), "halt", "storm", name)


def test_what_has_a_name_and_a_reason_is_kept(database: Database) -> None:
    stop(database, Scope(), "halt", "a storm\nover the bay", "a" * 128)
    resume(database, Scope(), by="ana", reason="sun")
    assert kept(database) == ["halt", "resume"]
    with pytest.raises(CorroError):
        unlock(database, "tda", "KO", by="", reason="split")


@pytest.mark.parametrize(
    "typed",
    [
        ("halt", "--by", "ana", "--reason", ""),
        ("halt", "--by", "ana", "--reason", "  "),
        ("halt", "--reason", "storm", "--by", ""),
        ("halt", "--broker", "ibkr", "--reason", "storm", "--by", " "),
        ("drain", "ibkr", "--reason", ""),
        ("drain", "ibkr", "--by", "\t"),
        ("resume", "--reason", "sun", "--by", ""),
        ("resume", "--by", "ana", "--reason", " "),
    ],
)
def test_the_command_line_refuses_the_same_in_one_line_with_exit_2(
    typed: tuple[str, ...], corro: Run, database: Database
) -> None:
    status, out, err = corro(*typed)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert f"{typed[-2].removeprefix('--')}: must" in err
    assert kept(database) == []


@pytest.mark.parametrize("names", [
    {}, {"strategy": "x; touch $(a) `b` 'c' \"d\" --all", "symbol": "KO"}, {"account": "ibkr:U1 & U2"},
])  # fmt: skip
def test_the_command_that_ends_a_control_is_whole_and_can_be_pasted(names: dict[str, str], corro: Run) -> None:
    scope, who = Scope.of(**names), ("--by", "ana", "--reason", "storm")
    said = corro("halt", *(word for kind, name in names.items() for word in (f"--{kind}", name)), *who)[1]
    command = said.strip().removeprefix(f"halt: {scope.words}; `").removesuffix("` ends it")
    assert f"`{command}` ends it" in " ".join(corro("fleet")[2].split())
    assert corro(*shlex.split(command)[1:])[0] == 0, command
    assert json.loads(corro("controls", "--json")[1]) == []


def test_what_is_stopped_and_resumed_is_one_json_document(corro: Run, database: Database) -> None:
    """The row of `v_controls`, or a list of them; nothing else stands on stdout."""
    who = ("--by", "ana", "--reason", "storm", "--json")
    asked = {"halt": ("--symbol", "KO"), "reduce": ("--strategy", "dip"), "drain": ("ibkr",)}
    told = {kind: json.loads(corro(kind, *words, *who)[1]) for kind, words in asked.items()}
    places = {kind: (row["scope_kind"], row["scope"], row["state"]) for kind, row in told.items()}
    assert places == {
        "halt": ("symbol", "KO", "halted"),
        "reduce": ("strategy", "dip", "reducing"),
        "drain": ("broker", "ibkr", "draining"),
    }
    by_scope = {row["scope"]: row for row in json.loads(corro("controls", "--json")[1])}
    assert {row["scope"]: row for row in told.values()} == by_scope
    assert json.loads(corro("halt", "--broker", "ibkr", *who)[1])["state"] == "halted", "not the drain of that broker"
    assert json.loads(corro("resume", "--symbol", "KO", *who)[1]) == [told["halt"]]
    assert len(json.loads(corro("resume", "--all", *who)[1])) == 3
    assert json.loads(corro("resume", *who)[1]) == []


def test_the_journals_are_listed_from_a_time_until_another(corro: Run, database: Database) -> None:
    stop(database, Scope(), "halt", "storm", "ana")
    asked = {("--since", "1h"): 1, ("--until", "1h"): 0, ("--since", "2020-01-01", "--until", "2099-01-01"): 1}
    for options, count in asked.items():
        assert len(json.loads(corro("controls", "--log", "--json", *options)[1])) == count, options
        assert len(json.loads(corro("controls", "--json", *options)[1])) == count, options
        assert json.loads(corro("locks", "--log", "--json", *options)[1]) == []
    assert corro("locks", "--since", "1h")[0] == 2


WHO = ("--by", "ana", "--reason", "storm")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("halt", "--broker", "ibrk"), "nothing here has the broker 'ibrk' so far; near: ibkr"),
        (("halt", "--strategy", "dipp"), "nothing here has the strategy 'dipp' so far; near: dip"),
        (("reduce", "--symbol", "KOO"), "nothing here has the symbol 'KOO' so far; near: KO"),
        (("halt", "--account", "ibrk:ira"), "nothing here has the account 'ibrk:ira' so far"),
        (("halt", "--strategy", "dip", "--key", "dip-1"), "nothing here has the key 'dip-1' so far"),
        (("kill", "--strategy", "dipp", "--yes", "--patience", "0"), "nothing here has the strategy 'dipp' so far"),
        (
            ("limits", "set", "max_value", "5", "--strategy", "dipp", "--symbol", "KOO"),
            "the symbol 'KOO' so far; near: KO",
        ),
        (("limits", "set", "max_value", "5", "--key", "dip-1"), "nothing here has the key 'dip-1' so far"),
        (("keys", "add", "k", "--alg", "token", "--strategies", "dipp"), "the strategy 'dipp' so far; near: dip"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_what_nothing_here_is_called_is_taken_and_told(
    typed: tuple[str, ...], words: str, corro: Run, put: Put
) -> None:
    put("o-1", strategy="dip", symbol="KO")
    status, _, err = corro(*typed, *WHO)
    assert status == 0, err
    assert words in " ".join(err.split())
    if typed[0] in ("halt", "reduce", "kill"):
        assert len(json.loads(corro("controls", "--json")[1])) == 1
        assert corro("resume", *typed[1:3], *typed[3:5] * (typed[0] == "halt"), *WHO)[0] == 0
        assert json.loads(corro("controls", "--json")[1]) == []


@pytest.mark.parametrize("typed", [(), ("--strategy", "dip"), ("--symbol", "ko"), ("--broker", "ibkr")])
def test_of_what_is_here_nothing_is_remarked(typed: tuple[str, ...], corro: Run, put: Put) -> None:
    put("o-1", strategy="dip", symbol="KO")
    status, _, err = corro("halt", *typed, *WHO)
    assert (status, "nothing here has" in err) == (0, False)
