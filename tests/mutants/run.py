"""Take each guard away and see that the tests notice: `make mutants`.

The tree is copied to a temporary directory; there one guard at a time is replaced as guards.toml says, and the tests
named for it must fail: by an assertion, or by the error that guards.toml expects. First they must all pass with every
guard in place.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import shutil
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent.parent
GUARDS = Path(__file__).parent / "guards.toml"
#: Where "::test_name" is: in the one of these files that defines it.
USUAL = "tests/property/test_guards_of_*.py"
COPIED = ("models", "producers", "worker", "alembic", "tests", "docs", "pyproject.toml", "README.md", "Makefile")
#: What every run needs and no mutant changes: imported once, before the runs are forked off.
LIBRARIES = (
    "alembic.command", "celery", "kombu.transport.redis", "pandas", "pydantic_settings", "redis",
    "requests", "sqlalchemy.dialects.sqlite", "structlog",
)  # fmt: skip
#: How a failed assertion begins in a report: plain, rewritten by pytest, or an expected exception that did not come.
ASSERTED = ("assert", "AssertionError", "Failed: ")
HEAD = """# Guards, and the tests that miss them

`make mutants` takes each of these guards out of a copy of the code and demands that the test named here fails by an
assertion (or by the one error that the table expects), not by accident. The table is written from
`tests/mutants/guards.toml` by `python tests/mutants/run.py --table`.
"""


@dataclass(frozen=True)
class Guard:
    """One guard: where it stands, what is there without it, and which tests miss it."""

    name: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]
    #: Further pairs of find and put, for a guard that stands twice; a third member is another file.
    also: tuple[tuple[str, ...], ...] = ()
    #: An exception that counts like a failed assertion.
    error: str = ""

    @property
    def changes(self) -> list[tuple[str, str, str]]:
        """File, what is replaced, and by what."""
        further = [(pair[2] if len(pair) > 2 else self.file, pair[0], pair[1]) for pair in self.also]
        return [(self.file, self.find, self.put), *further]

    @property
    def nodes(self) -> list[str]:
        """The tests' node ids."""
        return [_usual(test) + test if test.startswith("::") else test for test in self.tests]

    def lost(self) -> list[str]:
        """Return the texts that are not in their file exactly once."""
        return [find for file, find, _ in self.changes if (ROOT / file).read_text().count(find) != 1]

    def without(self) -> dict[str, str]:
        """Return the files as they are without the guard; they compile."""
        sources: dict[str, str] = {}
        for file, find, put in self.changes:
            sources[file] = sources.get(file, (ROOT / file).read_text()).replace(find, put)
        for file, source in sources.items():
            compile(source, file, "exec")
        return sources


@functools.cache
def _usual(test: str) -> str:
    """Return the file that defines `::test`."""
    definition = f"\ndef {test.removeprefix('::')}("
    (path,) = (path for path in ROOT.glob(USUAL) if definition in path.read_text())
    return str(path.relative_to(ROOT))


def guards() -> list[Guard]:
    """Read the table."""
    rows = tomllib.loads(GUARDS.read_text())["guard"]
    for row in rows:
        row["tests"], row["also"] = tuple(row["tests"]), tuple(tuple(pair) for pair in row.get("also", ()))
    return [Guard(**row) for row in rows]


def table() -> str:
    """Return docs/mutants.md."""
    rows = [f"| {g.name} | {g.file} | {', '.join(_short(test) for test in g.nodes)} |" for g in guards()]
    return "\n".join([HEAD, "| guard | where | fails without it |", "|---|---|---|", *rows]) + "\n"


def _short(node: str) -> str:
    path, _, test = node.partition("::")
    return f"`{test}` ({Path(path).stem})" if test else f"`{path}`"


# -- RUNS ---
class MutantRun:
    """Tests in a copy of the tree, in a process of their own."""

    def __init__(self, home: Path, name: str, nodes: Sequence[str], guard: Guard | None = None) -> None:
        self.tree, self.guard, self.start = home / name, guard, time.monotonic()
        for entry in COPIED:
            source, target = ROOT / entry, self.tree / entry
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        if guard is not None:
            for file, source in guard.without().items():
                (self.tree / file).write_text(source)
        self.pid = os.fork()
        if not self.pid:
            self._test(nodes)

    def _test(self, nodes: Sequence[str]) -> None:
        """The child: the copy comes first on the path, so it is what is tested, not what is installed."""
        status = 9
        try:
            os.chdir(self.tree)
            out = os.open("out.txt", os.O_CREAT | os.O_WRONLY)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.dont_write_bytecode = True
            options = ["-q", "-x", "-p", "no:cacheprovider", "--junitxml=report.xml", "--hypothesis-seed=0"]
            status = int(pytest.main([*options, *nodes]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def verdict(self, status: int) -> tuple[bool, str]:
        """Say whether the guard is missed, and by which test."""
        killers = []
        if (self.tree / "report.xml").exists():
            cases = ElementTree.parse(self.tree / "report.xml").getroot().iter("testcase")
            failed = [(case.get("name", ""), case.find("failure")) for case in cases]
            killers = [(name, f.get("message", "")) for name, f in failed if f is not None]
        error = self.guard.error if self.guard else ""
        asserted = [n for n, text in killers if text.startswith(ASSERTED) or (error and error in text.split(":")[0])]
        if status == 1 and asserted:
            return True, asserted[0]
        words = f"failed, but by no assertion: {killers}" if killers else f"SURVIVES (pytest status {status})"
        return False, words.splitlines()[0][:200]


def ended(home: Path, chosen: Sequence[Guard], jobs: int) -> Iterator[tuple[MutantRun, int]]:
    """Run every mutant, so many at a time, and return the runs as they end."""
    waiting, running = list(enumerate(chosen)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, guard = waiting.pop(0)
            run = MutantRun(home, f"{number:03}", guard.nodes, guard)
            running[run.pid] = run
        pid, status = os.wait()
        run = running.pop(pid)
        yield run, os.waitstatus_to_exitcode(status)
        shutil.rmtree(run.tree, ignore_errors=True)


def main() -> int:
    """Run the table, or the guards whose names contain the words given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only guards with one of these in their names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="print docs/mutants.md instead")
    given = parser.parse_args()
    if given.table:
        print(table(), end="")
        return 0
    chosen = [g for g in guards() if not given.words or any(word in g.name for word in given.words)]
    if lost := [(g.name, text) for g in chosen for text in g.lost()]:
        print("not in the code exactly once any more:", *lost, sep="\n  ")
        return 1
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory(prefix="corro-mutants-") as home:
        whole = MutantRun(Path(home), "whole", sorted({node for guard in chosen for node in guard.nodes}))
        if os.waitpid(whole.pid, 0)[1]:
            print((whole.tree / "out.txt").read_text(), "\nthe tests fail with every guard in place")
            return 1
        alive = 0
        for run, status in ended(Path(home), chosen, given.jobs):
            killed, words = run.verdict(status)
            alive += not killed
            seconds, name = time.monotonic() - run.start, run.guard.name if run.guard else ""
            print(f"{'killed' if killed else 'ALIVE ':6}  {seconds:5.1f} s  {name}: {words}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutants killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
