"""Shells complete commands, options, brokers and ids of orders; what fails offers nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.words import Put, Run
from worker.cli.completion import ASKED, answer
from worker.cli.main import app


def offered(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str = "bash") -> str:
    """Return the answer to a shell that asks what may stand in the place of the last word."""
    monkeypatch.setenv(ASKED, f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        answer(app)
    return capsys.readouterr().out


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
    assert sorted(offered(line, monkeypatch, capsys).split()) == sorted(words)


@pytest.mark.usefixtures("corro")
@pytest.mark.parametrize(
    ("shell", "form"), [("zsh", r'[(\n]"([^"]+)"'), ("fish", r"(?m)^([^\t\n]+)")], ids=["zsh", "fish"]
)
def test_zsh_and_fish_are_offered_the_same(
    put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, form: str
) -> None:
    """Each asks by an environment of its own, and is answered in its own form: value and help."""
    put("dip-1")
    asked = {"corro unres": "unresolved", "corro submit KO buy 5 --trail-a": "--trail-amount",
             "corro orders --broker al": "alpaca", "corro order dip-": "dip-1"}  # fmt: skip
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    found = {}
    for line in asked:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        found[line] = re.findall(form, offered(line, monkeypatch, capsys, shell))
    assert found == {line: [word] for line, word in asked.items()}


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed: apt-get install fish")
def test_a_real_fish_completes_by_its_script(corro: Run, bare: Path) -> None:
    (bare / "corro.fish").write_text(corro("completion", "fish")[1])
    environment = {**os.environ, "HOME": str(bare), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    asked = f"source {bare}/corro.fish; complete -C 'corro unres'"
    done = subprocess.run(["fish", "--no-config", "-c", asked], env=environment, capture_output=True, text=True)
    assert done.stdout.partition("\t")[0] == "unresolved", done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed: apt-get install zsh")
def test_a_real_zsh_takes_its_script(corro: Run, bare: Path) -> None:
    (bare / "corro.zsh").write_text(corro("completion", "zsh")[1])
    asked = f"autoload -Uz compinit; compinit -D; source {bare}/corro.zsh; print $_comps[corro]"
    done = subprocess.run(
        ["zsh", "-f", "-c", asked], env={**os.environ, "HOME": str(bare)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "_corro_completion", done.stderr


@pytest.mark.usefixtures("bare")
def test_without_a_record_a_shell_is_offered_nothing_and_shown_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRO_DATABASE_URL", "postgresql+psycopg://127.0.0.1:1/none")
    assert offered("corro order dip-", monkeypatch, capsys).strip() == ""
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("corro")
def test_a_typer_without_its_own_modules_offers_nothing_and_shows_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer._completion_classes", None)
    assert offered("corro unres", monkeypatch, capsys).strip() == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef corro"), ("fish", "complete ")])
def test_each_shell_has_its_script(corro: Run, shell: str, sign: str) -> None:
    status, out, _ = corro("completion", shell)
    assert status == 0
    assert sign in out
    assert ASKED in out
