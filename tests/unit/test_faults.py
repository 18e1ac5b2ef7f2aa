"""The table of the sandbox's faults: a door does what was accepted, and what there is can be read."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from requests import HTTPError

from tests.soak import menu
from tests.unit.words import Run
from worker.sandbox.alpaca.door import AlpacaDoor
from worker.sandbox.control import ControlDoor, SandboxControl
from worker.sandbox.fault_kinds import COMMON, KINDS, OPERATIONS, options_of, page, read, rows
from worker.sandbox.faults import Fault, Faults
from worker.sandbox.market.market import Market
from worker.sandbox.tda.door import TdaDoor
from worker.sandbox.tws.door import TwsDoor

ROOT = Path(__file__).parents[2]
SANDBOX = ROOT / "worker" / "sandbox"


@pytest.mark.parametrize(
    ("door", "kind", "operation", "options", "words"),
    [
        ("alpaca", "spoiled_row", "list", {"value": None}, "needs the option field"),
        ("schwab", "odd_token", None, {}, "needs the option body"),
        ("ibkr", "slow", None, {"second": 3}, "no option second; it has seconds, before, reverse"),
        ("ibkr", "slow", None, {"seconds": "soon"}, "seconds must be a number"),
        ("ibkr", "slow", None, {"seconds": math.nan}, "seconds must be a number"),
        ("ibkr", "slow", None, {"seconds": True}, "seconds must be a number"),
        ("alpaca", "half", None, {"cut": 1}, "cut must be true or false"),
        ("alpaca", "flood", None, {"way": "biblical"}, "way must be one of gzip"),
        ("ibkr", "token_expired", None, {}, "no fault of ibkr, but of tda, schwab"),
        ("tda", "hang", "lst", {}, "tda has no operation lst"),
        ("tda", "hang", None, {"operation": ["list", "lst"]}, "tda has no operation lst"),
        ("*", "hang", "lst", {}, "no operation lst"),
        ("alpaca", "explode", None, {}, "unknown fault kind 'explode'"),
    ],
)
def test_a_fault_that_a_door_cannot_do_as_asked_is_refused(
    door: str, kind: str, operation: str | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Faults().add(Fault(door, kind, operation=operation, options=options))


def test_every_fault_is_taken_with_what_it_needs_alone() -> None:
    needs: dict[str, dict[str, Any]] = {"spoiled_row": {"field": "qty"}, "odd_token": {"body": {}}}
    faults = Faults()
    for kind in KINDS.values():
        for door in kind.doors:
            faults.add(Fault(door, kind.name, options=dict(needs.get(kind.name, {}))))
    assert {option.name for kind in KINDS.values() for option in kind.options if option.required} == {"field", "body"}


def test_every_fault_of_the_soak_is_one_that_a_door_can_do() -> None:
    menus = (menu.PLACING, menu.LIVING, menu.RESTING, menu.UPDATING, menu.ASKING, menu.CUTTING)
    dice = random.Random(7)
    for kind in itertools.chain(*menus):
        for door in kind.doors:
            for _ in range(10):
                Faults().add(Fault(**kind.fault(dice, door)))


@pytest.mark.parametrize(
    ("kind", "key", "text", "value"),
    [
        ("spoiled_row", "value", "null", None), ("spoiled_row", "value", '"7"', "7"),
        ("spoiled_row", "value", "?", "?"), ("spoiled_row", "value", "[]", []), ("refuse", "text", "201", "201"),
        ("sentinel", "value", "NaN", "NaN"),
        ("half", "cut", "true", True), ("slow", "seconds", "0.5", 0.5),
    ],
)  # fmt: skip
def test_a_typed_option_is_what_its_fault_takes(kind: str, key: str, text: str, value: object) -> None:
    assert read(kind, key, text) == value


def test_a_number_that_is_none_reaches_the_field_that_it_shall_spoil() -> None:
    async def story() -> None:
        market = Market()
        door = ControlDoor(market, {"alpaca": None}, {})
        control = SandboxControl(f"http://127.0.0.1:{await door.start()}", door.token)
        try:
            options = {"field": "qty", "value": read("spoiled_row", "value", "NaN")}
            told = await asyncio.to_thread(control.add_fault, "alpaca", "spoiled_row", 1, operation="list", **options)
            assert math.isnan(market.faults.all()[0].options["value"])
            assert told["options"]["value"] == "nan"
            with pytest.raises(HTTPError, match=r"^spoiled_row needs the option field"):
                await asyncio.to_thread(control.add_fault, "alpaca", "spoiled_row")
        finally:
            await door.stop()
            market.close()

    asyncio.run(story())


WRONG: list[tuple[str, tuple[Any, ...], str]] = [
    ("set_price", ("GME", "20"), "^GME does not trade here: shares are .*AAPL.*SIM999"),
    ("set_price", ("AAPL", "x"), "^price: must be a number, was 'x'"),
    ("set_price", ("AAPL", "-5"), "^price: must be greater than zero, was -5"),
    ("set_price", ("AAPL", "NaN"), "^price: must be a number, was 'NaN'"),
    ("set_position", ("alpaca", "GME", "5"), "^GME does not trade here"),
    ("set_position", ("alpaca", "AAPL", "x"), "^quantity: must be a number, was 'x'"),
    ("set_position", ("moon", "AAPL", "5"), "^unknown door 'moon': there are alpaca"),
    ("clear_faults", ("moon",), "^unknown door 'moon'"),
    ("release", ("moon",), "^unknown door 'moon'"),
    ("pay", ("moon", "fee"), "^unknown door 'moon'"),
]


def test_what_the_sandbox_cannot_do_it_says_in_words() -> None:
    async def story() -> None:
        market = Market()
        door = ControlDoor(market, {"alpaca": None}, {})
        control = SandboxControl(f"http://127.0.0.1:{await door.start()}", door.token)
        try:
            for name, given, words in WRONG:
                with pytest.raises(HTTPError, match=words):
                    await asyncio.to_thread(getattr(control, name), *given)
            with pytest.raises(HTTPError, match=r"^symbol: is missing"):
                await asyncio.to_thread(partial(control._call, "POST", "/price", body={}))
            await asyncio.to_thread(control.set_position, "alpaca", "GME", 0)
        finally:
            await door.stop()
            market.close()

    asyncio.run(story())


# -- THE TABLE IS TRUE --
def test_the_operations_of_a_door_are_those_it_has() -> None:
    market = Market()
    for door in (AlpacaDoor(market), TdaDoor(market, "tda", "tda"), TdaDoor(market, "schwab", "schwab")):
        assert {route.operation for route in door.routes()} == set(OPERATIONS[door.name]), door.name
    asked = {operation for operation, _ in TwsDoor(market)._requests._handlers.values()}
    assert asked | {"replace", "commission"} == set(OPERATIONS["ibkr"])
    market.close()


def source() -> str:
    return "\n".join(path.read_text() for path in SANDBOX.rglob("*.py") if path.name != "fault_kinds.py")


def test_every_fault_and_every_option_is_in_the_doors_code() -> None:
    text = source()
    assert not [name for name in KINDS if f'"{name}"' not in text]
    read_there = set(re.findall(r'options(?:\.get\(|\[)"(\w+)"|"(\w+)" in \w+\.options', text))
    names = {name for pair in read_there for name in pair if name}
    known = {name for kind in KINDS.values() for name in options_of(kind)} | {"noted"}
    assert names <= known
    strangers = {option.name for option in KINDS["foreign"].options}
    assert {o.name for kind in KINDS.values() for o in kind.options} - strangers <= names
    assert {option.name for option in COMMON} <= names


def test_the_page_of_faults_is_the_table() -> None:
    assert (ROOT / "docs" / "faults.md").read_text() == page(), "python -m worker.sandbox.fault_kinds > docs/faults.md"


# -- THE COMMAND --
def test_a_person_can_list_every_fault_with_its_options(corro: Run) -> None:
    status, out, _ = corro("sandbox", "faults", "--kinds", "--json")
    assert (status, json.loads(out)) == (0, rows())
    status, out, _ = corro("sandbox", "faults", "--kinds")
    assert status == 0
    assert all(name in out for name in KINDS)
    assert "how much of the answer is sent" in out


def test_a_sandbox_whose_home_is_named_is_asked_whatever_the_settings_say(
    corro: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corro.toml").write_text("[routing")
    monkeypatch.setenv("CORRO_CONFIG", str(tmp_path / "corro.toml"))
    for words in (["faults"], ["position", "ibkr", "KO", "5"]):
        status, _, said = corro("sandbox", "--home", str(tmp_path), *words)
        assert (status, f"no sandbox runs in {tmp_path}" in said) == (2, True), said
    status, _, said = corro("sandbox", "faults")
    assert (status, "settings: " in said) == (2, True), said
