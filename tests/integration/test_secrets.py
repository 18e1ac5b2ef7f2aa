"""A secret that a broker repeats in its own words is shown nowhere: no command, log, file or row tells it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from tests.kit import World

SECRET = "correct-horse-battery"
#: Every command that shows something of an order, a worker or a queue.
COMMANDS = (
    "orders --json", "order spoken-1", "order spoken-1 --json", "unresolved", "external --json", "positions", "account",
    "fleet", "fleet --json", "check", "controls", "dead-letters --json",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world(["alpaca"], more={"alpaca": {"secret_key": SECRET}})
    made.fleet.start_all()
    return made


def test_no_command_shows_a_secret_that_stands_alone_in_a_brokers_words(world: World) -> None:
    world.control.add_fault("alpaca", "refuse", symbol="KO", text=f"the key {SECRET} is not known here")
    whole = world.orders.wait(world.orders.send("KO", "buy", 1, client_order_id="spoken-1"), "rejected")
    assert "the key *** is not known here" in whole["attempts"][0]["message"]
    for command in COMMANDS:
        said = world.corro(*command.split())
        assert SECRET not in said.out + said.err, command


def test_no_log_and_no_row_holds_the_secret(world: World) -> None:
    for path in (world.home / "logs").iterdir():
        assert SECRET not in path.read_text(), path
    with sqlite3.connect(world.home / "corro.db") as record:
        assert SECRET not in "\n".join(record.iterdump())
