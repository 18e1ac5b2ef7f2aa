"""The cards of the contract suite: numbered, complete in the docs, and nothing of ours in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.contract.suite.cards import SUITE, cards, table
from tests.contract.suite.desk import Desk

DOCS = Path(__file__).parent.parent.parent / "docs" / "adapters.md"


def test_every_card_has_a_number_of_its_own() -> None:
    numbers = [card.number for card in cards()]
    assert len(numbers) == len(set(numbers)) > 60


def test_every_card_says_what_must_hold_and_when_it_is_skipped() -> None:
    for path in SUITE.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words = ast.get_docstring(node) or ""
                assert "\nThen: " in words, node.name
                skips = "needs(" in ast.unparse(node) or "Swap(" in ast.unparse(node)
                assert skips <= ("\nSkipped: " in words), f"{node.name}: say in the docstring when it is skipped"


def test_the_docs_list_every_card() -> None:
    """`python tests/contract/suite/cards.py` prints the table."""
    found = re.search(r"<!-- cards -->\n(.*?)\n<!-- /cards -->", DOCS.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table()


def test_the_docs_name_everything_that_a_desk_has_to_say() -> None:
    abstract = {name for name in Desk.__abstractmethods__ if f"`{name}`" not in DOCS.read_text()}
    assert abstract == set()


def test_the_suite_needs_nothing_of_ours() -> None:
    """Only the seam, the models and the desk: no adapter, no sandbox."""
    for path in SUITE.glob("*.py"):
        modules = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
        inside = [name for name in modules if name.split(".")[0] in ("worker", "producers", "tests", "models")]
        allowed = ("models.", "worker.brokers.base", "tests.contract.suite.")
        assert [name for name in inside if not name.startswith(allowed)] == [], path
