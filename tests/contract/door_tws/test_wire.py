"""The TWS door's wire itself, where an SDK would hide it."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.door_tws.gateway import open_gateway
from tests.contract.door_tws.raw_client import RawTwsClient, market_order
from tests.kit.stories import run


@pytest.mark.parametrize(("version", "open_fields", "completed_fields"), [(164, 131, 96), (176, 136, 101)])
def test_long_messages_have_the_recorded_number_of_fields(
    version: int, open_fields: int, completed_fields: int
) -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, hello = await RawTwsClient.connect(gateway.door.port, f"v157..{version}")
            assert (hello[0], len(hello)) == (str(version), 2)
            client.send(*market_order(1, version, "1.7976931348623157e+308"))
            opened = await client.receive("5")
            assert len(opened) == open_fields
            assert (opened[23], opened[94]) == ("ref-1", "PreSubmitted")
            assert len(await client.receive("3")) == 12
            assert len(await client.receive("11")) == 31
            assert len(await client.receive("59")) == 8
            client.send(99, 0)
            completed = await client.receive("101")
            assert len(completed) == completed_fields
            assert (completed[87], completed[95]) == ("10", "Filled Size: 10")
            client.writer.close()

    run(story)


def test_the_order_of_messages_is_that_of_a_recorded_market_order() -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, _ = await RawTwsClient.connect(gateway.door.port, "v157..176")
            client.send(*market_order(1, 176, ""))
            first = await client.receive("5")
            kinds = [(first[0], first[94])]
            while kinds[-1][0] != "59":
                fields = await client.receive()
                kinds.append((fields[0], {"5": 94, "3": 2}.get(fields[0]) and fields[{"5": 94, "3": 2}[fields[0]]]))
            assert [(kind, status or "") for kind, status in kinds] == [
                ("5", "PreSubmitted"),
                ("3", "PreSubmitted"),
                ("11", ""),
                ("5", "Filled"),
                ("3", "Filled"),
                ("5", "Filled"),
                ("59", ""),
            ]
            client.writer.close()

    run(story)


def test_duplicated_status_lines_and_rolled_back_ids_are_sent_on_request() -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, _ = await RawTwsClient.connect(gateway.door.port, "v157..176")
            assert (await client.receive("9"))[2] == "1"
            gateway.fault("duplicate_status")
            client.send(*market_order(1, 176, ""))
            first, second = await client.receive("3"), await client.receive("3")
            assert first == second
            await client.receive("59")
            client.send(8, 1, 1)
            assert (await client.receive("9"))[2] == "2"
            gateway.fault("rollback_next_valid_id", by=1)
            client.send(8, 1, 1)
            assert (await client.receive("9"))[2] == "1"
            client.send(*market_order(1, 176, ""))
            assert (await client.receive("4"))[2:4] == ["1", "104"]
            client.writer.close()

    run(story)


def test_garbage_is_answered_or_cut_and_harms_no_one_else() -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, _ = await RawTwsClient.connect(gateway.door.port, "v157..176")
            stranger, writer = await asyncio.open_connection("127.0.0.1", gateway.door.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await stranger.read() == b""
            writer.close()
            client.send(3, 1, "not", "an", "order")
            await client.receive("9")
            error = await client.receive("4")
            while error[3] != "320":
                error = await client.receive("4")
            client.send(49, 1)
            assert await client.receive("49")
            client.writer.close()

    run(story)
