"""The simulated TWS counts messages by when they came, not by when a busy machine let it read them."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from worker.sandbox.arrivals import PolledLoop, StampedReader


def stamps(pieces: int, apart_s: float, busy_s: float) -> list[tuple[float, float]]:
    """Send pieces from a thread while the loop that reads them is busy; returns when each is said to have come."""

    async def read() -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        ended = asyncio.Event()

        async def serve(reader: StampedReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(pieces):
                await reader.readexactly(4)
                found.append(reader.came())
            writer.close()
            ended.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: asyncio.StreamReaderProtocol(StampedReader(), serve), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        sock = writer.get_extra_info("socket").dup()
        sock.setblocking(True)

        def send() -> None:
            for number in range(pieces):
                begun = time.monotonic()
                sock.sendall(number.to_bytes(4))
                sent.append((begun, time.monotonic()))
                time.sleep(apart_s)  # the pieces have to come at different times

        await asyncio.sleep(0)
        thread = threading.Thread(target=send)
        thread.start()
        end = time.monotonic() + busy_s
        while time.monotonic() < end:  # the loop is held up, the pieces lie in the socket
            pass
        await asyncio.wait_for(ended.wait(), 10)
        thread.join()
        sock.close()
        writer.close()
        server.close()
        return found

    sent: list[tuple[float, float]] = []
    with asyncio.Runner(loop_factory=PolledLoop) as runner:
        found = runner.run(read())
    pairs = zip(sent, found, strict=True)
    assert all(early <= ended and begun <= late for (begun, ended), (early, late) in pairs), (sent, found)
    return found


@pytest.mark.parametrize("busy_s", [0.0, 0.3])
def test_bytes_came_between_two_looks_however_late_they_are_read(busy_s: float) -> None:
    found = stamps(20, 0.01, busy_s)
    assert max(late - early for early, late in found) >= busy_s
