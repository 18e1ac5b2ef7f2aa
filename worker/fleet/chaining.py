"""A leader closes the journals into the chain, off the way of any order."""

from __future__ import annotations

import structlog

from models.record import chain
from models.record.database import Database
from worker.runtime.clock import utcnow

log = structlog.get_logger()


def chain_journals(database: Database) -> None:
    """Make a link of what was noted since the last one; its head is logged, to be kept elsewhere."""
    for link in database.transact(lambda connection: chain.extend(connection, utcnow())):
        log.info("journal_chained", journal=link["journal"], last_id=link["last_id"], head=link["head"])
