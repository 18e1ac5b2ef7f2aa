"""RQ: SimpleWorker, which does not fork for each job; it runs one job at a time. Results are not kept."""

from __future__ import annotations

import common
from redis import Redis
from rq import Queue

queue = Queue("orders", connection=Redis.from_url(common.URL))


def enqueue(order: dict[str, str]) -> None:
    queue.enqueue("common.execute", order, result_ttl=0)


def enqueue_many(orders: list[dict[str, str]]) -> None:
    queue.enqueue_many([Queue.prepare_data("common.execute", (order,), result_ttl=0) for order in orders])


COMMAND = ["-m", "rq.cli", "worker", "-q", "-w", "rq.SimpleWorker", "-u", common.URL, "orders"]
