"""The strategy's side of one contender: takes commands on stdin, answers on stdout, a JSON line each.

`python driver.py MODULE`, where MODULE has `enqueue(order)`, as a function or a coroutine, and may have
`enqueue_many(orders)`, `start()`, and its own `new_order()` and `identity(order)`. What is timed is what a strategy
pays: building the order and handing it over.

| command                     | answer                                                                  |
|-----------------------------|-------------------------------------------------------------------------|
| each n                      | `ns`: of each call; `cpu_s`: of all of them, this process               |
| many n                      | the same of one call with n orders                                      |
| paced n per_s               | `sent`: [id, CLOCK_MONOTONIC before the call] of each, begun at that pace |
| changes how ids per_s       | the same of the module's `cancel` or `replace`, of orders that are there |
| waited n per_s              | `sent`: [id, CLOCK_MONOTONIC when the strategy had waited for its end]  |
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import common


class Driver:
    """One contender's producer."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.new_order: Callable[[], Any] = getattr(module, "new_order", common.new_order)
        self.identity: Callable[[Any], str] = getattr(module, "identity", lambda order: order["client_order_id"])
        self.loop = asyncio.new_event_loop() if inspect.iscoroutinefunction(module.enqueue) else None
        started = module.start() if hasattr(module, "start") else None
        if started is not None:
            self._finish(started)

    def _finish(self, work: Awaitable[Any]) -> Any:
        assert self.loop is not None
        return self.loop.run_until_complete(work)

    def each(self, n: int) -> dict[str, Any]:
        before = time.process_time()
        times = self._finish(self._each_async(n)) if self.loop else self._each(n)
        return {"ns": times, "cpu_s": time.process_time() - before}

    def _each(self, n: int) -> list[int]:
        clock, new, enqueue, times = time.perf_counter_ns, self.new_order, self.module.enqueue, []
        for _ in range(n):
            started = clock()
            enqueue(new())
            times.append(clock() - started)
        return times

    async def _each_async(self, n: int) -> list[int]:
        clock, new, enqueue, times = time.perf_counter_ns, self.new_order, self.module.enqueue, []
        for _ in range(n):
            started = clock()
            await enqueue(new())
            times.append(clock() - started)
        return times

    def many(self, n: int) -> dict[str, Any]:
        before, started = time.process_time(), time.perf_counter_ns()
        self.module.enqueue_many([self.new_order() for _ in range(n)])
        return {"ns": [time.perf_counter_ns() - started], "cpu_s": time.process_time() - before}

    def paced(self, n: int, per_s: float) -> dict[str, Any]:
        sent, due = [], time.monotonic()
        for _ in range(n):
            due += 1 / per_s
            time.sleep(max(0.0, due - time.monotonic()))
            started = time.monotonic_ns()
            order = self.new_order()
            done = self.module.enqueue(order)
            if self.loop:
                self._finish(done)
            sent.append([self.identity(order), started])
        return {"sent": sent}

    def changes(self, how: str, ids: list[str], per_s: float) -> dict[str, Any]:
        change, sent, due = getattr(self.module, how), [], time.monotonic()
        for id_ in ids:
            due += 1 / per_s
            time.sleep(max(0.0, due - time.monotonic()))
            sent.append([id_, time.monotonic_ns()])
            change(id_)
        return {"sent": sent}

    def waited(self, n: int, per_s: float) -> dict[str, Any]:
        sent, due = [], time.monotonic()
        for _ in range(n):
            due += 1 / per_s
            time.sleep(max(0.0, due - time.monotonic()))
            order = self.new_order()
            self.module.enqueue_and_wait(order)
            sent.append([self.identity(order), time.monotonic_ns()])
        return {"sent": sent}


def main() -> None:
    driver = Driver(importlib.import_module(sys.argv[1]))
    gc.collect()
    gc.freeze()  # for everybody: or a collection that looks at all that was imported falls into some rounds
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        work = getattr(driver, command.pop("do"))
        print(json.dumps(work(**command)), flush=True)


if __name__ == "__main__":
    main()
