"""A test process that is ended early leaves no server behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.kit import ROOT, clean_environment, eventually

#: A test process as pytest makes it: a server of the tests, a process in a session of its own, and an embedded queue.
_PROCESS = """
import subprocess, sys, time
from tests import reaper
reaper.watch()
home = reaper.folder("reaped")
reaper.owns(home)
from models.settings import load_settings
from worker.messaging.embedded_queue import EmbeddedQueue
queue = EmbeddedQueue(load_settings(home=home))
queue.acquire()
from tests.kit import PostgresServer
server = PostgresServer()
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", server.server.get_pid(), other.pid, (home / "queue.pid").read_text().strip(), server.home, flush=True)
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
        ready = next(line for line in process.stdout if line.startswith("ready"))
        _, *servers, home = ready.split()
        assert len([pid for pid in servers if psutil.pid_exists(int(pid))]) == 3
        process.send_signal(number)
        process.wait(20)
    for pid in servers:
        eventually(lambda pid=pid: not psutil.pid_exists(int(pid)), 20, f"process {pid} still runs")
    eventually(lambda: not Path(home).exists(), 20, f"{home} is still there")
