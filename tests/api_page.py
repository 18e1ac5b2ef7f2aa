"""Write docs/api.md from the docstrings: `python tests/api_page.py > docs/api.md`; a test holds the two equal."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import producers
from models import history
from models.errors import CorroError

_HEAD = """# The API

What a strategy and an analyst may rely on: the names of `producers`, and `models.history`. Quantities are shares,
prices US dollars a share, times aware UTC, timeouts seconds; None means "not known", never zero. The docstrings are the
source: `tests/api_page.py` makes this page of them. The fields of an order, one by one: [messages.md](messages.md); the
columns of the history: [history.md](history.md).
"""


def page() -> str:
    """Return the page."""
    names = [(name, getattr(producers, name)) for name in producers.__all__]
    errors = [(name, kind) for name, kind in names if issubclass(kind, CorroError)]
    parts = [_HEAD, "\n## producers\n"]
    parts += [text for name, kind in names if not issubclass(kind, CorroError) for text in _class(name, kind)]
    parts += ["\n## Errors\n\n", "| error | meaning |\n|---|---|\n"]
    parts += [f"| `{name}` | {(inspect.getdoc(kind) or '').splitlines()[0]} |\n" for name, kind in errors]
    parts += ["\n## models.history\n", f"\n{inspect.getdoc(history)}\n"]
    parts += [text for name, found in functions() for text in _function(name, found)]
    parts += _class("History", history.History)
    return "".join(parts)


def functions() -> list[tuple[str, Callable[..., Any]]]:
    """Return the public functions of `models.history`, in the order of the file."""
    found = inspect.getmembers(history, inspect.isfunction)
    public = [(name, f) for name, f in found if f.__module__ == history.__name__ and not name.startswith("_")]
    return sorted(public, key=lambda pair: pair[1].__code__.co_firstlineno)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that are corro's own, inherited ones too."""
    for name, found in inspect.getmembers_static(kind):
        plain = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        ours = str(getattr(plain, "__module__", "")).partition(".")[0] in ("producers", "models")
        if not name.startswith("_") and inspect.isfunction(plain) and ours and "validator" not in repr(found):
            yield name, found


def _class(name: str, kind: type) -> Iterator[str]:
    yield f"\n### {name}\n\n{_text(kind)}"
    for member, found in members(kind):
        if isinstance(found, property):
            yield f"\n`{name}.{member}`: {' '.join((inspect.getdoc(found) or '').split())}\n"
        else:
            yield from _function(f"{name}.{member}", getattr(found, "__func__", found))


def _function(name: str, found: Callable[..., Any]) -> Iterator[str]:
    yield f"\n#### `{name}{_signature(found)}`\n\n{_text(found)}"


class _Plain(str):
    """An annotation that is shown as it is written, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _signature(found: Callable[..., Any]) -> str:
    signature = inspect.signature(found)
    kept = [
        p.replace(annotation=_Plain(p.annotation))
        for p in signature.parameters.values()
        if p.name not in ("self", "cls")
    ]
    return str(signature.replace(parameters=kept, return_annotation=_Plain(signature.return_annotation)))


def _text(found: Any) -> str:
    first, _, rest = (inspect.getdoc(found) or "").partition("\n")
    return f"{first}\n" + (f"\n```text\n{rest.strip()}\n```\n" if rest.strip() else "")


if __name__ == "__main__":
    sys.stdout.write(page())
