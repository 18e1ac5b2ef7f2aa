"""`corro demo --brake`: the whole way from a limit to a flat account, as a user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.process import ROOT, run_python


@pytest.mark.soak  # a whole fleet for a quarter of a minute: `make slow`
def test_a_runaway_strategy_is_tripped_killed_and_flattened_and_the_ledger_agrees(tmp_path: Path) -> None:
    done = run_python("-m", "worker.cli", "demo", "--brake", "--json", cwd=ROOT, timeout=170, CORRO_HOME=str(tmp_path))
    found = done.json
    assert (done.status, found["problems"], found["ok"]) == (0, [], True), done.err
    assert found["killed"] is True
    assert found["denied"] >= 2
    assert found["canceled"] == 2
    assert found["flattened"] == 3
