"""Transactions that meet another one, and have to give way, are done again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from models.errors import DatabaseBusy

T = TypeVar("T")
Work = Callable[[Connection], T]

#: How often one is tried, and the longest pause before the next try, seconds.
_TRIES, _PAUSE_S = 8, 0.2


def giving_way(run: Callable[[Work[T]], T], work: Work[T]) -> T:
    """Run some work in a transaction; where that had to give way to another, again.

    Args:
        run: opens a transaction, and ends it.
        work: what is done in it.

    Raises:
        DatabaseBusy: it met others again and again.
    """
    for again in range(_TRIES - 1):
        try:
            return run(work)
        except DatabaseBusy:
            time.sleep(random.uniform(0, _PAUSE_S * 2.0 ** (again - _TRIES + 2)))  # noqa: S311
    return run(work)
