"""`corro mcp`: an assistant reads everything, and what it submits waits for a person unless its key says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp")

from models.record.database import Database
from models.settings import load_settings
from models.signing import token_signer
from producers import OrderClient
from tests.unit.trust_desk import Make
from worker.control.keys import add
from worker.page.tools import APPROVAL, Assistant, assistant_server

ORDER = {"client_order_id": "o-1", "symbol": "ko", "side": "buy", "quantity": "5"}


@pytest.fixture
def client(bare: Path, database: Database) -> Iterator[OrderClient]:
    with OrderClient(load_settings(home=bare)) as opened:
        yield opened


def ask(assistant: Assistant, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Call tools in one session; returns what each gave, of a list its rows, of an error its words."""

    async def session() -> list[Any]:
        found = []
        async with mcp.Client(assistant_server(assistant)) as door:
            for name, given in calls:
                answer = await door.call_tool(name, given)
                content = answer.structured_content or {}
                found.append(answer.content[0].text if answer.is_error else content.get("result", content))
        return found

    return asyncio.run(session())


def test_an_assistants_order_is_held_and_once_however_often_it_is_submitted(client: OrderClient) -> None:
    first, again, other, rows = ask(
        Assistant(client), ("submit_order", ORDER), ("submit_order", ORDER),
        ("submit_order", ORDER | {"quantity": "6"}), ("orders", {"symbol": "KO", "status": "held,queued"}),
    )  # fmt: skip
    assert first["status"] == again["status"] == "held"
    assert APPROVAL in first["reason"]
    assert "IdempotencyConflict" in other
    assert [row["client_order_id"] for row in rows] == ["o-1"]


def test_a_key_that_was_named_for_it_says_whether_its_orders_are_held(make: Make) -> None:
    desk = make(require="all")
    stands = {}
    with OrderClient(desk.settings) as client:
        for name, waits in (("free", False), ("bound", True)):
            _, token = add(desk.database, name, "token", by="test", owner="ann", needs_approval=waits)
            assert token is not None
            assistant = Assistant(client, token_signer(token, desk.settings.security.deployment))
            [told] = ask(assistant, ("submit_order", ORDER | {"client_order_id": name}))
            stands[name] = told["status"]
    assert stands == {"free": "queued", "bound": "held"}
    desk.desk.place.work(["free"])
    assert desk.stands("free") == ("filled", None)


def test_every_tool_reads_and_only_one_writes(client: OrderClient) -> None:
    async def tools() -> list[Any]:
        async with mcp.Client(assistant_server(Assistant(client))) as door:
            return list((await door.list_tools()).tools)

    found = asyncio.run(tools())
    assert [tool.name for tool in found if not tool.annotations.read_only_hint] == ["submit_order"]
    lists = ["orders", "fills", "attempts", "events", "positions", "fleet", "unresolved", "controls"]
    assert {tool.name for tool in found} == {*lists, "order", "submit_order"}
    assert all(tool.description for tool in found)
    told = ask(Assistant(client), *((name, {}) for name in lists))
    shown = dict(zip(lists, told, strict=True))
    assert [rows for name, rows in shown.items() if name not in ("fleet", "positions")] == [[]] * 6
    assert {row["error"] is not None for row in shown["positions"]} == {True}  # nobody has read them
    assert [row["broker"] for row in told[lists.index("fleet")]] == ["ibkr", "alpaca", "tda"]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("order", {"client_order_id": "none"}, "NotFound"), ("orders", {"since": "soon"}, "InvalidRequest"),
        ("orders", {"status": "bogus"}, "must be open, or one of"), ("orders", {"statu": "filled"}, "no argument"),
        ("orders", {"limit": -5}, "limit: must be"), ("fills", {"limit": 201}, "limit: must be"),
        ("attempts", {"outcome": "filled,bogus"}, "outcome: must"), ("fills", {"broker": "bogus"}, "broker: must"),
        ("events", {"since": 999}, "since: 999"), ("positions", {"broker": "tda"}, "no argument 'broker'"),
        ("submit_order", ORDER | {"trail_amount": "1"}, "no argument 'trail_amount'"),
        ("submit_order", ORDER | {"quantity": "NaN"}, "InvalidOrder"),
        ("submit_order", ORDER | {"quantity": True}, "InvalidRequest: quantity: must be text, was true"),
        ("submit_order", ORDER | {"quantity": None}, "InvalidRequest: quantity: is required"),
        ("orders", {"limit": "many", "since": []}, "must be a whole number, was 'many'"),
        ("submit_order", ORDER | {"route": "nowhere"}, "InvalidOrder"),
    ],
)  # fmt: skip
def test_an_assistant_is_told_what_is_wrong(client: OrderClient, name: str, given: dict[str, Any], words: str) -> None:
    [told] = ask(Assistant(client), (name, given))
    assert words in told


def test_null_is_not_given_and_a_number_is_its_text(client: OrderClient) -> None:
    given = ORDER | {"quantity": 3, "limit_price": 40.5, "order_type": "limit", "stop_price": None, "strategy": None}
    held, listed = ask(
        Assistant(client), ("submit_order", given), ("orders", {"status": None, "since": None, "limit": None})
    )
    assert (held["quantity"], held["limit_price"]) == ("3", "40.5")
    assert [row["client_order_id"] for row in listed] == ["o-1"]
