"""`corro db`: the database's schema, its soundness, and its move into another one."""

from pathlib import Path
from typing import Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Wide, opened, tell


def upgrade(json: Json = False) -> None:
    """Bring the schema up to date."""
    from models.logs import configure
    from models.record.database import Database, current_revision, upgrade
    from models.settings import load_settings

    configure("WARNING")
    database = Database(load_settings().database)
    before = current_revision(database)
    upgrade(database)
    now = current_revision(database)
    if json:
        show.document({"database": repr(database.url), "before": before, "revision": now})
    else:
        show.say(f"{database.url!r}: {before or 'empty'} -> {now}")


def check(wide: Wide = False, json: Json = False) -> None:
    """Tell whether the schema is current and whether the server can hold the record; exit 1 if not."""
    from models.record.database import Database, current_revision, head_revision, objections
    from models.settings import load_settings

    database = Database(load_settings().database)
    current, head = current_revision(database), head_revision()
    found = objections(database)
    good = current == head and not found
    state = {"database": repr(database.url), "revision": current, "needed": head, "ok": good}
    tell([state], list(state), Form(json, wide=wide), document={**state, "objections": found})
    for line in found if not json else ():
        show.note(f"corro: {line}")
    raise typer.Exit(0 if good else 1)


def verify(
    archived: Annotated[
        Path | None, typer.Option("--archive", help="the folder of the archives: verify them, too")
    ] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Walk the chain over the journals, and see that fills, orders and events agree; exit 1 if anything does not."""
    from models.record.chain import verify

    with opened() as (_, database), database.read() as connection:
        found = verify(connection)
        objections = list(found.objections)
        if archived is not None:
            from models.record.archiving import verify_files

            objections += verify_files(connection, archived)
    good = not objections
    told = {"links": found.links, "rows": found.rows, "newer": found.newer, "ok": good}
    whole = {**told, "heads": found.heads, "objections": objections}
    tell([told], list(told), Form(json, wide=wide), document=whole)
    for line in objections if not json else ():
        show.note(f"corro: {line}")
    raise typer.Exit(0 if good else 1)


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the record, or the path of an SQLite file")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty database")],
    json: Json = False,
) -> None:
    """Copy the whole record into another database, SQLite to PostgreSQL; run it again after it was broken off.

    Nothing else writes into FROM meanwhile. TO cannot be used before all of it was compared, FROM not afterwards.
    """
    from datetime import UTC, datetime

    from models.record.database import Database
    from models.record.moving import copy, must_exist
    from models.settings import load_settings

    urls = [u if "://" in u else f"sqlite:///{Path(u).absolute()}" for u in (source, target)]
    must_exist(urls[0])
    here, there = map(Database, urls)

    def progress(table: str, rows: int) -> None:
        if show.err.is_terminal and rows % 50_000 == 0:
            show.note(f"{table}: {rows:,} rows")

    try:
        done = copy(here, there, load_settings().timing.dead_after, datetime.now(UTC), progress)
    finally:
        here.close()
        there.close()
    told = {"tables": len(done.rows), "rows": sum(done.rows.values()), "ok": True}
    tell([told], list(told), Form(json), document={**told, "by_table": done.rows})
    show.note(f"now set database_url to the copy in corro.toml; {here.url!r} is not used any more")
