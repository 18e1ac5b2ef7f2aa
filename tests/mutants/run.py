"""Take each guard away and see that the tests notice: `make mutants`.

The tree is copied to a temporary directory; there one guard at a time is replaced as guards.toml says, and the tests
named for it must fail, by an assertion. First they must all pass with every guard in place.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent.parent
GUARDS = Path(__file__).parent / "guards.toml"
#: Where "::test_name" is.
USUAL = "tests/property/test_guards.py"
COPIED = ("models", "producers", "worker", "alembic", "tests", "docs", "pyproject.toml", "README.md", "Makefile")
#: How a failed assertion begins in a report: plain, rewritten by pytest, or an expected exception that did not come.
ASSERTED = ("assert", "AssertionError", "Failed: ")
LONGEST_S = 300
HEAD = """# Guards, and the tests that miss them

`make mutants` takes each of these guards out of a copy of the code and demands that the test named here fails, by an
assertion. The table is written from `tests/mutants/guards.toml` by `python tests/mutants/run.py --table`.
"""


@dataclass(frozen=True)
class Guard:
    """One guard: where it stands, what is there without it, and which tests miss it."""

    name: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]

    @property
    def found(self) -> int:
        """How often its text is in its file."""
        return (ROOT / self.file).read_text().count(self.find)

    @property
    def nodes(self) -> list[str]:
        """The tests' node ids."""
        return [USUAL + test if test.startswith("::") else test for test in self.tests]


def guards() -> list[Guard]:
    """Read the table."""
    rows = tomllib.loads(GUARDS.read_text())["guard"]
    return [Guard(**{**row, "tests": tuple(row["tests"])}) for row in rows]


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    killed: bool
    words: str
    seconds: float


def copy_of_the_tree(home: Path, name: str) -> Path:
    """Copy what the tests need; the copy is used, not what is installed, because it comes first on the path."""
    tree = home / name
    for entry in COPIED:
        source = ROOT / entry
        if source.is_dir():
            shutil.copytree(source, tree / entry, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / entry)
    return tree


def run(tree: Path, nodes: list[str]) -> tuple[int, ElementTree.Element]:
    """Run tests in a tree; returns pytest's status and its report."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--junitxml={report}", *nodes]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, "--hypothesis-seed=0"], cwd=tree, env=environment, capture_output=True, timeout=LONGEST_S
    )
    if not report.exists():
        raise SystemExit(done.stdout.decode() + done.stderr.decode())
    return done.returncode, ElementTree.parse(report).getroot()


def judge(guard: Guard, home: Path) -> Verdict:
    """Take one guard away and run its tests."""
    start = time.monotonic()
    tree = copy_of_the_tree(home, f"{guards().index(guard):03}")
    path = tree / guard.file
    path.write_text(path.read_text().replace(guard.find, guard.put))
    compile(path.read_text(), guard.file, "exec")
    status, report = run(tree, guard.nodes)
    shutil.rmtree(tree, ignore_errors=True)
    seconds = time.monotonic() - start
    failed = [(case.get("name", ""), case.find("failure")) for case in report.iter("testcase")]
    killers = [(name, f.get("message", "")) for name, f in failed if f is not None]
    asserted = [name for name, message in killers if message.startswith(ASSERTED)]
    if status == 1 and asserted:
        return Verdict(killed=True, words=asserted[0], seconds=seconds)
    words = f"failed, but by no assertion: {killers}" if killers else f"SURVIVES (pytest status {status})"
    return Verdict(killed=False, words=words.splitlines()[0][:200], seconds=seconds)


def table() -> str:
    """Return docs/mutants.md."""
    rows = [f"| {g.name} | {g.file} | {', '.join(_short(test) for test in g.nodes)} |" for g in guards()]
    return "\n".join([HEAD, "| guard | where | fails without it |", "|---|---|---|", *rows]) + "\n"


def _short(node: str) -> str:
    path, _, test = node.rpartition("::") if "::" in node else (node, "", "")
    return f"`{test}` ({Path(path).stem})" if test else f"`{node}`"


def main() -> int:
    """Run the table, or the guards whose names contain the words given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only guards with one of these in their names")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print docs/mutants.md instead")
    given = parser.parse_args()
    if given.table:
        print(table(), end="")
        return 0
    chosen = [g for g in guards() if not given.words or any(word in g.name for word in given.words)]
    lost = [g.name for g in chosen if g.found != 1]
    if lost:
        print("not in the code exactly once any more:", *lost, sep="\n  ")
        return 1
    with tempfile.TemporaryDirectory(prefix="corro-mutants-") as home:
        nodes = sorted({node for guard in chosen for node in guard.nodes})
        status, _ = run(copy_of_the_tree(Path(home), "whole"), nodes)
        if status != 0:
            print("the tests fail with every guard in place: run them first")
            return 1
        alive = 0
        with ThreadPoolExecutor(given.jobs) as pool:
            for guard, verdict in zip(chosen, pool.map(lambda g: judge(g, Path(home)), chosen), strict=True):
                alive += not verdict.killed
                state = "killed" if verdict.killed else "ALIVE"
                print(f"{state:6}  {verdict.seconds:5.1f} s  {guard.name}: {verdict.words}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutants killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
