"""The index by symptom in docs/operations.md: every event of the log that asks for a look is in it, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from models import vocabulary
from models.lifecycle import Fact

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
LOGGER = re.compile(r"(^|[._])log$|^logging\.getLogger")
LEVELS = {"warning", "error", "critical", "exception"}


def is_log(node: ast.AST) -> bool:
    """Tell whether a node is a method of a logger."""
    return isinstance(node, ast.Attribute) and bool(LOGGER.search(ast.unparse(node.value)))


def is_loud(node: ast.AST) -> bool:
    """Tell whether a node is a method of a logger that warns."""
    return is_log(node) and isinstance(node, ast.Attribute) and node.attr in LEVELS


def named(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Each name that an assignment gives a value, and that value."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            yield from named(one, its)
    elif isinstance(target, ast.Name):
        yield target.id, value


class Module:
    """One module, and the events that it logs as a warning or more, found in its syntax tree."""

    def __init__(self, path: Path) -> None:
        self.path, self.nodes = path, list(ast.walk(ast.parse(path.read_text())))
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        self.values: dict[str, list[ast.expr]] = {}
        for node in (node for node in self.nodes if isinstance(node, ast.Assign)):
            for name, value in named(node.targets[0], node.value):
                self.values.setdefault(name, []).append(value)

    @cached_property
    def handed(self) -> dict[str, int]:
        """Functions that log an event of their caller's choice, and where among their arguments it stands."""
        found = {}
        for node in (node for node in self.nodes if isinstance(node, ast.FunctionDef)):
            given = (*node.args.posonlyargs, *node.args.args)
            names = [argument.arg for argument in given if argument.arg != "self"]
            logs = [call for call in ast.walk(node) if isinstance(call, ast.Call) and is_log(call.func)]
            if "event" in names and any("event" in map(ast.unparse, call.args) for call in logs):
                found[node.name] = names.index("event")
        return found

    def events(self, handed: dict[str, int]) -> set[str]:
        """Those it logs, those it hands to who logs them, and those its classes are asked for."""
        loud = {name for name, given in self.values.items() if any(is_loud(n) for v in given for n in ast.walk(v))}
        found: set[str] = set()
        for call in self.calls:
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in handed and (name != "once" or "said" in ast.unparse(call.func)):
                found |= self.texts(call.args[handed[name]]) or self.lines()
            elif call.args and (is_loud(call.func) or (isinstance(call.func, ast.Name) and name in loud)):
                found |= self.texts(call.args[0]) or self.lines()
        return found | self.of_classes()

    def texts(self, node: ast.expr) -> set[str]:
        """The texts that an expression may be: itself, a branch of it, or what its name was given."""
        match node:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.IfExp(body=one, orelse=other):
                return self.texts(one) | self.texts(other)
            case ast.Call(func=ast.Name(id="str"), args=[given]):
                return self.texts(given)
            case ast.Attribute(value=ast.Name(id="Fact"), attr=name):
                return {str(Fact[name])}
            case ast.Name(id=name) if isinstance(word := vars(vocabulary).get(name), str):
                return {word}
            case ast.Name(id=name):
                return {text for value in self.values.get(name, ()) for text in self.texts(value)}
        return set()

    def lines(self) -> set[str]:
        """The events of lines (event, facts) that are collected first and logged later."""
        pairs = [node.elts for node in self.nodes if isinstance(node, ast.Tuple) and len(node.elts) == 2]
        return {str(one.value) for one, facts in pairs if isinstance(one, ast.Constant) and is_facts(facts)}

    def of_classes(self) -> set[str]:
        """The texts of `event = "..."` in classes."""
        parts = [part for node in self.nodes if isinstance(node, ast.ClassDef) for part in node.body]
        given = [part for part in parts if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "event"]
        return {text for part in given for text in self.texts(part.value)}


def is_facts(node: ast.expr) -> bool:
    """Tell whether a node makes the facts of a line."""
    return isinstance(node, ast.Call | ast.Dict)


def events() -> dict[str, str]:
    """Each event with the file that logs it; of words for a person the first.

    Without the sandbox: a program of its own, whose log no operator has to read.
    """
    paths = [path for package in ("worker", "producers", "models") for path in (ROOT / package).rglob("*.py")]
    modules = [Module(path) for path in paths if "sandbox" not in path.parts]
    handed = {name: at for module in modules for name, at in module.handed.items()}
    assert set(handed) == {"isolate", "written", "once", "lasts"}
    return {event.split(":")[0]: module.path.name for module in modules for event in module.events(handed)}


def described() -> list[str]:
    """The events of the index, in its order."""
    section = OPERATIONS.partition("### Every warning, and what to do")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [event.replace("...", "%s") for cell in cells for event in re.findall(r"`([^`]+)`", cell)]


def test_every_event_that_asks_for_a_look_is_in_the_index_and_no_other() -> None:
    found, listed = events(), described()
    assert len(found) > 90, "the pattern no longer finds how events are logged"
    assert sorted(set(found) - set(listed)) == [], "not in docs/operations.md"
    assert sorted(set(listed) - set(found)) == [], "no such event"
    assert len(listed) == len(set(listed)), "twice"
