"""`corro archive`: ended orders into files, and out of the record."""

import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import InvalidRequest
from producers.cli import show
from producers.cli.app import Form, Json, moment, opened, tell

if TYPE_CHECKING:
    from models.record.archive_rows import ArchiveRow

_COLUMNS = ("name", "orders", "attempts", "fills", "order_events", "left")


#: Seconds between two lines that say how far it is.
_TELL_EVERY_S = 2.0


def archive(
    before: Annotated[str, typer.Option("--before", help="what ended before: a date in UTC, a time, or an age: 365d")],
    to: Annotated[Path, typer.Option("--to", help="a folder; the archive gets one of its own in it")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    json: Json = False,
) -> None:
    """Write ended orders to Parquet files, then delete them from the record; run it again after it was broken off.

    Ids stay used for ever, positions and profit stay as they are, controls are never taken. On PostgreSQL run it as the
    owner of the tables.
    """
    from models.record.archiving import archive as run
    from models.record.archiving import count, settle, unfinished
    from models.record.parquet import must_be_installed
    from worker.positions.ledger import fold_all

    must_be_installed()
    if not to.is_dir():
        raise InvalidRequest(f"--to: there is no folder {to}")
    until, now = moment("--before", before), datetime.now(UTC)
    assert until is not None
    with opened() as (_, database):
        fold_all(database)
        settle(database, now, until)
        with database.read() as connection:
            going_on, orders = unfinished(connection), count(connection, until)
        if not _agreed(going_on, orders, until, yes=yes):
            raise typer.Exit(1)
        done = run(database, until, to.resolve(), now, _Teller())
    row = {"name": None, "left": 0} | ({} if done is None else {"name": done["name"], "left": done["left"]})
    row |= dict.fromkeys(_COLUMNS[1:-1], 0) | dict((done and done["counts"]) or {})
    tell([row], _COLUMNS, Form(json), document=row | {"directory": str(to.resolve())})
    if done is None and not json:
        show.note("nothing ended before then, or what did is not settled yet: orders stay for ten minutes at least")


def _agreed(going_on: "ArchiveRow | None", orders: int, until: datetime, *, yes: bool) -> bool:
    """Ask whether it shall be done.

    Raises:
        InvalidRequest: nobody can be asked, and nobody has said so.
    """
    what = f"{orders:,} orders that ended before {until:%Y-%m-%d %H:%M} UTC"
    if going_on is not None:
        what = f"what is left of the archive {going_on['name']}"
    if yes or (not orders and going_on is None):
        return True
    if not show.err.is_terminal:
        raise InvalidRequest(f"{what} would be archived, and deleted from the record: say --yes")
    return typer.confirm(f"Archive {what}, and delete them from the record?", err=True)


class _Teller:
    """Says on a terminal how far it is, now and then."""

    def __init__(self) -> None:
        self._told_at = -math.inf

    def __call__(self, what: str, done: int, total: int) -> None:
        if show.err.is_terminal and time.monotonic() - self._told_at > _TELL_EVERY_S:
            self._told_at = time.monotonic()
            show.note(f"{what}: {done:,} of {total:,} orders")
