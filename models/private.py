"""What is on disk is nobody else's business: folders of our own are 700, files 600, and no process leaves a core."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from models.errors import ConfigurationError


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


def private_file(path: Path) -> Path:
    """Make an empty file for its owner only, whatever the process's umask is; one that is there keeps its mode."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return path


def new_private_file(path: Path) -> Path:
    """Make an empty file for its owner only, where nothing is yet.

    Raises:
        FileExistsError: something is, be it a link that leads nowhere.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return path


def must_be_ours(folder: Path) -> None:
    """See that nobody else can put another file into a folder, where it is there at all.

    For a folder under a name that anybody may take first, as in the temporary directory.

    Raises:
        ConfigurationError: it is a link, no folder, another user's, or others may write to it.
    """
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}") from None
    if why := _strange(found):
        raise ConfigurationError(
            f"{folder}, where the embedded queue's socket belongs, {why}: somebody else could stand in for the queue. "
            "Remove it, choose a shorter CORRO_HOME (its socket is in the home then), or set TMPDIR to a folder of "
            "your own"
        )


def _strange(found: os.stat_result) -> str | None:
    """Return why a folder cannot be ours alone; None where it can."""
    if stat.S_ISLNK(found.st_mode):
        return "is a link"
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder"
    if found.st_uid != os.getuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & 0o022:
        return f"may be written to by others (mode {stat.S_IMODE(found.st_mode):o})"
    return None
