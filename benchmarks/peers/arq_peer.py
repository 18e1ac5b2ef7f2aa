"""arq: it looks every 10 ms instead of every 500, as an order cannot wait for half a second; results are not kept.

With a broker that answers at once the task calls it directly; one that waits for HTTP is called in a thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import common
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

_redis = RedisSettings(unix_socket_path=common.CONFIG["socket"], database=common.CONFIG["db"])
_threads = ThreadPoolExecutor(common.PARALLEL)
_pool: ArqRedis


async def place(_context: Any, order: dict[str, str]) -> None:
    if common.AT_ONCE:
        common.execute(order)
    else:
        await asyncio.get_running_loop().run_in_executor(_threads, common.execute, order)


class WorkerSettings:
    functions = [place]
    redis_settings = _redis
    max_jobs = common.PARALLEL
    poll_delay = 0.01
    keep_result = 0


async def start() -> None:
    global _pool
    _pool = await create_pool(_redis)


async def enqueue(order: dict[str, str]) -> None:
    await _pool.enqueue_job("place", order)


COMMAND = ["-m", "arq", "arq_peer.WorkerSettings"]
