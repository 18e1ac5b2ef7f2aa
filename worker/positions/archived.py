"""Archived executions that their broker takes back or corrects: recorded in lines of their own, and said loudly."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from models.record.archived_changes import changes_of, record
from models.record.database import Database
from models.record.tombstones import fills_in
from models.reports import FillReport, OrderReport
from worker.runtime.clock import utcnow

log = structlog.get_logger()


def told_later(database: Database, broker: str, reports: Sequence[OrderReport | FillReport]) -> None:
    """Record what reports on archived orders say otherwise than the archive does; mostly that is nothing."""
    told = [fill for report in reports for fill in fills_in(report)]
    if not told:
        return
    with database.read() as connection:
        changed = bool(changes_of(connection, broker, told))
    if changed:
        for words in database.transact(lambda connection: record(connection, broker, told, utcnow())):
            log.error("archived_fill_changed", broker=broker, **words)
