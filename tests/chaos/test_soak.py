"""One small world of the long run (`make soak`), with a seed of its own: the same storm, the same check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.storm import Storm
from tests.soak.tally import Tally


@pytest.mark.timeout(150)
def test_a_storm_doubles_no_order_loses_none_and_tells_no_guess(tmp_path: Path) -> None:
    tally = Tally()
    tally.add(Storm(seed=7, number=0, orders=80, home=tmp_path / "w", expires_s=8.0).run())

    assert tally.clean, tally.found
    assert tally.faults > 80
    assert tally.crossed > 20
    struck = {label.partition(": ")[2] or label for label in tally.rows}
    for kinds in ("taken", "update", "message", ("worker", "queue", "database", "producer")):
        assert any(kind.startswith(kinds) for kind in struck), (kinds, struck)
    assert tally.became["filled at once"]
