"""Worlds whose workers are killed, for as long as one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit import World


@pytest.fixture
def own_workers(world: World) -> Iterator[None]:
    """A test starts the workers that it needs; none of them outlives it."""
    yield
    try:
        world.money.check(5)
    finally:
        world.fleet.kill_all()
