"""Celery 5.7: a plain task on Redis, in the interpreter that corro's own worker runs in.

Threads, because the task waits for a database and a broker; results, events and chatter off; acks_late where the
promise needs a message to come back.
"""

from __future__ import annotations

import common
from celery import Celery

app = Celery("peer", broker=f"redis+socket://{common.CONFIG['socket']}?virtual_host={common.CONFIG['db']}")
app.conf.task_ignore_result = True
app.conf.task_acks_late = common.PROMISE
app.conf.worker_send_task_events = app.conf.task_send_sent_event = False
app.conf.broker_connection_retry_on_startup = True


@app.task(name="place")
def place(order: dict[str, str]) -> None:
    common.execute(order)


def enqueue(order: dict[str, str]) -> None:
    place.apply_async((order,))


def enqueue_many(orders: list[dict[str, str]]) -> None:
    with app.producer_pool.acquire(block=True) as producer, producer.batch(1000):
        for order in orders:
            place.apply_async((order,), producer=producer)


COMMAND = [
    "-m", "celery", "-A", "celery_peer", "--quiet", "worker", "-P", "threads", "-c", str(common.PARALLEL),
    "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING",
]  # fmt: skip
