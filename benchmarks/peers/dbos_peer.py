"""DBOS: a workflow's row is committed when it is asked for, and marked as begun before it runs; no Redis.

That row is the order's record: its inputs, and what the broker answered. A workflow that was begun is never begun again
(`max_recovery_attempts=0`), which is corro's promise about a send; DBOS itself would call the broker a second time. Its
worker polls, every 10 ms instead of every second, and takes all that it finds; its eight threads are its limit.
"""

from __future__ import annotations

import time
from typing import Any

import common
from dbos import DBOS, DBOSClient, DBOSConfig
from null_call import Commits, NullCall
from sqlalchemy import event
from sqlalchemy.engine import Engine

_QUEUE, _WORKFLOW, _VERSION = "orders", "place", "1"
event.listen(Engine, "commit", Commits(common.CONFIG["stamps"]).add)
_client: DBOSClient


@DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=0)
def place(order: dict[str, str]) -> str:
    return _broker().place(order["client_order_id"])


_brokers: list[Any] = []


def _broker() -> Any:
    if not _brokers:
        _brokers.append(NullCall(common.CONFIG["stamps"]) if common.AT_ONCE else common.Alpaca(common.CONFIG["broker"]))
    return _brokers[0]


def _launch() -> None:
    config = DBOSConfig(
        name="peer", system_database_url=common.sqlalchemy_url(), application_version=_VERSION, executor_id="1",
        log_level="ERROR", max_executor_threads=common.PARALLEL, sys_db_pool_size=common.PARALLEL + 4,
    )  # fmt: skip
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(_QUEUE, polling_interval_sec=0.01)


def start() -> None:
    """The producer's side: the tables are made by a worker that goes away again, then only a client is left."""
    global _client
    _launch()
    DBOS.destroy()
    _client = DBOSClient(system_database_url=common.sqlalchemy_url())


def enqueue(order: dict[str, str]) -> None:
    _client.enqueue({"workflow_name": _WORKFLOW, "queue_name": _QUEUE, "app_version": _VERSION}, order)


COMMAND = ["dbos_peer.py"]

if __name__ == "__main__":
    _launch()
    while True:
        time.sleep(60)
