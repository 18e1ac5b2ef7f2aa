"""The house rules that a script can see: how long a file may be, and that a class name means one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("worker", "models", "producers", "tests", "benchmarks", "alembic")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
MOST_LINES = 400


def test_no_file_is_longer_than_a_reader_keeps_in_mind() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_a_class_name_means_one_class() -> None:
    where = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: places for name, places in where.items() if len(places) > 1} == {}
