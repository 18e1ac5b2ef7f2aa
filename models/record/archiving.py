"""Archives ended orders: into Parquet files first, then out of the record, in small transactions, children first.

| newest row of `archives`   | the files          | the record                   | the next run     |
|----------------------------|--------------------|------------------------------|------------------|
| no `written_at`            | perhaps incomplete | whole                        | writes them anew |
| `written_at`, no `done_at` | complete           | whole, or a part of it gone  | goes on deleting |
| `done_at`                  | complete           | without what is in the files | begins another   |

So record and files together have everything at any moment. Of each archived order its id stays, with what tells whether
somebody who comes with that id means the same order, and of its executions what positions and profit are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Insert,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from models.clock import utcnow
from models.crash_points import reached
from models.errors import InvalidRequest
from models.groups import GroupStatus
from models.record.archive_files import Manifest, is_of, objections_of, write_archive
from models.record.archive_rows import ArchiveRow
from models.record.archive_tables import archived_fills, archived_orders, archives
from models.record.chain import JOURNALS, digest_of, extend, links_of
from models.record.database import Database
from models.record.destinations import destination
from models.record.group_tables import order_groups
from models.record.keeping import keep
from models.record.key_rows import ChainRow
from models.record.parquet import parts
from models.record.statements import Values, fetch, upsert
from models.record.tables import SIDE_TO_OPEN, attempts, fills, order_events, orders, position_ledgers
from models.record.tally import count_on
from models.vocabulary import TERMINAL, Outcome

#: The tables that are archived, those with orders of others in them first: so they are deleted.
CHILDREN: tuple[Table, ...] = (fills, attempts, order_events)
#: Orders that are read, and written as one part of a file, at once; and deleted in one transaction.
PAGE, AT_ONCE = 1000, 200
#: Seconds that counting what happened may take, which has to come first.
_COUNTING_S = 3600.0
_JOURNAL = order_events.name
_STAYS = tuple(c.name for c in archived_orders.c if c.name != "archive")
#: Such a group is on somebody's list, and stays there.
_BROKEN = order_groups.c.status == str(GroupStatus.BROKEN)
#: Called with words and how many of how many are done.
Progress = Callable[[str, int, int], None]


# -- WHAT MAY GO ---
def settle(database: Database, now: datetime, before: datetime) -> None:
    """Bring up to date what is reckoned from what is about to go: counters, the chain up to a time, balances.

    Raises:
        DatabaseUnavailable: the record cannot be written.
    """
    count_on(database, _COUNTING_S)
    while database.transact(lambda connection: extend(connection, now, before)):
        pass
    while keep(database, now):
        pass


def boundary(connection: Connection, before: datetime) -> ChainRow | None:
    """Return the last link of the journal of which every event is older than a time; None where there is none."""
    found: ChainRow | None = None
    for link in links_of(connection, _JOURNAL):
        if link["at"] >= before:  # made later than all of its events
            inside = order_events.c.id.between(link["first_id"], link["last_id"])
            newest = connection.execute(select(func.max(order_events.c.at)).where(inside)).scalar()
            if newest is not None and newest >= before:
                break
        found = link
    return found


def _may_go(connection: Connection, before: datetime, last_id: int) -> ColumnElement[bool]:
    """Say of an order that it ended before a time, that all of it is settled, and that nothing newer hangs on it.

    Linked orders go together, in the words of each of them.
    """
    leg = orders.alias("leg")
    alone = partial(_is_over, before=before, last_id=last_id)
    last_fill = connection.execute(select(func.max(fills.c.id))).scalar() or 0
    torn = exists().where(leg.c.group_id == orders.c.group_id, ~alone(leg, last_fill=last_fill))
    return and_(alone(orders, last_fill=last_fill), ~torn)


def _is_over(order: FromClause, *, before: datetime, last_id: int, last_fill: int) -> ColumnElement[bool]:
    """Say the same of an order by itself."""
    o, f, a, e, ledger, g = order.c, fills.c, attempts.c, order_events.c, position_ledgers.c, order_groups.c
    # SQLite gives the id of the last row again once that is deleted.
    unfolded = exists().where(ledger.broker == destination(fills), f.id > ledger.fills_id)
    new_fill = exists().where(
        f.client_order_id == o.client_order_id, or_(f.id >= last_fill, f.filled_at >= before, unfolded)
    )
    open_ = a.outcome.in_([str(Outcome.SENDING), str(Outcome.UNKNOWN)]) | a.stray_at.is_not(None)
    return and_(
        o.status.in_([str(status) for status in TERMINAL]), o.created_at < before, o.closed_at < before, ~new_fill,
        ~exists().where(e.client_order_id == o.client_order_id, e.id > last_id),
        ~exists().where(a.client_order_id == o.client_order_id, open_),
        ~exists().where(g.group_id == o.group_id, or_(g.closed_at.is_(None), g.closed_at >= before, _BROKEN)),
    )  # fmt: skip


def count(connection: Connection, before: datetime) -> int:
    """Return how many orders would go."""
    link = boundary(connection, before)
    if link is None:
        return 0
    may_go = _may_go(connection, before, _newest_left(connection, link))
    return connection.execute(select(func.count()).select_from(orders).where(may_go)).scalar_one()


def _newest_left(connection: Connection, link: ChainRow) -> int:
    """Return the id up to which events may go: the last one of all stays, for SQLite would give its id again."""
    newest = connection.execute(select(func.max(order_events.c.id))).scalar() or 0
    return min(link["last_id"], newest - 1)


def pages(database: Database, before: datetime, last_id: int) -> Iterator[dict[str, list[Values]]]:
    """Yield the orders that may go and what hangs on them, some at a time, by their ids."""
    after = ""
    while True:
        with database.read() as connection:
            may_go = _may_go(connection, before, last_id)
            query = select(orders).where(may_go, orders.c.client_order_id > after)
            rows = _rows(connection, query.order_by(orders.c.client_order_id).limit(PAGE))
            if not rows:
                return
            ids = [str(row["client_order_id"]) for row in rows]
            found = {orders.name: rows}
            for table in (attempts, fills):
                query = select(table).where(table.c.client_order_id.in_(ids))
                found[table.name] = _rows(connection, query.order_by(*table.primary_key.columns))
        yield found
        after = ids[-1]


def _rows(connection: Connection, query: object) -> list[Values]:
    return [cast(Values, dict(row)) for row in connection.execute(query).mappings()]  # type: ignore[call-overload]


# -- A RUN ---
def unfinished(connection: Connection) -> ArchiveRow | None:
    """Return the run that has not come to its end; None where all have."""
    query = select(archives).where(archives.c.done_at.is_(None)).order_by(archives.c.id).limit(1)
    return next(iter(fetch(connection, query, ArchiveRow)), None)


def archive(database: Database, before: datetime, directory: Path, now: datetime, tell: Progress) -> ArchiveRow | None:
    """Archive what ended before a time; or go on with the run that was broken off.

    Args:
        database: the record; on PostgreSQL as the owner of its tables.
        before: what ended at it, or later, stays.
        directory: which gets a folder with the files.
        now: the time.
        tell: is told how far it is.

    Returns:
        The run; None where nothing may go.

    Raises:
        InvalidRequest: a run to another folder is not finished.
        ConfigurationError: the journal does not agree with its chain, or files that are complete have changed.
    """
    with database.read() as connection:
        run = unfinished(connection)
    if run is not None and Path(run["directory"]) != directory:
        raise InvalidRequest(f"the archive to {run['directory']} is not finished: run it again with --to there")
    if run is None:
        run = _begin(database, before, directory, now)
        if run is None:
            return None
    reached("archive_begun")
    if run["written_at"] is None:
        run = _write(database, run, tell)
    _take_out(database, run, tell)
    reached("archive_emptied")
    return _finish(database, run)


def _begin(database: Database, before: datetime, directory: Path, now: datetime) -> ArchiveRow | None:
    settle(database, now, before)

    def work(connection: Connection) -> ArchiveRow | None:
        link = boundary(connection, before)
        if link is None or not count(connection, before):
            return None
        last = connection.execute(select(archives).order_by(archives.c.id.desc()).limit(1)).one_or_none()
        number = 1 if last is None else last.id + 1
        run = {
            "id": number, "name": f"corro-{number:04d}-before-{before:%Y%m%dT%H%M%SZ}", "directory": str(directory),
            "before": before, "made_at": now, "first_id": 1 if last is None else last.last_id + 1,
            "last_id": link["last_id"], "head": link["head"],
        }  # fmt: skip
        connection.execute(upsert(connection, archives).values(**run).on_conflict_do_nothing())
        begun = unfinished(connection)
        if begun is None or begun["made_at"] != now:
            raise InvalidRequest("another archive has just begun: wait for its end")
        return begun

    return database.transact(work)


def _write(database: Database, run: ArchiveRow, tell: Progress) -> ArchiveRow:
    with database.read() as connection:
        links = [link for link in links_of(connection, _JOURNAL) if is_of(run, link)]
        last_id = _newest_left(connection, links[-1]) if links else run["last_id"]
        total = connection.execute(
            select(func.count()).select_from(orders).where(_may_go(connection, run["before"], last_id))
        ).scalar_one()
    manifest = write_archive(database, run, links, pages(database, run["before"], last_id), total, tell)
    return _mark(database, run, written_at=manifest.written_at, counts=manifest.counts, digest=manifest.digest)


def _mark(database: Database, run: ArchiveRow, **values: object) -> ArchiveRow:
    mine = archives.c.id == run["id"]
    database.transact(lambda connection: connection.execute(update(archives).where(mine).values(**values)))
    with database.read() as connection:
        return next(iter(fetch(connection, select(archives).where(mine), ArchiveRow)))


# -- TAKING OUT ---
def _take_out(database: Database, run: ArchiveRow, tell: Progress) -> None:
    """Delete what is in the files and has not changed since."""
    manifest = Manifest.read(Path(run["directory"]) / run["name"], run["digest"])
    total, done = manifest.counts[orders.name], 0
    for rows in parts(manifest.folder / manifest.file_of(orders)):
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            database.transact(lambda connection, some=some: _delete(connection, run, some))  # type: ignore[misc]
            done += len(some)
            tell("deleted", done, total)


def _delete(connection: Connection, run: ArchiveRow, written: Sequence[Values]) -> None:
    _let_journals_go(connection)
    stamps = {str(row["client_order_id"]): row["updated_at"] for row in written}
    o, e = orders.c, order_events.c
    newer = exists().where(e.client_order_id == o.client_order_id, e.id > run["last_id"])
    query = select(orders).where(o.client_order_id.in_(list(stamps)), ~newer).with_for_update()
    rows = [row for row in _rows(connection, query) if row["updated_at"] == stamps[str(row["client_order_id"])]]
    ids = [str(row["client_order_id"]) for row in rows]
    if not ids:
        return
    connection.execute(insert(archived_orders), [{n: row[n] for n in _STAYS} | {"archive": run["id"]} for row in rows])
    connection.execute(_executions_of(ids))
    for table in CHILDREN:
        connection.execute(delete(table).where(table.c.client_order_id.in_(ids)))
    connection.execute(delete(orders).where(o.client_order_id.in_(ids)))
    reached("archive_deleted")


def _executions_of(ids: Iterable[str]) -> Insert:
    f, o = fills.c, orders.c
    columns = [f[c.name] if c.name != "side" else SIDE_TO_OPEN for c in archived_fills.c]
    found = select(*columns).join_from(fills, orders, f.client_order_id == o.client_order_id).where(
        f.client_order_id.in_(list(ids)), f.voided_at.is_(None), f.quantity != 0
    )  # fmt: skip
    return insert(archived_fills).from_select([c.name for c in archived_fills.c], found)


def _let_journals_go(connection: Connection) -> None:
    """Tell PostgreSQL's trigger over the journals that this transaction is the archive's."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.set_config("corro.archive", "on", True)))


def _finish(database: Database, run: ArchiveRow) -> ArchiveRow:
    """Note what stays of the archived stretch of the journal, and end the run."""
    with database.read() as connection:
        count_, digest = digest_of(connection, JOURNALS[_JOURNAL], 1, run["last_id"])
        gone = select(func.count()).select_from(archived_orders).where(archived_orders.c.archive == run["id"])
        left = (run["counts"] or {}).get(orders.name, 0) - connection.execute(gone).scalar_one()
    return _mark(database, run, done_at=utcnow(), kept_count=count_, kept_digest=digest, left=left)


# -- LATER ---
def verify_files(connection: Connection, directory: Path) -> list[str]:
    """Return what is wrong with the files of every archive: digests, counts, and the chain over their events."""
    runs = fetch(
        connection, select(archives).where(archives.c.written_at.is_not(None)).order_by(archives.c.id), ArchiveRow
    )
    links = links_of(connection, _JOURNAL)
    return [words for run in runs for words in objections_of(run, directory, links)]
