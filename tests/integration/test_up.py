"""`corro up` as its user meets it: the README line by line, Ctrl-C and again, twice at once, killed; logs and files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.kit import ROOT, clean_environment, eventually

README = (ROOT / "README.md").read_text()
CORRO = [sys.executable, "-m", "worker.cli"]
#: The README's id in the place of its placeholder.
NAMES = {"ID": "my-key-1"}


class Home:
    """A directory of its own, in which somebody types."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / ".corro"
        self.environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
        self.running: subprocess.Popen[bytes] | None = None

    def up(self) -> subprocess.Popen[bytes]:
        """Run `corro up` until it says that it is."""
        with (self.path / "up.out").open("w") as out, (self.path / "up.err").open("w") as err:
            self.running = subprocess.Popen([*CORRO, "up"], cwd=self.path, env=self.environment, stdout=out, stderr=err)
        eventually(lambda: self.running.poll() is not None or self.said("up.out"), 60)
        assert self.said("up.out").startswith("corro is up"), self.said("up.err")
        return self.running

    def said(self, name: str) -> str:
        """Return what `corro up` has said."""
        return (self.path / name).read_text()

    def down(self) -> int:
        """Press Ctrl-C; return the exit status."""
        assert self.running
        self.running.send_signal(signal.SIGINT)
        return self.running.wait(60)

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line as it stands in a document."""
        words = [NAMES.get(word, word) for word in shlex.split(line, comments=True)]
        assert words[0] == "corro"
        return subprocess.run(
            [*CORRO, *words[1:]], cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def order(self, id_: str, column: str = "status") -> str:
        """Return what the record says of an order."""
        with contextlib.closing(sqlite3.connect(self.home / "corro.db")) as record:
            query = f"SELECT {column} FROM orders WHERE client_order_id = ?"
            return str(record.execute(query, (id_,)).fetchone()[0])

    def lines(self) -> list[str]:
        """Every line of the workers' logs."""
        return [line for name in ("ibkr", "alpaca", "tda") for line in self._log(name)]

    def _log(self, name: str) -> list[str]:
        return (self.home / "logs" / f"{name}.log").read_text().splitlines()


