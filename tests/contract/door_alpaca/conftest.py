"""The Alpaca door, and Alpaca's own SDK at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.alpaca_client import alpaca_sdk
from tests.contract.doors import SandboxThread
from worker.sandbox.alpaca.door import AlpacaDoor


@pytest.fixture
def door(house: SandboxThread) -> Any:
    return house.open(AlpacaDoor)


@pytest.fixture
def api(door: AlpacaDoor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with alpaca_sdk(door, monkeypatch) as found:
        yield found
