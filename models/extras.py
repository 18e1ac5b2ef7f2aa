"""How to get a package that a part of corro needs and not everybody has."""

from __future__ import annotations


def install(*extras: str) -> str:
    """Return the command that brings an extra, by the folder: on a public index `corro` may be anybody's package."""
    return f"in the folder of corro's source, pip install -e '.[{','.join(extras)}]'"
