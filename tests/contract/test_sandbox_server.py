"""The sandbox as a process of its own: its file, its ports, its control door and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from worker.sandbox.control import SandboxControl
from worker.sandbox.market.ledger import read_ledger

DOORS = {"control", "ibkr", "alpaca", "tda", "schwab"}


@contextmanager
def sandbox(home: Path, *options: str) -> Iterator[tuple[SandboxControl, subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "worker.sandbox.server", "--home", str(home), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        yield SandboxControl.at(home), process
    finally:
        process.kill()
        process.communicate()


def test_a_sandbox_tells_where_it_listens_and_leaves_no_trace_of_listening(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with sandbox(home, "--ports-any") as (control, process):
        told = json.loads((home / "sandbox.json").read_text())
        assert told["pid"] == process.pid
        assert set(told["ports"]) == DOORS
        assert control.ports() == told["ports"]
        for port in told["ports"].values():
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        os.kill(process.pid, signal.SIGTERM)
        _, complaints = process.communicate(timeout=10)
        assert (process.returncode, complaints) == (0, b"")
        assert not (home / "sandbox.json").exists()
    assert [line["event"] for line in read_ledger(home / "ledger.jsonl")] == ["opened"]


def test_a_taken_port_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8181))
            taken.listen()
        except OSError:
            pass  # someone else has it: taken all the same
        with sandbox(tmp_path) as (control, _):
            assert control.ports()["ibkr"] != 8181


def test_the_control_door_moves_prices_positions_and_faults(tmp_path: Path) -> None:
    with sandbox(tmp_path, "--ports-any", "--seed", "3") as (control, _):
        assert control.set_price("AAPL", "123.45") == {"bid": "123.44", "ask": "123.46", "last": "123.45"}
        control.set_position("tda", "AAPL", 100)
        account = control.accounts()["tda"]
        assert account["positions"]["AAPL"] == {"quantity": "100", "avg_price": "123.45"}
        assert Decimal(account["cash"]) == 1_000_000
        control.add_fault("alpaca", "refuse", count=2, symbol="AAPL", code=40310000)
        assert [(f["door"], f["kind"], f["options"]) for f in control.faults()] == [
            ("alpaca", "refuse", {"code": 40310000})
        ]
        control.add_faults([{"door": "tda", "kind": "down"}, {"door": "tda", "kind": "refuse", "count": 1}])
        control.clear_faults("tda", "down")
        assert [f["kind"] for f in control.faults()] == ["refuse", "refuse"]
        assert [s["kind"] for s in control.strikes()] == ["down"]
        control.clear_faults("tda")
        assert len(control.faults()) == 1
        control.clear_faults()
        assert control.faults() == control.orders() == control.duplicates() == []
        (line,) = control.ledger()  # a position out of thin air is in the evidence, too
        assert (line["event"], line["door"], line["symbol"], line["quantity"]) == ("position", "tda", "AAPL", "100")
        for mistake in (lambda: control.set_price("NOPE", "1"), lambda: control.add_fault("ibkr", "explode")):
            with pytest.raises(requests.HTTPError):
                mistake()
