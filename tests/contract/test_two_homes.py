"""Two homes side by side: what belongs to one reaches no sandbox of the other, though the other has got its ports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import ConfigurationError, CorroError
from models.messages import OrderRequest
from models.settings import Settings, load_settings
from worker import brokers
from worker.brokers.base import Ticket
from worker.pacing.budget import Use, using
from worker.sandbox.control import SandboxControl
from worker.sandbox.market.ledger import read_ledger

DOORS = ("ibkr", "alpaca", "tda")
_SERVE = (
    "import asyncio, json, pathlib, sys; from worker.sandbox.server import serve;"
    "asyncio.run(serve(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])))"
)


class Homes:
    """Sandboxes by home."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, home: str, ports: dict[str, int] | None = None) -> Settings:
        """Start one on free ports or on these; return the settings of somebody there who has configured nothing."""
        place = self.path / home
        self.running[home] = subprocess.Popen([sys.executable, "-c", _SERVE, str(place), json.dumps(ports or {})])
        SandboxControl.at(place)
        return load_settings(home=place)

    def kill(self, home: str) -> None:
        """End one without a goodbye: its note stays."""
        self.running[home].kill()
        self.running.pop(home).wait()

    def take_over(self, loser: str, winner: str) -> None:
        """Kill one; another one gets its ports, as the usual ones pass from home to home."""
        note = load_settings(home=self.path / loser).sandbox_note
        assert note
        self.kill(loser)
        got = self.start(winner, note.ports).sandbox_note
        assert got
        assert got.ports == note.ports
        assert got.name != note.name

    def seen(self, home: str) -> list[str]:
        return [line["event"] for line in read_ledger(self.path / home / "ledger.jsonl")]


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    found = Homes(tmp_path)
    yield found
    for home in list(found.running):
        found.kill(home)


@pytest.mark.parametrize("name", DOORS)
def test_where_no_sandbox_runs_no_other_one_is_looked_for(name: str, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "empty")
    with pytest.raises(ConfigurationError, match=r"no sandbox runs in .*empty: start `corro up`"):
        brokers.load(settings, name)
    assert settings.route == DOORS


@pytest.mark.parametrize("name", DOORS)
def test_a_worker_whose_sandbox_is_gone_is_not_let_in_by_the_one_that_has_got_its_ports(
    name: str, homes: Homes
) -> None:
    mine = homes.start("mine")
    homes.take_over("mine", "theirs")
    broker = brokers.load(mine, name)
    with pytest.raises(CorroError) as said:
        broker.connect()
    assert not broker.is_connected()
    assert name != "ibkr" or f"not {mine.sandbox_note.name}" in str(said.value)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", DOORS)
def test_an_order_sent_over_a_connection_of_before_is_not_taken_by_the_one_that_has_got_the_ports(
    name: str, homes: Homes
) -> None:
    broker = brokers.load(homes.start("mine"), name)
    broker.connect()
    assert broker.is_connected()
    homes.take_over("mine", "theirs")
    order = OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="mine-1")
    with pytest.raises(CorroError), using(Use.ORDER):
        broker.place_order(Ticket(order=order, broker_client_order_id="mine-1", deadline_s=4.0, still_mine=lambda: 5.0))
    assert homes.seen("theirs") == ["opened"]
    broker.disconnect()


@pytest.mark.parametrize("name", DOORS)
def test_a_sandbox_started_again_in_its_home_lets_in_who_was_there_before(name: str, homes: Homes) -> None:
    before = homes.start("mine")
    broker = brokers.load(before, name)
    assert before.sandbox_note
    homes.kill("mine")
    homes.start("mine", before.sandbox_note.ports)
    broker.connect()
    assert broker.is_connected()
    broker.disconnect()
