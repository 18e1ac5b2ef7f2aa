"""Secrets that stand in files, as Docker, Kubernetes and systemd hand them over: `NAME_FILE` names the file for `NAME`.

A file is text in UTF-8; the end of its last line does not count. One directory may hold them all: `CORRO_SECRETS_DIR`,
in which a file that is called like a variable is its value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from models.errors import ConfigurationError

#: Longest content of such a file, bytes: whatever is longer is another file by mistake.
_LONGEST = 65_536
_DIRECTORY = "CORRO_SECRETS_DIR"
_SUFFIX = "_FILE"


def content(name: str, path: str) -> str:
    """Return what a file holds.

    Args:
        name: of the setting or variable that names it, for the error.
        path: where it is.

    Raises:
        ConfigurationError: it cannot be read, is empty, or no text; says which, and nothing of what it holds.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST + 1)
        text = data.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"settings: {name} names {path}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"settings: {name} names {path}, which is no text") from None
    if not text or len(data) > _LONGEST:
        raise ConfigurationError(f"settings: {name} names {path}, which is {'too long' if text else 'empty'}")
    return text


def variable(name: str) -> str | None:
    """Return a variable of the environment, or what the file holds that `NAME_FILE` names; None without either.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if value := os.environ.get(name):
        return value
    path = os.environ.get(name + _SUFFIX)
    return content(name + _SUFFIX, path) if path else None


def with_files(variables: Mapping[str, str | None], names: Iterable[str]) -> dict[str, str | None]:
    """Return variables with the values that files hold for them.

    Args:
        variables: values by names, in lower case as pydantic reads them.
        names: settings that a file may stand for.

    Raises:
        ConfigurationError: a variable and its file are both given, or a file cannot be read.
    """
    found = dict(variables)
    if folder := found.get(_DIRECTORY.lower()):
        found = {**_in_folder(folder), **found}
    for name in map(str.lower, names):
        path = found.pop(name + _SUFFIX.lower(), None)
        if path and found.get(name):
            raise ConfigurationError(f"settings: {name.upper()} and its {_SUFFIX} are both set; take one of them away")
        if path:
            found[name] = content(name.upper() + _SUFFIX, path)
    return found


def _in_folder(folder: str) -> dict[str, str]:
    """Return what the files of a directory hold that are called like variables of ours."""
    try:
        paths = [path for path in Path(folder).iterdir() if path.name.lower().startswith("corro_") and path.is_file()]
    except OSError as error:
        raise ConfigurationError(
            f"settings: {_DIRECTORY} is {folder}, which cannot be read: {error.strerror}"
        ) from None
    return {path.name.lower(): content(_DIRECTORY, str(path)) for path in paths}
