"""Clients of the doors of TD Ameritrade and of Schwab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.doors import SandboxThread
from tests.contract.tda_client import BOTH, Client, client_of


@pytest.fixture(params=BOTH)
def client(house: SandboxThread, request: pytest.FixtureRequest) -> Iterator[Client]:
    with client_of(house, request.param) as found:
        yield found


@pytest.fixture
def tda(house: SandboxThread) -> Iterator[Client]:
    with client_of(house, "tda") as found:
        yield found


@pytest.fixture
def schwab(house: SandboxThread) -> Iterator[Client]:
    with client_of(house, "schwab") as found:
        yield found
