"""How a worker's life hangs on Celery's: the engine starts before the pool and stops after its last task.

A bootstep that merely requires the pool would be stopped while tasks still run, and a signal handler that fails is only
logged and leaves a worker without a connection; a step that the *pool* requires does neither
(docs/facts/celery.md#3.2).
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_shutting_down
from celery.worker.components import Pool

from models.errors import ConfigurationError, CorroError
from models.settings import load_settings
from worker.engine import Engine
from worker.runtime.celery_command import PARENT

log = structlog.get_logger()

#: As in glibc's malloc.h, mallopt(3).
_M_ARENA_MAX = -8
_ARENAS = 2
#: Seconds between looks whether the process is still there that this one is to end with.
_PARENT_EVERY_S = 0.5

_engine: Engine | None = None


def engine() -> Engine:
    """Return the engine of this worker process."""
    assert _engine is not None, "tasks run in a worker process only"
    return _engine


@worker_shutting_down.connect
def _stopping(**_: object) -> None:
    """Tell tasks that wait for something that the process is to end."""
    if _engine is not None:
        _engine.stopping.set()


def broker_of(queues: Any) -> str:
    """Return the one broker whose queues a worker consumes.

    Raises:
        ConfigurationError: the queues name no broker, or several.
    """
    names = {str(queue).partition(".")[2] for queue in queues}
    if len(names) != 1:
        raise ConfigurationError(
            f"one worker is bound to one broker, but the queues are {', '.join(sorted(map(str, queues)))}: "
            "start it as `corro worker NAME`, or with -Q orders.NAME,control.NAME,data.NAME"
        )
    return names.pop()


class EngineStep(bootsteps.StartStopStep):
    """Starts and stops the engine."""

    requires = ("celery.worker.components:Timer",)

    def start(self, parent: Any) -> None:
        """Start the engine; a worker that is misconfigured exits instead of consuming orders it cannot send."""
        global _engine
        _end_when_hung_up()
        try:
            _share_memory()
            _engine = Engine(load_settings(), broker_of(parent.app.amqp.queues.consume_from))
            _engine.start()
            _end_with_parent()
            _spare_the_collector()
        except CorroError as error:
            _engine = None  # it has not begun, so there is nothing to stop
            print(f"corro: {error}", file=sys.stderr)  # noqa: T201
            raise SystemExit(2) from None

    def stop(self, parent: object) -> None:
        """Stop the engine after the last task."""
        global _engine
        if _engine is not None:
            _engine.stop()
            _engine = None

    terminate = stop


def _end_when_hung_up() -> None:
    """End in good order when the terminal closes, or a supervisor sends SIGHUP.

    Celery leaves a worker at a terminal to the system, which ends it in the middle of a send; away from one it starts
    the process anew under the name of its own file, which is no program where it was started by `python -m celery`.
    """
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))


def _end_with_parent() -> None:
    """End in good order when the `corro up` is gone that started this worker, however it went.

    The next one starts workers of its own, and a sandbox: two sets would share one account, one client id at IB.
    """
    parent = int(os.environ.get(PARENT) or 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        log.error("parent_gone", pid=parent, hint="the worker ends as after SIGTERM")
        os.kill(os.getpid(), signal.SIGTERM)

    if parent:
        threading.Thread(target=watch, name="parent", daemon=True).start()


def _spare_the_collector() -> None:
    """Leave what was imported out of garbage collections: each of them would look at 140,000 lasting objects.

    A full collection of what a worker imports took 76 ms, in which nothing is sent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _share_memory() -> None:
    """Have threads share glibc's arenas: with one for each a worker keeps more memory, and frees less of it.

    The interpreter lock leaves nothing to gain from many. Other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def bind(app: Celery) -> None:
    """Add the step to an app."""
    app.steps["worker"].add(EngineStep)
    Pool.requires = (*(Pool.requires or ()), EngineStep)
