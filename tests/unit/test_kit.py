"""The tests' own words: whatever a test says of a world is there, although no type checker reads tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import getsource
from pathlib import Path

from tests.kit import ROOT, World
from tests.kit.client import RecordedClient
from tests.kit.fleet import FleetProcesses
from tests.kit.money import MoneyCheck

PARTS = {"fleet": FleetProcesses, "orders": RecordedClient, "money": MoneyCheck}
_SET = re.compile(r"self\.(\w+)(?:: .*)? = |self\.(\w+), self\.(\w+) = ")


def words_of(kind: type) -> set[str]:
    """Return the attributes of a class and those that its instances get."""
    assigned = {name for names in _SET.findall(getsource(kind)) for name in names if name}
    return {name for name in {*dir(kind), *assigned} if not name.startswith("_")}


def said_of_worlds(path: Path) -> Iterator[tuple[str, int, str]]:
    """Yield ("" for the world or its part, line, word) for each word said of a variable `world` in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            before = ast.unparse(node.value).removeprefix("self.")
            world, _, part = before.partition(".")
            if world == "world" and part in ("", *PARTS):
                yield part, node.lineno, node.attr


def test_every_word_that_a_test_says_of_its_world_is_there() -> None:
    known = {"": words_of(World), **{name: words_of(kind) for name, kind in PARTS.items()}}
    files = [
        p for p in (ROOT / "tests").rglob("*.py") if re.search(r"from tests\.kit import .*\bWorld\b", p.read_text())
    ]
    said = [(path, *word) for path in files for word in said_of_worlds(path)]
    assert len(said) > 500
    assert [
        f"{path.relative_to(ROOT)}:{line}: {part}.{word}" for path, part, line, word in said if word not in known[part]
    ] == []
