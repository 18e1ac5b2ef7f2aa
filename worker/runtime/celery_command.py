"""The arguments of Celery's own command line that make a worker of one broker."""

from __future__ import annotations

import uuid

#: Environment variable with the pid of the process that started a worker and that it ends with.
PARENT = "CORRO_UP_PID"


def queues_of(name: str) -> str:
    """Return the queues of a broker, the urgent ones first."""
    return ",".join(f"{kind}.{name}" for kind in ("control", "orders", "data"))


def worker_arguments(label: str, broker: str, concurrency: int = 4) -> list[str]:
    """Return what follows `celery -A worker`."""
    node = f"{label}-{uuid.uuid4().hex[:6]}@%h"
    return [
        "--quiet", "worker", "-Q", queues_of(broker), "-n", node, "-P", "threads", "-c", str(concurrency),
        "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING",
    ]  # fmt: skip
