"""Python processes of the tests: a clean environment, a command that is run to its end, one that is ended, a log."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: How the variables begin that speak to corro or its brokers.
OURS = ("CORRO_", "APCA_")


def clean_environment() -> dict[str, str]:
    """Return this process's environment without anything that speaks to corro or its brokers."""
    return {key: value for key, value in os.environ.items() if not key.startswith(OURS)}


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables, and no others of corro's, in force."""
    before, during = dict(os.environ), {**clean_environment(), **values}
    os.environ.clear()
    os.environ.update(during)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class CommandResult:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


def run_python(*arguments: str, cwd: Path, timeout: float, **variables: str) -> CommandResult:
    """Run Python to its end, in a clean environment with these variables."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, cwd=cwd,
        env={**clean_environment(), **variables}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return CommandResult(done.returncode, done.stdout, done.stderr)


class HeldTwins:
    """Two processes of the same script, which wait at the line that they read from stdin."""

    def __init__(self, script: str, *arguments: str, variables: Mapping[str, str]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
                env={**clean_environment(), **variables},
            )
            for _ in range(2)
        ]  # fmt: skip

    def run_on(self, timeout: float = 60.0) -> None:
        """Let both go on at the same moment, to their end; fails where one of them does."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=timeout) for process in self._processes]
        assert [process.returncode for process in self._processes] == [0, 0], said


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, in good order if it can."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(path: Path, lines: int = 12) -> str:
    """Return the end of a log."""
    return "\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
