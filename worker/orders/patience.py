"""Waiting that belongs to a send: for a turn in the account's budget, and for a database that is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from models.errors import DatabaseUnavailable, QuotaExhausted
from worker.runtime.clock import Stopwatch

log = structlog.get_logger()
T = TypeVar("T")

#: A turn that is no further away is waited for under the claim, instead of giving the order back, seconds.
NEAR_S = 2.0
#: How long a recorded answer is tried against a database that is away; then reconciliation reads it again.
_RECORD_PATIENCE_S = 20.0
_RECORD_PAUSE_S = 0.5


def in_turn(call: Callable[[], T], left: Callable[[], float]) -> T:
    """Ask a broker; where our budget has a turn for that soon enough, wait for the turn.

    Args:
        call: asks; QuotaExhausted is proof that nothing was sent, so it may be called again.
        left: seconds that a turn may be away by now.

    Raises:
        QuotaExhausted: the turn is further away, or nobody knows when it comes.
    """
    while True:
        try:
            return call()
        except QuotaExhausted as held:
            wait = held.retry_after or 0.0
            if not 0 < wait <= left():
                raise
            time.sleep(wait)


def written(write: Callable[[], list[T]], event: str, ids: Sequence[str]) -> list[T]:
    """Commit what became of sends, also while the database is away for a moment.

    Args:
        write: one transaction, or several.
        event: what the log calls a failure.
        ids: the orders it is about.

    Returns:
        What `write` returned; nothing where the database stayed away: reconciliation will ask the broker.
    """
    patience = Stopwatch()
    while True:
        try:
            return write()
        except DatabaseUnavailable as error:
            log.error(event, orders=list(ids), error=str(error))
            if patience.age() > _RECORD_PATIENCE_S:
                return []
            time.sleep(_RECORD_PAUSE_S)
