"""Strategies that die while they submit: a process that makes a child for every batch, and has it killed.

One line of JSON in: `orders`, and `dies`: "at the ring" (after the commit, before the first byte to the queue) or
seconds after its start. One line out: the child's exit status, -9 when the kill came in time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from producers import OrderClient, OrderRequest


def _submit(orders: list[dict[str, Any]], at_the_ring: bool) -> None:
    if at_the_ring:
        os.environ["CORRO_CRASH"] = "before_ring"
    client = OrderClient()
    client.submit_many([OrderRequest(**order) for order in orders])


def _one(task: dict[str, Any]) -> int:
    at_the_ring = task["dies"] == "at the ring"
    pid = os.fork()
    if not pid:
        try:
            _submit(task["orders"], at_the_ring)
        except BaseException as error:  # the database may be away
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if not at_the_ring:
        time.sleep(float(task["dies"]))
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    for line in sys.stdin:
        print(_one(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
