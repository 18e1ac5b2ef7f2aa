"""A client that speaks the TWS wire without an SDK."""

from __future__ import annotations

import asyncio
import struct

# -- THE WIRE --


class RawTwsClient:
    """Speaks the wire without an SDK."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, versions: str, client_id: int = 1) -> tuple[RawTwsClient, list[str]]:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(b"API\0" + struct.pack(">I", len(versions)) + versions.encode())
        hello = await client.receive()
        client.send(71, 2, client_id, "")
        return client, hello

    def send(self, *fields: object) -> None:
        payload = "".join(f"{f}\0" for f in fields).encode()
        self.writer.write(struct.pack(">I", len(payload)) + payload)

    async def receive(self, kind: str | None = None) -> list[str]:
        async with asyncio.timeout(5):
            while True:
                (length,) = struct.unpack(">I", await self.reader.readexactly(4))
                fields = (await self.reader.readexactly(length)).decode().split("\0")[:-1]
                if kind is None or fields[0] == kind:
                    return fields


def market_order(order_id: int, version: int, unset: str) -> list[object]:
    """Return placeOrder the way the official client writes it, unset numbers as literals."""
    contract = [0, "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", ""]
    head = [3, order_id, *contract, "", "", "BUY", 10, "MKT", unset, unset, "DAY", "", "", "", 0, "ref-1", 1, 0, 0, 0]
    head += [0, 0, 0, 0, "", 0, "", "", "", "", "", "", "", 0, "", -1, 0, "", "", 0, 2147483647, unset, 0, 0, unset]
    head += [0, unset, unset, unset, unset, unset, 0, unset, 2147483647, "", unset, 0, 2147483647, unset, unset]
    head += [2147483647, 2147483647, unset, "", "", "", "", 0, "", "", 0, 0, "", "", 0, "", 0, 0, 0, 0, "", unset]
    head += [unset, unset, unset, unset, 0, "", "", "", unset, "", "", "", "", 0, 0, 0, 2147483647]
    return [*head, *("" for gate in (158, 160, 162, 166, 169) if version >= gate)]
