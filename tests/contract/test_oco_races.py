"""A target's fill races the cancel of the stop, at every broker that links: no overfill is caused or hidden by us."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.oco_race import desk, races

BROKERS = ("ibkr", "alpaca", "schwab")
#: Seeds of one batch; a symbol of the market for each of them at each broker.
BATCH = 50


def test_an_oco_race_is_neither_overfilled_by_us_nor_told_otherwise(tmp_path: Path) -> None:
    with desk(tmp_path, BROKERS, races(BROKERS, range(6))) as found:
        assert found.run() == []
        assert found.overfilled(), "no broker filled both: the check of what is hidden saw nothing"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("broker", [*BROKERS, "tda"])
def test_a_thousand_oco_races_are_neither_overfilled_by_us_nor_told_otherwise(broker: str, tmp_path: Path) -> None:
    overfilled = 0
    for begin in range(0, 1000, BATCH):
        several = races([broker], range(begin, begin + BATCH))
        with desk(tmp_path / str(begin), [broker], several) as found:
            assert found.run() == []
            overfilled += found.overfilled()
    assert overfilled, "no broker filled both: the check of what is hidden saw nothing"
    print(f"{broker}: 1000 races, {overfilled} overfilled by the broker, none by us, none hidden")
