"""One small world of the long run (`make soak`), with a seed of its own: the same storm, the same check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.storm import Storm
from tests.soak.tally import Tally


@pytest.mark.timeout(150)
def test_a_storm_doubles_no_order_loses_none_and_tells_no_guess(tmp_path: Path) -> None:
    tally = Tally()
    tally.add(Storm(seed=7, number=0, orders=110, home=tmp_path / "w", expires_s=12.0).run())

    assert tally.clean, tally.found
    assert tally.faults > 200
    assert tally.crossed > 50
    kinds = {label.partition(": ")[2] or label for label in tally.rows}
    assert {"message twice", "taken, half an answer", "update lost", "refused"} <= kinds
    assert any(kind.startswith("worker kill -9") for kind in kinds)
    assert tally.became["filled elsewhere"], "no order fell back, so nothing of that was tried"
