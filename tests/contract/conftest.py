"""What tests of doors and adapters share: a market on a thread of its own, whose doors a test opens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.doors import SandboxThread, sandbox


@pytest.fixture
def house() -> Iterator[SandboxThread]:
    """The simulated market; what it opened ends with the test."""
    with sandbox() as found:
        yield found
