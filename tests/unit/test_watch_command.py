"""`corro watch`: the first line of its screen, and that it needs one."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.unit.words import Run
from worker.cli.watch import head
from worker.fleet.picture import Picture

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def test_its_head_has_every_brokers_state_and_counts_what_is_open() -> None:
    rows: list[dict[str, object]] = [
        {"broker": "ibkr", "state": "silent"}, {"broker": "ibkr", "state": "ready"},
        {"broker": "alpaca", "state": "disconnected"}, {"broker": "tda", "state": "stopped"},
    ]  # fmt: skip
    parts = head(Picture(rows, []), ["queued", "filled", "queued", "accepted"], NOW)
    words = "".join(part if isinstance(part, str) else part[0] for part in parts)
    assert words == "14:30:00 UTC  ibkr ready  alpaca disconnected  tda stopped  1 accepted  2 queued"


def test_without_a_terminal_it_says_what_there_is_instead(corro: Run) -> None:
    status, _, said = corro("watch")
    assert status == 2
    assert "corro events --follow" in said
