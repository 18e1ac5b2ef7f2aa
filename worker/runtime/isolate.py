"""Many at once, and where that fails each alone: one that cannot be written holds back no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from models.errors import CorroError
from worker.runtime.said import Said

log = structlog.get_logger()
Item = TypeVar("Item")
Done = TypeVar("Done")


def isolate(
    work: Callable[[Sequence[Item]], Done], items: Sequence[Item], event: str, said: Said | None = None
) -> list[Done]:
    """Do a work for all of them; where the record refuses that, do it for each, and say which it refuses.

    Args:
        work: all or nothing: where it fails it has done nothing.
        items: in the order in which they are to be done.
        event: what the log calls an item that cannot be done.
        said: has told of some before, of items that come again and again; None tells of each.

    Returns:
        What the work returned, once for all or once for each that could be done.

    Raises:
        CorroError: from the work, as it is: an outage is no fault of any item.
    """
    try:
        return [work(items)]
    except CorroError:
        raise
    except Exception:
        if len(items) == 1:
            item = repr(items[0])[:500]
            if said is None:
                log.exception(event, item=item)
            else:
                said.once(event, item, item=item, exc_info=True)
            return []
        if said is None:
            log.warning(event, items=len(items), hint="one of them cannot be written: each is tried alone")
    return [done for item in items for done in isolate(work, [item], event, said)]
