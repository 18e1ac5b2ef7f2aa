"""Each story is told with both SDKs, and neither may fail to read a frame."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.door_tws.gateway import SDKS


@pytest.fixture(autouse=True)
def _decoders_stay_silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Both SDKs swallow a frame they cannot read and only log it."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [r.getMessage() for r in caplog.records if r.name.endswith(".Decoder")] == []


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)
