"""The pages for people who change corro: every place they name is there, and api.md is what the docstrings say."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache

import pytest

import producers
from models.errors import CorroError
from tests import api_page
from tests.unit.test_docs import ROOT

_PLACE = re.compile(r"`([\w/]+\.py)::([\w.]+)`")


@cache
def names(path: str) -> set[str]:
    """Everything that a file defines at its top, and what its classes define, as Class.name."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        own = _defined(node)
        found |= own
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _defined(inner)}
    return found


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md", "controls.md"])
def test_every_place_that_a_page_names_is_there(page: str) -> None:
    places = _PLACE.findall((ROOT / "docs" / page).read_text())
    assert len(places) > 40
    assert [f"{path}::{name}" for path, name in places if name not in names(path)] == []


def test_every_word_of_the_glossary_has_a_place_and_they_are_in_order() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line.startswith("| ")]
    words = [row[0].removeprefix("| ") for row in rows[1:]]
    assert words == sorted(set(words))
    assert [row[0] for row in rows[1:] if not _PLACE.search(row[2])] == []


def test_the_readme_leads_to_the_pages() -> None:
    development = (ROOT / "README.md").read_text().partition("## Development")[2]
    assert all(f"(docs/{page}.md)" in development for page in ("architecture", "glossary", "api", "adapters"))


def test_the_api_page_is_what_the_docstrings_say() -> None:
    """`python tests/api_page.py > docs/api.md` writes it."""
    assert (ROOT / "docs/api.md").read_text() == api_page.page()


def test_everything_public_says_what_it_does() -> None:
    found = [*api_page.functions()]
    for name in producers.__all__:
        kind = getattr(producers, name)
        found += [(name, kind), *([] if issubclass(kind, CorroError) else api_page.members(kind))]
    assert [name for name, what in found if not inspect.getdoc(what)] == []
