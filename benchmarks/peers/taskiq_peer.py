"""taskiq with its Redis streams, which acknowledge and were the faster of its brokers; no result is kept.

With a broker that answers at once the task is a coroutine; one that waits for HTTP runs in the thread pool.
"""

from __future__ import annotations

import common
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=common.URL, consumer_id="0")

if common.AT_ONCE:

    @broker.task(task_name="place")
    async def place(order: dict[str, str]) -> None:
        common.execute(order)

else:

    @broker.task(task_name="place")
    def place(order: dict[str, str]) -> None:
        common.execute(order)


async def start() -> None:
    await broker.startup()


async def enqueue(order: dict[str, str]) -> None:
    await place.kiq(order)


COMMAND = [
    "-m", "taskiq", "worker", "taskiq_peer:broker", "--workers", "1", "--log-level", "WARNING",
    "--max-threadpool-threads", str(common.PARALLEL),
]  # fmt: skip
