"""A simulated world for single scenarios."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.property.scenario import Scenario


@pytest.fixture
def at() -> Iterator[Scenario]:
    """Brokers `alpaca` (dedupes ids), `ibkr` (keeps ids) and `tda` (keeps none), one worker each."""
    made = Scenario()
    yield made
    made.world.close()
