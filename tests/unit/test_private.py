"""What is on disk is its user's alone; a name that anybody may take first is not trusted."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from models.messages import OrderRequest
from models.private import _strange
from models.settings import Settings, embedded_socket, load_settings
from producers import OrderClient
from producers.bell import Bell
from tests.reaper import folder
from worker.messaging.embedded_queue import EmbeddedQueue


@pytest.fixture
def far(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home too long for a socket, whose socket is in a temporary directory of this test."""
    temporary = folder("t")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    home = tmp_path / ("d" * 50) / ("d" * 50)
    assert embedded_socket(home).parent.parent == temporary
    yield home
    shutil.rmtree(temporary)


def a_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.mkdir(mode=0o700)
    path.symlink_to(target)


def for_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def for_the_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def no_folder(path: Path) -> None:
    path.write_text("")


_STRANGE = pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_link, "is a link"),
        (for_all, "may be written to by others (mode 777)"),
        (for_the_group, "may be written to by others (mode 770)"),
        (no_folder, "is no folder"),
    ],
)


@_STRANGE
def test_a_socket_folder_that_others_may_have_made_is_refused_in_one_line(
    make: Callable[[Path], None], words: str, far: Path
) -> None:
    make(embedded_socket(far).parent)
    with pytest.raises(ConfigurationError) as said:
        load_settings(home=far)
    assert words in str(said.value)
    assert str(embedded_socket(far).parent) in str(said.value)
    assert "\n" not in str(said.value)


@_STRANGE
def test_one_that_comes_late_gets_no_connection(make: Callable[[Path], None], words: str, far: Path) -> None:
    settings = load_settings(home=far)
    make(embedded_socket(far).parent)
    with pytest.raises(ConfigurationError, match="somebody else could stand in for the queue"):
        EmbeddedQueue(settings).acquire()
    assert not Bell(settings).ring([("orders.cancel", "control.ibkr", {"client_order_ids": ["a"]})])


def test_another_users_folder_is_refused_and_our_own_is_taken() -> None:
    def found(mode: int, uid: int) -> os.stat_result:
        return os.stat_result((mode, 0, 0, 0, uid, 0, 0, 0, 0, 0))

    assert _strange(found(stat.S_IFDIR | 0o700, os.getuid())) is None
    assert _strange(found(stat.S_IFDIR | 0o755, os.getuid())) is None
    assert _strange(found(stat.S_IFDIR | 0o700, os.getuid() + 1)) == f"belongs to another user (uid {os.getuid() + 1})"


def test_the_embedded_queue_makes_its_folder_for_its_user_only(far: Path) -> None:
    settings = load_settings(home=far)
    before = os.umask(0o022)
    try:
        with EmbeddedQueue(settings) as queue:
            assert stat.S_IMODE(queue.socket.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(queue.socket.stat().st_mode) == 0o700
            load_settings(home=far)
    finally:
        os.umask(before)


def test_a_temporary_directory_too_long_for_a_socket_is_told(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(home=far)
    monkeypatch.setattr("tempfile.tempdir", str(far))
    with pytest.raises(ConfigurationError, match="longer than a socket's path may be"):
        EmbeddedQueue(settings).acquire()


@pytest.mark.parametrize("where", ["home", "url"])
def test_what_a_strategy_records_is_for_its_user_only_whatever_its_umask_is(
    where: str, bare: Path, tmp_path: Path
) -> None:
    place = tmp_path / "shared"
    place.mkdir(mode=0o755)
    settings = Settings(home=place) if where == "home" else Settings(database_url=f"sqlite:///{place / 'corro.db'}")
    before = os.umask(0o022)
    try:
        with OrderClient(settings) as client:
            client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="mine"))
            seen = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}
    finally:
        os.umask(before)
    assert {"corro.db", "corro.db-wal", "corro.db-shm"} <= seen.keys()
    assert {name: oct(mode) for name, mode in seen.items() if mode & 0o077} == {}
