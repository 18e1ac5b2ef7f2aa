"""Shells complete commands, options, brokers and ids of orders; what fails offers nothing."""

from __future__ import annotations

import sys

import pytest

from tests.unit.words import Put, Run
from worker.cli.completion import ASKED, answer
from worker.cli.main import app


def offered(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str = "bash"
) -> list[str]:
    """Return what may stand in the place of the last word."""
    monkeypatch.setenv(ASKED, f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        answer(app)
    return capsys.readouterr().out.split()


@pytest.mark.usefixtures("corro")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("corro unres", ["unresolved"]),
        ("corro limits ", ["set", "clear"]),
        ("corro submit KO buy 5 --trail-a", ["--trail-amount"]),
        ("corro orders --broker al", ["alpaca"]),
        ("corro order dip-", ["dip-2", "dip-1"]),
        ("corro cancel dip-1 dip-2", ["dip-2"]),
    ],
)
def test_a_shell_completes_commands_options_brokers_and_ids(
    put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, words: list[str]
) -> None:
    for id_ in ("dip-1", "dip-2", "other"):
        put(id_)
    assert sorted(offered(line, monkeypatch, capsys)) == sorted(words)


@pytest.mark.usefixtures("bare")
def test_without_a_record_a_shell_is_offered_nothing_and_shown_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRO_DATABASE_URL", "postgresql+psycopg://127.0.0.1:1/none")
    assert offered("corro order dip-", monkeypatch, capsys) == []
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("corro")
def test_a_typer_without_its_own_modules_offers_nothing_and_shows_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer._completion_classes", None)
    assert offered("corro unres", monkeypatch, capsys) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef corro"), ("fish", "complete ")])
def test_each_shell_has_its_script(corro: Run, shell: str, sign: str) -> None:
    status, out, _ = corro("completion", shell)
    assert status == 0
    assert sign in out
    assert ASKED in out
