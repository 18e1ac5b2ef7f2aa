"""`corro up --web`: the page is one more process of the fleet, that nobody's trading depends on."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("jinja2")

from models.errors import ConfigurationError
from models.settings import load_settings
from worker.local.processes import WEB, Fleet


def test_the_page_answers_beside_the_fleet_and_ends_with_it(tmp_path: Path) -> None:
    with Fleet(load_settings(home=tmp_path), sandbox=False, brokers=()) as fleet:
        address = fleet.start_web(0)
        with urlopen(f"{address}/healthz", timeout=10) as answer:
            assert json.load(answer)["database"]
        with urlopen(f"{address}/", timeout=10) as answer:
            assert b"SIMULATED" in answer.read()
        process = fleet.processes[WEB].popen
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_page_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Fleet(load_settings(home=tmp_path), sandbox=False, brokers=()) as fleet,
        pytest.raises(ConfigurationError, match="cannot be used: Address already in use"),
    ):
        fleet.start_web(taken.getsockname()[1])
