"""The sandbox's TWS door against recordings of a real gateway: the same messages in, the same kinds out, in order."""

from __future__ import annotations

import asyncio
import importlib
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.door_tws.gateway import SdkGateway, open_gateway
from tests.contract.recordings import Body, RecordedStep, recording
from tests.kit.stories import eventually, run

_KINDS = {3: "order_status", 4: "api_error", 5: "open_order", 11: "execution_detail", 59: "commission_report"}
#: Statuses that a gateway may leave out on the way: both kinds of recordings exist.
_OPTIONAL = frozenset({"PreSubmitted", "PendingCancel"})


def heard(ib: Any, told: list[tuple[str, str]]) -> None:
    """Note what the server says about orders."""
    decode = ib.client.decoder.interpret

    def note(fields: list[str]) -> None:
        kind = _KINDS.get(int(fields[0]), "")
        word = {"order_status": 2, "api_error": 3}.get(kind)
        if kind and not (kind == "api_error" and fields[2] == "-1"):
            told.append((kind, fields[word] if word else ""))
        decode(fields)

    ib.client.decoder.interpret = note


def shape(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what varies between recordings: openOrders, statuses on the way, doubled lines, commissions."""
    kept: list[tuple[str, str]] = []
    for kind, word in told:
        if kind in ("open_order", "commission_report") or word in _OPTIONAL or (kept and kept[-1] == (kind, word)):
            continue
        kept.append((kind, word))
    return kept


def recorded(steps: list[RecordedStep], order_id: str) -> list[tuple[str, str]]:
    words = {"order_status": "status", "api_error": "code"}
    return [
        (s.what, str(s.body[words[s.what]]) if s.what in words else "")
        for s in steps
        if s.who == "server"
        and str(s.body.get("order_id", s.body.get("req_id"))) == order_id
        and s.what in _KINDS.values()
    ]


def place(gateway: SdkGateway, ib: Any, body: Body) -> Any:
    fields: Body = {"tif": body["tif"], "action": body["action"]}
    if body.get("lmt_price"):
        fields["lmtPrice"] = float(body["lmt_price"])
    if body.get("trailing_percent"):
        fields["trailingPercent"] = float(body["trailing_percent"])
    return gateway.place(ib, body["order_type"], float(body["total_quantity"]), **fields)


@pytest.mark.parametrize("name", ["ib_insync", "ib_async"])
@pytest.mark.parametrize(
    ("story", "order_id", "cancels"),
    [
        ("place_order_fill_native_execution_time", "1", False),
        ("api_completed_orders_variants_aapl", "297", False),
        ("api_ioc_fok_aapl", "61", False),
        ("api_ioc_fok_aapl", "62", False),
        ("api_ioc_fok_aapl", "63", False),
        ("api_tif_attribute_matrix_aapl", "246", True),
        ("place_order_invalid_type_live_error", "40", False),
    ],
)
def test_an_order_is_answered_in_kind_and_order_as_recorded(
    name: str, story: str, order_id: str, cancels: bool
) -> None:
    steps = recording(story)
    body = next(s.body for s in steps if s.what == "place_order" and s.body["order_id"] == order_id)
    wanted = shape(recorded(steps, order_id))

    async def play() -> None:
        async with open_gateway(importlib.import_module(name)) as gateway:
            if body["tif"] == "IOC":
                gateway.market.set_price("AAPL", Decimal(1000))  # nobody sells at the limit
            ib, told = await gateway.connect(), list[tuple[str, str]]()
            heard(ib, told)
            trade = place(gateway, ib, body)
            if cancels:
                await eventually(lambda: ("order_status", "Submitted") in told)
                ib.cancelOrder(trade.order)
            await eventually(lambda: len(shape(told)) >= len(wanted))
            await asyncio.sleep(0)
            assert shape(told) == wanted
            if wanted[0][0] != "api_error":
                assert told[0][0] == "open_order"

    run(play)


@pytest.mark.parametrize("name", ["ib_insync", "ib_async"])
@pytest.mark.parametrize(
    ("story", "client_id"), [("api_cross_client_cancel_aapl", 2), ("api_client_id0_order_observation_aapl", 0)]
)
def test_another_client_that_has_listed_an_order_cancels_it_as_recorded(name: str, story: str, client_id: int) -> None:
    steps = recording(story)
    end = [s.body for s in steps if s.what == "order_status"][-1]

    async def play() -> None:
        async with open_gateway(importlib.import_module(name)) as gateway:
            first = await gateway.connect(1)
            for _ in range(3):  # so that the id is none of the other client's
                trade = gateway.place(first, "LMT", 10, lmtPrice=13.27, tif="GTC")
            await eventually(lambda: trade.orderStatus.status == "Submitted")
            first.disconnect()
            other = await gateway.connect(client_id)
            await other.reqAllOpenOrdersAsync()
            told: list[list[str]] = []
            decode = other.client.decoder.interpret
            other.client.decoder.interpret = lambda fields: (told.append(fields), decode(fields))
            other.client.cancelOrder(trade.order.orderId, "")
            last = await eventually(lambda: [f for f in told if f[0] == "3" and f[2] == "Cancelled"])
            assert (last[0][2], last[0][9]) == (end["status"], end["client_id"])
            await eventually(lambda: [f for f in told if f[0] == "4" and f[3] == "202"])

    run(play)
