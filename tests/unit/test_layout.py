"""Where things live: imports go one way, a strategy carries no SDK, and the folder `alembic` stays a folder."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LAYERS = ("models", "producers", "worker")
SDKS = {"ib_insync", "ib_async", "alpaca_trade_api", "eventkit"}


def loaded_by(*modules: str, depth: int = 1) -> set[str]:
    """The packages, to a depth of their names, that a fresh interpreter has after these imports and had not before."""
    code = (
        "import sys; before = set(sys.modules)\n"
        + "".join(f"import {module}\n" for module in modules)
        + "import threading; assert threading.active_count() == 1, 'an import must start no thread'\n"
        + f"print(*sorted({{'.'.join(m.split('.')[:{depth}]) for m in set(sys.modules) - before}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@cache
def tree(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


# -- ONE WAY ---
def test_the_import_linter_agrees() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept, 0 broken" in done.stdout


def test_no_import_is_relative() -> None:
    """Two names for one module are two modules: the tables would be defined twice."""
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            assert not [node for node in tree(path) if isinstance(node, ast.ImportFrom) and node.level], path


# -- WHAT AN IMPORT BRINGS ---
def test_a_strategy_loads_no_celery_no_sdk_and_no_pandas() -> None:
    loaded = loaded_by("producers")
    assert "producers" in loaded
    assert not loaded & (SDKS | {"celery", "kombu", "worker", "alembic", "pandas", "requests", "aiohttp", "websockets"})


def test_neither_do_the_names_that_it_imports_when_they_are_asked_for() -> None:
    loaded = loaded_by("producers.client", "producers.unified", "producers.handles", "models.messages")
    assert not loaded & (SDKS | {"celery", "kombu", "worker", "alembic", "pandas", "requests", "aiohttp", "websockets"})


@pytest.mark.parametrize("package", ["models", "producers"])
def test_a_strategys_type_checker_finds_our_types_in_the_wheel(package: str, tmp_path: Path) -> None:
    """PEP 561: the marker has to be in what is installed, not only in the checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("corro-*.whl")
    assert f"{package}/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_history_loads_no_queue() -> None:
    assert not loaded_by("models.history") & (SDKS | {"celery", "kombu", "redis", "producers", "worker"})


@pytest.mark.parametrize(
    ("adapter", "others"),
    [
        ("ibkr", {"alpaca_trade_api"}),
        ("alpaca", {"ib_insync", "ib_async", "eventkit"}),
        ("tda", SDKS),
        ("base", SDKS | {"celery", "kombu"}),
    ],
)
def test_an_adapter_loads_no_other_brokers_sdk(adapter: str, others: set[str]) -> None:
    assert not loaded_by(f"worker.brokers.{adapter}") & others


def test_the_engine_loads_no_adapter() -> None:
    assert not loaded_by("worker.engine") & SDKS


# -- NAMES ---
def test_alembic_is_a_folder_and_not_a_package() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    spec = importlib.util.find_spec("alembic")
    assert spec is not None
    assert "site-packages" in Path(str(spec.origin)).parts, "the library must win over our folder"
    assert importlib.util.find_spec("alembic.command") is not None


@pytest.mark.parametrize("name", LAYERS)
def test_our_packages_are_ours(name: str) -> None:
    """There are packages named `worker` and `models` on PyPI."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert Path(str(spec.origin)) == ROOT / name / "__init__.py"


@pytest.mark.parametrize("layer", LAYERS)
def test_no_module_shadows_the_standard_library(layer: str) -> None:
    """`worker/queue.py`, run as a file, would stand before the library's `queue`."""
    modules = {path.stem for path in (ROOT / layer).glob("*.py")}
    assert not modules & sys.stdlib_module_names


def test_every_entry_point_can_be_loaded() -> None:
    from importlib.metadata import entry_points

    from worker.brokers.base import BrokerInterface

    points = entry_points(group="corro.brokers")
    assert {point.name for point in points} >= {"ibkr", "alpaca", "tda", "schwab"}
    assert all(issubclass(point.load(), BrokerInterface) for point in points)


def test_commands_get_their_names_in_one_table() -> None:
    rooms = (ROOT / "worker" / "cli", ROOT / "producers" / "cli")
    named = {path.name for room in rooms for path in room.glob("*.py") if ".command(" in path.read_text()}
    assert named == {"commands.py"}
