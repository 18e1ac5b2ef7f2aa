"""A simulated world for single scenarios."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.property.scenario import Scenario
from tests.property.simulation import remove_database


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    """The simulations' database is gone after the run, however its process ends."""
    yield
    remove_database()


@pytest.fixture
def at() -> Iterator[Scenario]:
    """Brokers `alpaca` (dedupes ids), `ibkr` (keeps ids) and `tda` (keeps none), one worker each."""
    made = Scenario()
    yield made
    made.world.close()
