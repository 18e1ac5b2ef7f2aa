"""The facts about brokers and the queue: each is evidenced, each citation finds one, and none names a lost document."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "facts").glob("*.md"))}
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()

#: Kinds of evidence, and the mark that the README's table of capabilities has for each.
KINDS = {"recorded live": "¹", "specification": "²", "SDK source": "³", "measured": "³", "assumed": "⁴"}
MARK = re.compile("[¹²³⁴]")
#: One fact: its number, its title, its words, and in its last paragraph the kind of evidence and the source.
FACT = re.compile(r"^### (\d+\.\d+) (.+)\n((?:.+\n)+?)\*([\w ]+)\*: ((?:.+(?:\n|\Z))+)", re.MULTILINE)
#: `docs/facts/ibkr.md#4.1`, and for more facts of one file `docs/facts/ibkr.md#4.1, #4.5`.
CITATION = re.compile(r"docs/facts/(\w+)\.md((?:(?:,\s+(?:#:? )?)?#\d+\.\d+)+)")

FACTS = {(name, fact[1]): fact for name, text in FILES.items() for fact in FACT.finditer(text)}


def texts() -> list[Path]:
    """Every file of the repository in which people write prose; what git ignores and tools leave is none of it."""
    suffixes = {".py", ".md", ".toml", ".yml", ".example", ".ini", ".mako"}
    folders = ("alembic", "benchmarks", "docs", "models", "producers", "requirements", "tests", "worker")
    found = [path for path in ROOT.iterdir() if path.suffix in suffixes or path.name in ("Makefile", "Dockerfile")]
    for folder in folders:
        found += [path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return [path for path in found if path.is_file() and not any(part.startswith(".venv") for part in path.parts)]


def sources(name: str) -> dict[str, str]:
    """Return what the head of a file calls its public sources: name to address."""
    head = FILES[name].partition("\n## ")[0]
    return dict(re.findall(r"^\* ([\w -]+): ((?:.|\n  )+)", head, re.MULTILINE))


@pytest.mark.parametrize("name", FILES)
def test_every_heading_of_a_fact_is_numbered_and_has_words_evidence_and_source(name: str) -> None:
    headings = re.findall(r"^### (.+)$", FILES[name], re.MULTILINE)
    facts = [fact for (file, _), fact in FACTS.items() if file == name]
    assert [f"{fact[1]} {fact[2]}" for fact in facts] == headings
    assert len({fact[1] for fact in facts}) == len(facts)


@pytest.mark.parametrize("name", FILES)
def test_facts_are_numbered_in_order_within_their_chapter(name: str) -> None:
    chapters = re.split(r"^## (\d+) .+$", FILES[name], flags=re.MULTILINE)[1:]
    numbers = list(map(int, chapters[::2]))
    assert numbers == list(range(1, len(numbers) + 1))
    for number, chapter in zip(numbers, chapters[1::2], strict=True):
        found = re.findall(r"^### (\d+\.\d+)", chapter, re.MULTILINE)
        assert found == [f"{number}.{at}" for at in range(1, len(found) + 1)]


@pytest.mark.parametrize(("name", "number"), FACTS)
def test_evidence_is_of_a_kind_and_names_a_source(name: str, number: str) -> None:
    kind, source = FACTS[name, number][4], FACTS[name, number][5]
    assert kind in KINDS
    assert source.strip()
    if kind != "assumed":  # an assumption gives its reason in words: who reported it, or that nothing better is known
        assert re.search(r"https://|github\.com", source) or any(known in source for known in sources(name))


@pytest.mark.parametrize("name", FILES)
def test_public_sources_have_addresses(name: str) -> None:
    assert sources(name)
    # A page has its address; what a registry keeps, the package's name in backquotes.
    assert all("https://" in address or "`" in address for address in sources(name).values())


@pytest.mark.parametrize(("name", "number"), FACTS)
def test_what_a_fact_says_is_shown_by_a_test_is_a_test_of_ours(name: str, number: str) -> None:
    for path in re.findall(r"`(tests/[\w/]+\.py)`", FACTS[name, number][0]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_cited_facts_and_documents_exist(path: Path) -> None:
    text = path.read_text()
    for name, numbers in CITATION.findall(text):
        for number in re.findall(r"\d+\.\d+", numbers):
            assert (name, number) in FACTS, f"docs/facts/{name}.md#{number}"
    for document in re.findall(r"\b(?:docs/[\w./-]+|[A-Z][A-Z_]+)\.md\b", re.sub(r"https?://\S+", "", text)):
        assert (ROOT / document).exists(), f"{document} is not in the repository"


def test_reliability_counts_the_facts_by_kind_of_evidence() -> None:
    counted = {name: Counter(fact[4] for (file, _), fact in FACTS.items() if file == name) for name in FILES}
    total = sum(counted.values(), Counter())
    lines = [f"| | {' | '.join(KINDS)} | all |"]
    lines += ["|---" * (len(KINDS) + 2) + "|"]
    for name, kinds in counted.items():
        lines.append(f"| [{name}](facts/{name}.md) | {' | '.join(str(kinds[k]) for k in KINDS)} | {kinds.total()} |")
    shares = " | ".join(f"{total[kind]} ({total[kind] / total.total():.0%})" for kind in KINDS)
    lines.append(f"| all | {shares} | {total.total()} |")
    assert "\n".join(lines) in RELIABILITY, "docs/reliability.md should say:\n" + "\n".join(lines)


# -- CAPABILITIES ---
HEADER = "| | ibkr | alpaca | tda | schwab |"


def table(text: str) -> dict[str, list[str]]:
    """Return the table of capabilities of a document: row to one cell per broker."""
    lines = text[text.index(HEADER) :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {what: rest for what, *rest in rows}


def test_each_capability_names_its_evidence() -> None:
    """A cell of the README has exactly the marks of the facts that docs/reliability.md names for it."""
    readme, behind = table((ROOT / "README.md").read_text()), table(RELIABILITY)
    assert list(readme) == list(behind)
    brokers = [cell.strip() for cell in HEADER.strip("|").split("|")][1:]
    for what, said in readme.items():
        for broker, words, facts in zip(brokers, said, behind[what], strict=True):
            cited = re.findall(r"\[(\d+\.\d+)\]\(facts/(\w+)\.md\)", facts)
            assert cited, (what, broker)
            assert {name for _, name in cited} == {broker}
            assert set(MARK.findall(words)) == {KINDS[FACTS[broker, number][4]] for number, _ in cited}, (what, broker)
