"""Which fleet a database belongs to: one id in the database, beside it and in the queue.

A database that is gone must not be taken for a new one: in it every client_order_id is free again, and what is live at
the brokers is unknown. So the id is also kept in a file, by the home or the SQLite file it belongs to, and in the
queue; where they disagree nothing starts and nothing is sent until a person has looked.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, insert, make_url, select

from models.errors import ConfigurationError
from models.private import private_file, private_folder
from models.record.tables import deployment
from models.settings import Settings

#: The file in a home.
FILE = "deployment"
#: The key in the queue.
KEY = "corro.deployment"


def identity(connection: Connection) -> str:
    """Return the id of a database whose schema is there, giving it one the first time."""
    known = connection.execute(select(deployment.c.id).order_by(deployment.c.created_at).limit(1)).scalar()
    if known is None:
        known = str(uuid.uuid4())
        connection.execute(insert(deployment).values(id=known, created_at=datetime.now(UTC)))
    return str(known)


def marker_of(settings: Settings) -> Path | None:
    """Return the file that knows the id of an SQLite database; None for a server, which is not lost with a file."""
    if not settings.database_url:
        return settings.home / FILE
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    path = Path(str(url.database))
    return path.with_name(f"{path.name}.{FILE}")


def must_not_be_known(marker: Path | None, url: object) -> None:
    """Raise where an empty database is about to be taken for a new one.

    Raises:
        ConfigurationError: the file beside it says that there was one.
    """
    if marker is not None and (known := read(marker)):
        raise ConfigurationError(
            f"database {url!r} is missing or empty, but {marker} says that there was one (deployment {known}). Every "
            "client_order_id would be free again, and orders may be live at the brokers: put the database back. If it "
            f"is lost for good, look at every broker first, then remove {marker}"
        )


def must_agree(marker: Path, found: str, url: object) -> None:
    """Write the id down where none is, and compare it where there is.

    Raises:
        ConfigurationError: the file belongs to another database.
    """
    if read(marker) is None:
        write(marker, found)
    known = read(marker)
    if known not in (None, found):
        raise ConfigurationError(
            f"{marker} belongs to deployment {known}, database {url!r} is deployment {found}: the database was "
            f"replaced, or database_url or CORRO_HOME is wrong. If the move is meant, remove {marker}"
        )


def read(marker: Path) -> str | None:
    """Return the id in the file, or None where there is none."""
    try:
        return marker.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(marker: Path, found: str) -> None:
    """Write the id once, whole: a second process finds either nothing or all of it."""
    draft = marker.with_name(f"{marker.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    private_folder(marker.parent)
    private_file(draft).write_text(f"{found}\n", encoding="utf-8")
    with contextlib.suppress(FileExistsError):
        os.link(draft, marker)
    draft.unlink()
