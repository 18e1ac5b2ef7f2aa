"""One fleet, one database, one queue: a worker that finds another id in its home or its queue does not start."""

from __future__ import annotations

import structlog

from models.errors import ConfigurationError, QueueUnavailable
from models.record import deployment
from models.record.database import Database
from models.settings import Settings
from producers.bell import asking

log = structlog.get_logger()

#: Seconds for one answer of the queue; one that does not answer is asked by whoever starts next.
_PATIENCE_S = 1.0


def must_be_one(settings: Settings, database: Database) -> None:
    """Compare the database's id with those in the home and in the queue; write it where there is none.

    Raises:
        ConfigurationError: one of them belongs to another database.
    """
    assert database.deployment is not None
    deployment.must_agree(settings.home / deployment.FILE, database.deployment, database.url)
    found = _in_queue(settings, database.deployment)
    if found != database.deployment:
        raise ConfigurationError(
            f"the queue belongs to deployment {found}, database {database.url!r} is deployment "
            f"{database.deployment}: two fleets on one queue would take each other's orders. Give each its own "
            "(another server, or another number behind the URL's last slash); if the other fleet is no more, "
            f"remove the key {deployment.KEY}"
        )


def _in_queue(settings: Settings, ours: str) -> str:
    """Return the id in the queue, ours if there was none or nobody answers."""
    try:
        with asking(settings, _PATIENCE_S) as client:
            if client.set(deployment.KEY, ours, nx=True):
                return ours
            found = client.get(deployment.KEY)
    except QueueUnavailable as error:
        log.warning("queue_not_asked_for_its_fleet", error=str(error))
        return ours
    return found.decode(errors="replace") if isinstance(found, bytes) else ours
