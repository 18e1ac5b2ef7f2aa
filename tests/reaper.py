"""Ends what a test process leaves behind when it is ended early, by Ctrl-C or `kill -9`: its servers would run on.

Every process that tests start inherits a mark in its environment. The reaper is a process that holds one end of a pipe;
the test process holds the other, and says only which folders are its own. When that end is gone the reaper ends whoever
bears the mark, and the programs of this environment whose title names such a folder: valkey writes its title where its
environment was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil

#: The variable that bears the mark. It does not begin as corro's own do: those are taken away from what tests start.
NAME = "TESTS_BEAR_THE_MARK"
#: Seconds for the marked to be gone, and rounds of looking for more of them.
PATIENCE_S, ROUNDS = 5.0, 5
#: The end of the pipe that the test process holds, once it is watched.
_pipe: int | None = None


def watch() -> None:
    """Mark this process's children from now on, and have them ended when it is gone."""
    global _pipe
    os.environ[NAME] = mark = uuid.uuid4().hex[:8]
    bare = {key: value for key, value in os.environ.items() if key != NAME}
    read, _pipe = os.pipe()  # nobody closes the other end: it goes with this process
    reaper = subprocess.Popen(
        [sys.executable, __file__, mark], stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=bare, start_new_session=True,
    )  # fmt: skip
    reaper.returncode = 0  # it outlives this process by design, and nobody waits for it
    os.close(read)


def owns(path: Path) -> None:
    """Tell the reaper of a folder in which only this process's tests have servers."""
    assert _pipe is not None, "watched first"
    os.write(_pipe, f"{path}{os.sep}\n".encode())


def folder(prefix: str) -> Path:
    """Make a temporary folder that the reaper removes if nobody else does."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.environ.get(NAME, '')}-"))


def marked(mark: str, folders: Sequence[str] = ()) -> list[psutil.Process]:
    """Return the processes that bear a mark, and this environment's programs that name one of the folders."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(NAME) == mark or _names(process, folders):
                found.append(process)
        except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
            continue
    return found


def _names(process: psutil.Process, folders: Sequence[str]) -> bool:
    title = " ".join(process.cmdline())
    return any(path in title for path in folders) and process.exe().startswith(sys.prefix)


def reap(mark: str, folders: Sequence[str] = ()) -> None:
    """End whoever bears the mark, and remove the folders that do."""
    for _ in range(ROUNDS):
        found = marked(mark, folders)
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=PATIENCE_S)
    for path in Path(tempfile.gettempdir()).glob(f"*-{mark}-*"):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    named = sys.stdin.buffer.read().decode(errors="replace").splitlines()
    reap(sys.argv[1], named)
