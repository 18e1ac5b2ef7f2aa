"""`corro submit` never loses the order's id: whatever fails after it was recorded, stderr says what there is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sqlalchemy import Table, select

from models.history import History, v_orders
from models.record import tables
from models.record.database import Database
from tests.kit import eventually
from tests.unit.words import Put, Run

ORDER = ("submit", "AAPL", "buy", "1")
ROOT = Path(__file__).parents[2]


def submit(home: Path, *options: str, stdout: int = subprocess.PIPE, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "worker.cli", *ORDER, *options]
    environment = {**os.environ, "CORRO_HOME": str(home), **more}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)


def typed(home: Path, line: str, **streams: int) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody types it into a shell."""
    environment = {**os.environ, "CORRO_HOME": str(home)}
    line = f"{sys.executable} -m worker.cli {line}"
    return subprocess.run(line, shell=True, cwd=ROOT, env=environment, text=True, **streams)


def recorded(database: Database) -> str:
    """Wait for the order; returns its id."""
    (row,) = eventually(lambda: History(database).rows(v_orders), 30)
    return str(row["client_order_id"])


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_waiting_leaves_the_id_and_how_to_withdraw_the_order(database: Database, bare: Path) -> None:
    process = submit(bare, "--wait")
    id_ = recorded(database)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"order {id_} is queued for ibkr" in err
    assert f"corro cancel {id_}" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("module", ["typer", "models.errors", "worker.cli.main", "worker.cli.fleet"])
def test_ctrl_c_while_a_command_imports_is_an_end_without_a_word(bare: Path, module: str) -> None:
    script = f"""
import os, signal, sys
class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Pressed())
sys.argv = ["corro", "orders"]
from worker.cli.__main__ import main
main()
"""
    environment = {**os.environ, "CORRO_HOME": str(bare)}
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_the_installed_command_is_the_one_that_ends_so() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"corro": "worker.cli.__main__:main"}


@pytest.mark.parametrize("json_wanted", [True, False])
def test_a_wait_that_runs_out_is_status_3_with_the_order_and_how_to_withdraw_it(
    database: Database, corro: Run, json_wanted: bool
) -> None:
    status, out, err = corro(*ORDER, "--wait", "--timeout", "0.1", *(["--json"] if json_wanted else []))
    id_ = recorded(database)
    assert status == 3
    assert "not known yet" in err
    assert f"corro cancel {id_}" in err
    assert (json.loads(out)["client_order_id"] if json_wanted else out.split("\n")[1].split("\t")[0]) == id_


def test_a_full_disk_behind_stdout_is_told_and_the_status_stays_that_of_the_order(
    database: Database, bare: Path
) -> None:
    with open("/dev/full", "w") as full:
        process = submit(bare, stdout=full.fileno())
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert f"order {recorded(database)} is queued" in err
    assert "could not be written" in err


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "<&-", "<&- 2>&-"])
def test_an_order_does_not_hang_on_a_place_for_its_remarks(database: Database, bare: Path, streams: str) -> None:
    ended = typed(bare, f"submit AAPL buy 1 --id unseen-1 {streams}", stdout=subprocess.PIPE)
    assert ended.returncode == 0
    assert "unseen-1" in ended.stdout
    assert recorded(database) == "unseen-1"


@pytest.mark.parametrize("command", ["fleet --check", "db check", "orders --json", "fills"])
def test_an_answer_that_nobody_can_read_is_told_in_a_line(database: Database, bare: Path, command: str) -> None:
    ended = typed(bare, f"{command} >&-", stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert "the answer could not be written" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "table"), [("submit KO buy 1", tables.orders), ("halt --reason fire --by ann", tables.halts)]
)
def test_what_is_asked_for_is_done_where_nobody_can_read_the_answer(
    database: Database, bare: Path, command: str, table: Table
) -> None:
    ended = typed(bare, f"{command} >&-", stderr=subprocess.PIPE)
    assert "Traceback" not in ended.stderr
    with database.read() as connection:
        assert len(connection.execute(select(table)).all()) == 1


def test_an_order_that_was_refused_before_it_was_recorded_is_said_to_be_nowhere(database: Database, corro: Run) -> None:
    status, out, err = corro(*ORDER, "--id", "lost-1", "--route", "moon")
    assert (status, out) == (2, "")
    assert err.splitlines()[:2] == ["order lost-1", "order lost-1 was not recorded: nothing was sent"]
    assert History(database).rows(v_orders) == []


def test_an_id_that_names_another_order_says_how_that_one_stands(corro: Run) -> None:
    corro(*ORDER, "--id", "twice-1")
    status, _, err = corro(*ORDER, "--id", "twice-1", "--limit", "40")
    assert status == 2
    assert "order twice-1 is queued for ibkr" in err
    assert "already names another order" in err


@pytest.mark.parametrize(
    "words",
    [
        ["order", b"\xff"],
        ["submit", "KO", "buy", "1", "--strategy", b"a\xfe"],
        ["halt", "--by", "ann", "--reason", b"\xff"],
    ],
)
def test_an_argument_that_is_no_text_is_refused_in_a_line(database: Database, bare: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "worker.cli", *words]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "CORRO_HOME": str(bare)}, stderr=subprocess.PIPE, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("corro: an argument is no UTF-8 text: b'")
    assert ended.stderr.count("\n") == 1


def test_a_reader_that_went_away_changes_nothing(database: Database, bare: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = submit(bare, "--json", stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert f"order {recorded(database)}" in err
    assert "corro:" not in err
    assert "Broken" not in err


def test_a_terminal_that_lacks_a_character_gets_it_written_out(database: Database, bare: Path) -> None:
    process = submit(bare, "--strategy", "Öl €", PYTHONIOENCODING="ascii:strict", LC_ALL="C")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "\\xd6l \\u20ac" in out
    assert recorded(database) in out


def test_the_id_is_said_before_anything_can_fail_and_then_that_nobody_is_there_to_send_it(
    database: Database, bare: Path, corro: Run
) -> None:
    _, out, err = corro(*ORDER, "--id", "void-1")
    lines = err.splitlines()
    assert lines[0] == "order void-1"
    assert lines[-1] == f"no worker of ibkr has been seen in this database (home {bare})"
    assert "void-1" in out
    assert recorded(database) == "void-1"


def test_a_refused_order_is_not_said_to_exist(put: Put, corro: Run) -> None:
    put("taken-1", symbol="KO")
    status, _, err = corro(*ORDER, "--id", "taken-1")
    assert status == 2
    assert "is queued" not in err


@pytest.mark.parametrize(("status", "word"), [("filled", "filled"), ("rejected", "rejected"), ("accepted", None)])
def test_a_cancel_of_an_order_that_has_ended_says_that_there_is_nothing_to_cancel(
    put: Put, corro: Run, status: str, word: str | None
) -> None:
    put(status=status, broker="ibkr")
    ended, _, err = corro("cancel", "o-1")
    assert ended == 0
    assert (f"there is nothing to cancel: the order is {word}" in err) == bool(word)
