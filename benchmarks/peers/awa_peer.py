"""awa-pg: a job's row is committed when it is asked for, and its attempt before it runs; PostgreSQL alone, no Redis.

A job that was begun is never begun again (`max_attempts=1`), which is corro's promise about a send. The answer is a
row of its own, as everybody's here: a job keeps no result. It listens, so its poll is what happens when a notice is
lost; the handler is a coroutine that calls the null broker directly and commits in one of eight threads.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import awa
import common

_QUEUE = "orders"
_threads = ThreadPoolExecutor(common.PARALLEL)
_client: awa.Client


@dataclass
class AwaOrder:
    client_order_id: str
    strategy: str
    symbol: str
    side: str
    quantity: str
    order_type: str
    limit_price: str
    time_in_force: str
    created_at: str


def start() -> None:
    global _client
    _client = awa.Client(common.url())
    _client.migrate()
    _client.install_queue_storage(schema="awa")  # its own engine; without it jobs live in the older tables


def enqueue(order: dict[str, str]) -> None:
    _client.insert(AwaOrder(**order), queue=_QUEUE, max_attempts=1)


def enqueue_many(orders: list[dict[str, str]]) -> None:
    _client.enqueue_many_copy([AwaOrder(**order) for order in orders], queue=_QUEUE, max_attempts=1)


async def work() -> None:
    client = awa.AsyncClient(common.url(), max_connections=common.PARALLEL + 4)

    @client.task(AwaOrder, queue=_QUEUE)
    async def place(job: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(_threads, common.send_then_record, asdict(job.args))

    await client.start([(_QUEUE, common.PARALLEL)], poll_interval_ms=50)
    await asyncio.Event().wait()


COMMAND = ["awa_peer.py"]

if __name__ == "__main__":
    asyncio.run(work())
