"""The index by symptom in docs/operations.md: every event of the log that asks for a look is in it, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from models import vocabulary
from models.lifecycle import Fact

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
LOGGER = re.compile(r"(^|[._])log$|^logging\.getLogger")
LEVELS = {"warning", "error", "critical", "exception"}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """The three packages, without the sandbox: a program of its own, whose log no operator has to read."""
    for package in ("worker", "producers", "models"):
        for path in (ROOT / package).rglob("*.py"):
            if "sandbox" not in path.parts:
                yield path, ast.parse(path.read_text())


def handed() -> dict[str, int]:
    """Functions that log an event of their caller's choice, and where among their arguments its name stands."""
    found = {}
    for _, tree in modules():
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = [argument.arg for argument in node.args.args if argument.arg != "self"]
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call) and is_log(call.func)]
            if "event" in names and any("event" in map(ast.unparse, call.args) for call in calls):
                found[node.name] = names.index("event")
    return found


def logged(tree: ast.Module, handed: dict[str, int]) -> set[str]:
    """The events of a module that are a warning or more, found in its syntax tree."""
    nodes = list(ast.walk(tree))
    values = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target, value in pairs(node.targets[0], node.value):
                values[target] = [*values.get(target, ()), value]
    loud = {name for name, given in values.items() if any(is_loud(part) for v in given for part in ast.walk(v))}
    found: set[str] = set()
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in handed and (name != "once" or "said" in ast.unparse(call.func)):
            at = handed[name]
        elif is_loud(call.func) or (isinstance(call.func, ast.Name) and name in loud):
            at = 0
        else:
            continue
        if len(call.args) > at:
            found |= texts(call.args[at], values)
    return found


def pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Each name that an assignment gives a value, and that value."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            yield from pairs(one, its)
    elif isinstance(target, ast.Name):
        yield target.id, value


def is_log(node: ast.AST) -> bool:
    """Tell whether a node is a method of a logger."""
    return isinstance(node, ast.Attribute) and bool(LOGGER.search(ast.unparse(node.value)))


def is_loud(node: ast.AST) -> bool:
    """Tell whether a node is a method of a logger that warns."""
    return is_log(node) and isinstance(node, ast.Attribute) and node.attr in LEVELS


def texts(node: ast.expr, values: dict[str, list[ast.expr]]) -> set[str]:
    """The texts that an expression may be: itself, a branch of it, or what its name was given."""
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Fact":
        return {str(Fact[node.attr])}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "str":
        return texts(node.args[0], values)
    if isinstance(node, ast.IfExp):
        return texts(node.body, values) | texts(node.orelse, values)
    if isinstance(node, ast.Name):
        word = vars(vocabulary).get(node.id)
        given = {text for value in values.get(node.id, ()) for text in texts(value, {})}
        return given | ({word} if isinstance(word, str) else set())
    return set()


def events() -> dict[str, str]:
    """Each event with the file that logs it; of words for a person the first."""
    known = handed()
    assert set(known) == {"isolate", "written", "once"}
    return {event.split(":")[0]: path.name for path, tree in modules() for event in sorted(logged(tree, known))}


def described() -> list[str]:
    """The events of the index, in its order."""
    section = OPERATIONS.partition("### Every warning, and what to do")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [event.replace("...", "%s") for cell in cells for event in re.findall(r"`([^`]+)`", cell)]


def test_every_event_that_asks_for_a_look_is_in_the_index_and_no_other() -> None:
    found = events()
    assert len(found) > 90, "the pattern no longer finds how events are logged"
    listed = described()
    assert sorted(set(found) - set(listed)) == [], "not in docs/operations.md"
    assert sorted(set(listed) - set(found)) == [], "no such event"
    assert len(listed) == len(set(listed)), "twice"
