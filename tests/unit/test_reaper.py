"""A test process that is ended early leaves no server behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.kit import ROOT, clean_environment, eventually

#: A test process as pytest makes it: a server of the tests, and a process in a session of its own.
_PROCESS = """
import subprocess, sys, time
from tests import reaper
reaper.watch()
from tests.kit import PostgresServer
server = PostgresServer()
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(server.server.get_pid(), other.pid, server.home, flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_test_process_that_is_ended_early_leaves_no_server_behind(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROCESS], cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        server, other, home = process.stdout.readline().split()
        assert psutil.pid_exists(int(server))
        assert psutil.pid_exists(int(other))
        process.send_signal(number)
        process.wait(20)
    for pid in (server, other):
        eventually(lambda pid=pid: not psutil.pid_exists(int(pid)), 20, f"process {pid} still runs")
    eventually(lambda: not Path(home).exists(), 20, f"{home} is still there")
