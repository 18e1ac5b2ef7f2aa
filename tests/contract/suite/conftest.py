"""The desks that the cards are run at: corro's own, or those named with `--desk package.module:Class`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.suite.desk import Desk

#: corro's own adapters, where no desk is named.
OURS = "tests.contract.desks"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--desk", action="append", metavar="MODULE:CLASS", help="run the contract suite at this desk")


def _desks(config: pytest.Config) -> list[type[Desk]]:
    named: list[str] = config.getoption("--desk", default=None) or []
    if not named:
        return list(importlib.import_module(OURS).DESKS)
    found = [path.partition(":") for path in named]
    return [getattr(importlib.import_module(module), name) for module, _, name in found]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cold_desk" in metafunc.fixturenames:
        desks = _desks(metafunc.config)
        metafunc.parametrize("cold_desk", desks, indirect=True, ids=[desk.name for desk in desks])


@pytest.fixture
def cold_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose adapter is not connected yet."""
    with closing(request.param(tmp_path)) as desk:
        yield desk


@pytest.fixture
def desk(cold_desk: Desk) -> Desk:
    """A desk whose adapter is connected and whose updates arrive."""
    cold_desk.broker.connect()
    cold_desk.ready()
    return cold_desk
