"""Fixtures of all tests: a clean environment, PostgreSQL, whole worlds, and the money check after every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import quicker, reaper
from tests.kit import PostgresServer, World

quicker.files_in_memory()
quicker.compiled_once()
reaper.watch()

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session", autouse=True)
def _the_folder_of_these_tests_is_known(tmp_path_factory: pytest.TempPathFactory) -> None:
    reaper.owns(tmp_path_factory.getbasetemp())


#: How quickly examples are made says something of the machine, nothing of corro.
settings.register_profile("corro", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("corro")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--both-databases", action="store_true", help="run each story of a fleet on SQLite and PostgreSQL")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave each story of a whole fleet to one of the two databases, by turns; a test that is named runs on both.

    A fleet's start is the dearest part of the whole run. The record's own tests are not stories: they use both.
    """
    if config.getoption("both_databases") or any("::" in argument for argument in config.args):
        return
    turns: dict[str, dict[str, int]] = {}
    left = []
    for item in items:
        database = _database_of_story(item)
        if database:
            path, _, rest = item.nodeid.partition("::")
            turn = turns.setdefault(path, {}).setdefault(rest.replace(database, ""), len(turns[path]))
            if database != DATABASES[turn % 2]:
                left.append(item)
    config.hook.pytest_deselected(items=left)
    out = {id(item) for item in left}
    items[:] = [item for item in items if id(item) not in out]


def _database_of_story(item: pytest.Item) -> str | None:
    """Return which database a story of a fleet runs on, where the test itself has not chosen."""
    chosen = any("database_url" in str(mark.args[0]) for mark in item.iter_markers("parametrize"))
    if chosen or "make_recorded_world" not in getattr(item, "fixturenames", ()):
        return None
    return next(name for name in DATABASES if name in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests in one process: worlds are shared within a file."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith(("CORRO_", "APCA_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that is run in a test's own process does not decide what later tests log."""
    before, configure = structlog.get_config(), structlog.configure
    monkeypatch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
    yield
    configure(**before)


@pytest.fixture
def bare(_clean_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory and an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """What the test starts hears Ctrl-C; a run that a script put in the background would hand on that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def money() -> Iterator[None]:
    """After every test: what the doors did agrees with what the database says, in every world that runs."""
    yield
    for world in list(World.live):
        world.control.clear_faults()
        world.money.check()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of this process."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="module", params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str | None:
    """A fresh database of each kind: None is SQLite in the world's home."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()


@pytest.fixture(scope="module")
def make_recorded_world(
    tmp_path_factory: pytest.TempPathFactory, database_url: str | None
) -> Iterator[Callable[..., World]]:
    """Make worlds on a database of each kind, one after the other: none idles while the other's tests run."""
    for make in _makers(lambda: tmp_path_factory.mktemp("w")):
        yield partial(make, database_url=database_url)


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """Make worlds that live as long as the module."""
    yield from _makers(lambda: tmp_path_factory.mktemp("w"))


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Make worlds that end with the test."""
    count = iter(range(100))
    yield from _makers(lambda: tmp_path / f"w{next(count)}")


def _makers(home: Callable[[], Path]) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(*args: Any, **kwargs: Any) -> World:
        world = World(home(), *args, **kwargs)
        made.append(world)
        return world

    yield make
    errors = []
    for world in reversed(made):
        try:
            world.close()
        except AssertionError as error:  # end the others first
            errors.append(error)
    if errors:
        raise errors[0]
