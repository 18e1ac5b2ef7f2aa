"""Independent clients and a sandbox for them. A driver is run once for its file's tests, which read its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.environments import CannotBuild, interpreter
from worker.sandbox.control import SandboxControl

HERE = Path(__file__).parent
#: Settings of the machine that a client or a sandbox must not see.
HIDDEN = ("APCA_", "CORRO_", "PYTHON")


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}


@pytest.fixture(scope="session")
def foreign_python() -> Path:
    """The interpreter that has the clients corro does not use."""
    try:
        return interpreter()
    except CannotBuild as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the clients' environment is not there and could not be built: {error}")


@pytest.fixture(scope="module")
def start_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SandboxControl]]:
    """Start sandboxes that end with the module; TDA and Schwab name their real host in Location, as clients want it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*more: str) -> SandboxControl:
        home = tmp_path_factory.mktemp("sandbox")
        options = ("--home", str(home), "--ports-any", "--literal-location", *more)
        command = [sys.executable, "-m", "worker.sandbox.server", *options]
        started.append(subprocess.Popen(command, cwd=HERE.parents[1], env=clean_environment()))
        return SandboxControl.at(home)

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(10)


@pytest.fixture(scope="module")
def drive(start_sandbox: Callable[..., SandboxControl]) -> Callable[..., Story]:
    """Run a driver against a fresh sandbox and return what it saw."""

    def run(script: str, *arguments: str, python: Path | str = sys.executable, sandbox: Sequence[str] = ()) -> Story:
        control = start_sandbox(*sandbox)
        command = [str(python), str(HERE / script), json.dumps(control.ports()), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            env={**clean_environment(), "SANDBOX_TOKEN": control.token},
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return Story(json.loads(done.stdout), control)

    return run


class Story:
    """What a driver saw, and what the sandbox knows of it."""

    def __init__(self, seen: dict[str, Any], control: SandboxControl) -> None:
        self.seen = seen
        self.control = control

    def __getitem__(self, name: str) -> Any:
        return self.seen[name]

    def orders(self, door: str) -> list[dict[str, Any]]:
        return self.control.orders(door)

    def is_clean(self) -> bool:
        """Tell whether nothing lives or was filled in two places, and every order that arrived has an end."""
        return not self.control.duplicates() and not any(
            order["state"] in ("new", "partially_filled") for order in self.control.orders()
        )
