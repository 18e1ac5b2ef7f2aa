"""What makes a run quicker on a machine that has it, and changes no test."""

from __future__ import annotations

import os
import tempfile

#: Files in memory, and bytes that have to be free there; a whole run leaves less than a tenth of that.
_MEMORY, _ROOM = "/dev/shm", 4 * 2**30


def files_in_memory() -> None:
    """Have temporary files in memory, of this process and of all that it starts, unless TMPDIR says where they go.

    A commit of SQLite waits for its disk (`synchronous=FULL`), a run has a hundred thousand of them, and no test can
    tell what a disk would have kept when the power fails.
    """
    if "TMPDIR" in os.environ or not os.path.isdir(_MEMORY) or not os.access(_MEMORY, os.W_OK):
        return
    found = os.statvfs(_MEMORY)
    if found.f_flag & os.ST_NOEXEC or found.f_bavail * found.f_frsize < _ROOM:
        return
    os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY


def compiled_once() -> None:
    """Let what is started keep its compiled modules: images of containers often forbid that, and each compiles all."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
