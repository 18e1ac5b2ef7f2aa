"""The list of cards, read from the suite itself; `python tests/contract/suite/cards.py` prints it for the docs."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

SUITE = Path(__file__).parent
_NUMBER = re.compile(r"test_c(\d\d)_")


@dataclass(frozen=True)
class Card:
    """One test of the suite.

    Args:
        number: two digits; gaps are left for new cards.
        title: a sentence without a full stop.
        chapter: the file's name.
        skipped: for which adapters it does not count; empty for none.
        test: name of the function.
    """

    number: int
    title: str
    chapter: str
    skipped: str
    test: str


def cards() -> list[Card]:
    """Read every card, in order of its number."""
    paths = sorted(SUITE.glob("test_*.py"))
    tests = [(node, path) for path in paths for node in ast.parse(path.read_text()).body if _is_test(node)]
    return sorted((_card(node, path) for node, path in tests), key=lambda card: card.number)


def _is_test(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def _card(node: ast.FunctionDef, path: Path) -> Card:
    words = ast.get_docstring(node) or ""
    number = _NUMBER.match(node.name)
    first = words.partition("\n")[0]
    if number is None or not first.startswith(f"C{number[1]} "):
        raise ValueError(f"{path.name}: {node.name} is no card: name test_cNN_..., docstring 'CNN Title.'")
    skipped = re.search(r"^Skipped: (.+?)\.?$", words, re.MULTILINE)
    chapter = path.stem.removeprefix("test_").replace("_", " ")
    return Card(int(number[1]), first[4:].rstrip("."), chapter, skipped[1] if skipped else "", node.name)


def table() -> str:
    """Return the cards as a Markdown table."""
    rows = [f"| C{c.number:02} | {c.chapter} | {c.title} | {c.skipped or '-'} |" for c in cards()]
    return "\n".join(["| card | chapter | what must hold | skipped |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
