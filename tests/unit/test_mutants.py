"""The table of guards (tests/mutants) fits the code: each text is there once, and each test it names exists."""

from __future__ import annotations

import re

import pytest

from tests.mutants.run import ROOT, Guard, guards, table

GUARDS = guards()


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_a_guard_is_where_the_table_says(guard: Guard) -> None:
    assert guard.lost() == [], f"not in {guard.file} exactly once: bring guards.toml up to date"
    assert all(source != (ROOT / file).read_text() for file, source in guard.without().items())
    for node in guard.nodes:
        path, _, test = node.partition("::")
        assert not test or re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE), node


def test_no_two_guards_share_a_name() -> None:
    names = [guard.name for guard in GUARDS]
    assert len(set(names)) == len(names)


def test_the_table_in_the_documentation_is_this_one() -> None:
    words = "run: python tests/mutants/run.py --table > docs/mutants.md"
    assert (ROOT / "docs" / "mutants.md").read_text() == table(), words
