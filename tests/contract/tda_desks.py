"""Desks of TD Ameritrade and Schwab with a connected adapter, for tests beside the suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.desks import SchwabDesk, TdaDesk

DAY = timedelta(days=1)


@pytest.fixture(params=[TdaDesk, SchwabDesk], ids=lambda kind: kind.name)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as found:
        found.broker.connect()
        yield found


@pytest.fixture
def schwab(tmp_path: Path) -> Iterator[Any]:
    with closing(SchwabDesk(tmp_path)) as found:
        found.broker.connect()
        yield found
