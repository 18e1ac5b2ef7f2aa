"""How to get a package that a part of corro needs and not everybody has."""

from __future__ import annotations

import importlib.util

from models.errors import ConfigurationError


def install(*extras: str) -> str:
    """Return the command that brings an extra, by the folder: on a public index `corro` may be anybody's package."""
    return f"in the folder of corro's source, pip install -e '.[{','.join(extras)}]'"


def must_have(what: str, extra: str, *packages: str) -> None:
    """See that the packages of an extra are there; nothing is imported.

    Args:
        what: needs them.
        extra: brings them.
        packages: by the names they are imported by.

    Raises:
        ConfigurationError: with those that are missing, and how to get them.
    """
    missing = dict.fromkeys(name for package in packages if (name := _missing(package)))
    if missing:
        raise ConfigurationError(f"{what} needs {', '.join(missing)}: {install(extra)}")


def _missing(package: str) -> str | None:
    """Return the package where it is not there, or the one around it; None where it is."""
    try:
        return None if importlib.util.find_spec(package) else package
    except ModuleNotFoundError as error:
        return error.name