def typed(heading: str) -> list[str]:
    """Return the commands of a section of the README, without `corro up` itself."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    return [line for line in found if not line.startswith("corro up")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("up"))
    made.up()
    yield made
    if made.running and made.running.poll() is None:
        made.down()


def test_every_command_of_send_an_order_and_read_the_history_does_what_it_says(home: Home) -> None:
    lines = [*typed("Send an order"), *typed("Read the history")]
    assert len(lines) >= 8
    for line in lines:
        if "cancel" in line:  # a person reads what the line before has said
            eventually(lambda: home.order("my-key-1", "limit_price").startswith("40.25"), 10)
        said = home.type(line)
        assert said.returncode == 0, (line, said)
    eventually(lambda: home.order("my-key-1") == "canceled", 10)


def test_the_rehearsal_of_a_fallback_runs_as_it_is_written(home: Home) -> None:
    assert "`corro sandbox fault ibkr down`, submit, `corro order ID`,\n`corro sandbox clear`" in README
    try:
        assert home.type("corro sandbox fault ibkr down").returncode == 0
        sent = home.type("corro submit MSFT buy 3 --id fell-1 --wait --json")
        assert (sent.returncode, json.loads(sent.stdout)["broker"]) == (0, "alpaca"), sent
        assert "not_sent" in home.type("corro order fell-1").stdout
    finally:
        assert home.type("corro sandbox clear").returncode == 0


def test_an_order_is_followed_by_its_id_through_logs_that_are_all_json(home: Home) -> None:
    assert [line for line in home.lines() if not line.startswith("{")] == []
    steps = [json.loads(line) for line in home.lines() if '"fell-1"' in line]
    steps.sort(key=lambda step: step["timestamp"])
    told = [(step["event"], step["broker"]) for step in steps if step["event"].startswith("order_")]
    told = [step for step in told if step[0] != "order_not_accepted"]
    assert told[:3] == [("order_claimed", "ibkr"), ("order_requeued", "ibkr"), ("order_claimed", "alpaca")]
    # The answer and the fill are told by two threads, each after its own commit.
    assert sorted(told[3:]) == [("order_accepted", "alpaca"), ("order_filled", "alpaca")]
    assert steps[0]["recorded_at"] < steps[0]["timestamp"]
    events = [json.loads(line)["event"] for line in home.lines() if '"my-key-1"' in line]
    assert events == ["order_claimed", "order_accepted", "order_replaced", "order_canceled"]


def test_no_line_of_a_log_calls_the_queue_a_broker(home: Home) -> None:
    for line in map(json.loads, home.lines()):
        assert line.get("broker", "ibkr") in ("ibkr", "alpaca", "tda", "schwab"), line
        assert not re.search(r"redis.*broker|broker.*redis", line["event"], re.IGNORECASE), line


def test_what_corro_makes_is_its_users_alone_and_no_process_leaves_a_core(home: Home) -> None:
    for path in (home.home, *home.home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))
    assert home.running
    seen = [home.running.pid, *map(int, _children(home.running.pid))]
    assert len(seen) >= 5
    for pid in seen:
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), pid
        assert "Umask:\t0077" in Path(f"/proc/{pid}/status").read_text(), pid


def test_the_control_door_lets_in_only_who_can_read_the_home(home: Home) -> None:
    known = json.loads((home.home / "sandbox.json").read_text())
    url = f"http://127.0.0.1:{known['ports']['control']}/faults"
    right = {"Authorization": f"Bearer {known['token']}"}
    body = json.dumps({"door": "tda", "kind": "slow", "count": 1})

    def answer(**headers: str) -> int:
        sent = {**right, "Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return requests.post(url, data=body, headers={k: v for k, v in sent.items() if v}, timeout=5).status_code

    assert answer(Host="evil.example") == 403
    assert answer(Origin="http://evil.example") == 403
    assert answer(Content_Type="text/plain") == 415
    assert answer(Content_Type="application/x-www-form-urlencoded") == 415
    assert answer(Authorization="") == 401
    assert answer(Authorization="Bearer wrong") == 401
    assert requests.get(url, headers=right, timeout=5).json() == []
    assert answer() == 201
    assert home.type("corro sandbox clear").returncode == 0


def test_the_line_of_fleet_check_is_one(home: Home) -> None:
    def said() -> tuple[int, str]:
        told = home.type("corro fleet --check")
        return told.returncode, told.stdout

    # IB's worker comes back from the rehearsal when its pause is over.
    eventually(lambda: said() == (0, "ok: ibkr, alpaca, tda take orders\n"), 30, said)


def test_a_second_up_on_a_running_home_says_who_runs(home: Home) -> None:
    assert home.running
    said = home.type("corro up")
    assert said.returncode == 1
    assert f"(pid {home.running.pid})" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_after_ctrl_c_and_up_again_a_resting_order_is_canceled(home: Home) -> None:
    for door, id_ in (("alpaca", "rest-1"), ("ibkr", "rest-2")):
        assert home.type(f"corro submit KO buy 5 --limit 40 --route {door} --id {id_}").returncode == 0
        eventually(lambda id_=id_: home.order(id_) == "accepted", 10)
    assert home.down() in (0, 130)
    home.up()
    for id_ in ("rest-1", "rest-2"):
        assert home.type(f"corro cancel {id_}").returncode == 0
    for id_ in ("rest-1", "rest-2"):
        eventually(lambda id_=id_: home.order(id_) == "canceled", 15)
    assert home.type("corro locks --json").stdout == "[]\n"


def test_what_a_killed_up_leaves_behind_ends_by_itself_and_one_market_writes_the_ledger(home: Home) -> None:
    assert home.running
    left = _children(home.running.pid)
    market = json.loads((home.home / "sandbox.json").read_text())["pid"]
    assert str(market) in left
    home.running.kill()
    home.running.wait(10)
    home.up()
    assert json.loads((home.home / "sandbox.json").read_text())["pid"] != market
    ours = [pid for pid in left if "valkey" not in _command(pid)]
    eventually(lambda: not any(_runs(pid) for pid in ours), 20)
    sent = home.type("corro submit AAPL buy 1 --wait --id after-1")
    assert sent.returncode == 0, sent


def test_the_terminal_of_up_says_that_the_database_was_removed_and_what_to_do(home: Home) -> None:
    (home.home / "corro.db").rename(home.home / "elsewhere.db")
    eventually(lambda: "database_lost" in home.said("up.err"), 10)
    (told,) = (json.loads(line) for line in home.said("up.err").splitlines() if "database_lost" in line)
    assert told["level"] == "critical"
    assert "was removed while in use: put the right file there and start this process again" in told["error"]
    fleet = home.type("corro fleet")
    assert fleet.returncode == 2
    assert "put the database back" in fleet.stderr
    (home.home / "elsewhere.db").rename(home.home / "corro.db")
    assert home.down() in (0, 130)
    home.up()
    assert home.type("corro submit AAPL buy 1 --wait --id after-2").returncode == 0


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False
