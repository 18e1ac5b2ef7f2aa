"""What is on disk is nobody else's business: folders of our own are 700, files 600, and no process leaves a core."""

from __future__ import annotations

import os
from pathlib import Path


def keep_private() -> None:
    """Let whatever this process, or a child of it, makes be readable by its user only, and dump no core of its memory.

    For processes of corro's own; a strategy's process is the strategy's.
    """
    import resource

    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def private_folder(path: Path) -> Path:
    """Make a folder for its owner only; one that somebody else has made keeps its mode."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
