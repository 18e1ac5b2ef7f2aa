"""The chain over the journals: what is changed, left out or put in afterwards is seen by `corro db verify`.

A leader closes what is settled, now and then, into links: `digest` covers the rows of a stretch of ids, and `head` the
link before, the stretch and the digest. Whoever keeps a head elsewhere (it is logged) can prove everything before that
link. What is newer than the last link is not covered yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Table, exists, func, select

from models import encoding
from models.record.archive_rows import ArchiveRow
from models.record.archive_tables import archives
from models.record.key_rows import ChainRow
from models.record.key_tables import journal_chain
from models.record.statements import fetch, upsert
from models.record.stream import settled
from models.record.tables import attempts, control_events, fills, order_events, orders

#: The journals, by their names.
JOURNALS: dict[str, Table] = {table.name: table for table in (order_events, control_events)}
#: Rows of one link.
LINK = 10_000
#: Rows of a journal that nobody numbers in the order in which they become visible are closed this long after, seconds.
_LATE_S = 60.0
#: Before the first link.
_BEGINNING = "0" * 64


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """What `verify` found.

    Args:
        links: how many there are.
        rows: how many rows they cover.
        newer: rows that are not covered yet.
        heads: the last head of each journal.
        objections: what does not agree; empty where everything does.
    """

    links: int
    rows: int
    newer: int
    heads: dict[str, str]
    objections: list[str]


def extend(connection: Connection, now: datetime, before: datetime | None = None) -> list[ChainRow]:
    """Close what is settled into one more link of each journal; returns the links that were made.

    Two that do so at once make the same link, and one of them is kept.

    Args:
        connection: of the transaction.
        now: the time.
        before: no link goes beyond the first row of this time or later.
    """
    made = []
    for name, table in JOURNALS.items():
        last = _last(connection, name)
        first_id = 1 if last is None else last["last_id"] + 1
        bound = _bound(connection, table, now)
        if before is not None:
            later = connection.execute(select(func.min(table.c.id)).where(table.c.at >= before)).scalar()
            bound = bound if later is None else min(bound, later - 1)
        link = _link(connection, name, table, first_id, bound, now)
        if link is not None:
            link["head"] = _head(link, _BEGINNING if last is None else last["head"])
            new = upsert(connection, journal_chain).values(**link).on_conflict_do_nothing()
            if connection.execute(new.returning(journal_chain.c.first_id)).all():
                made.append(link)
    return made


def verify(connection: Connection) -> ChainVerdict:
    """Compute every link anew, and see that fills and orders agree with each other and with the journal."""
    objections: list[str] = []
    links = rows = newer = 0
    heads = {}
    for name, table in JOURNALS.items():
        head, after = _BEGINNING, 0
        archived = _archived(connection) if table is order_events else None
        if archived is not None:
            objections += _kept(connection, archived)
        for link in links_of(connection, name):
            links, rows = links + 1, rows + link["count"]
            count, digest = link["count"], link["digest"]
            if archived is None or link["last_id"] > archived["last_id"]:
                count, digest = digest_of(connection, table, link["first_id"], link["last_id"])
            stretch = f"{name} {link['first_id']} to {link['last_id']}"
            if link["first_id"] != after + 1:
                objections.append(f"{stretch}: the link before it ends at {after}")
            if count != link["count"]:
                objections.append(f"{stretch}: {link['count']} rows were noted, there are {count}")
            elif digest != link["digest"]:
                objections.append(f"{stretch}: a row is not what was noted")
            if _head(link, head) != link["head"]:
                objections.append(f"{stretch}: the link does not follow from the one before")
            head, after = link["head"], link["last_id"]
        heads[name] = head
        newer += connection.execute(select(func.count()).where(table.c.id > after)).scalar_one()
    return ChainVerdict(links, rows, newer, heads, [*objections, *_what_rows_say(connection)])


def _archived(connection: Connection) -> ArchiveRow | None:
    """Return the newest run of the archive that has begun to delete: its stretch is in its files."""
    query = select(archives).where(archives.c.written_at.is_not(None)).order_by(archives.c.id.desc()).limit(1)
    return next(iter(fetch(connection, query, ArchiveRow)), None)


def _kept(connection: Connection, archived: ArchiveRow) -> list[str]:
    """Say where what was left of an archived stretch has changed; while an archive deletes, nothing is known of it."""
    if archived["done_at"] is None:
        return []
    left = digest_of(connection, order_events, 1, archived["last_id"])
    if left == (archived["kept_count"], archived["kept_digest"]):
        return []
    return [f"{order_events.name} 1 to {archived['last_id']}: what the archive {archived['id']} left there has changed"]


def _last(connection: Connection, journal: str) -> ChainRow | None:
    c = journal_chain.c
    query = select(journal_chain).where(c.journal == journal).order_by(c.first_id.desc()).limit(1)
    return next(iter(fetch(connection, query, ChainRow)), None)


def links_of(connection: Connection, journal: str) -> list[ChainRow]:
    """Return the links of a journal, in their order."""
    c = journal_chain.c
    return fetch(connection, select(journal_chain).where(c.journal == journal).order_by(c.first_id), ChainRow)


def _bound(connection: Connection, table: Table, now: datetime) -> int:
    """Return the id up to which no row can still appear."""
    if table is order_events:
        return settled(connection)
    old = table.c.at < now - timedelta(seconds=_LATE_S)
    return connection.execute(select(func.max(table.c.id)).where(old)).scalar() or 0


def _link(
    connection: Connection, journal: str, table: Table, first_id: int, bound: int, now: datetime
) -> ChainRow | None:
    ids = select(table.c.id).where(table.c.id >= first_id, table.c.id <= bound).order_by(table.c.id).limit(LINK)
    last_id = connection.execute(select(func.max(ids.subquery().c.id))).scalar()
    if last_id is None:
        return None
    count, digest = digest_of(connection, table, first_id, last_id)
    return {
        "journal": journal, "first_id": first_id, "last_id": last_id, "count": count, "digest": digest, "head": "",
        "at": now,
    }  # fmt: skip


def digest_of(connection: Connection, table: Table, first_id: int, last_id: int) -> tuple[int, str]:
    """Return how many rows a stretch has, and the digest over them."""
    query = select(table).where(table.c.id >= first_id, table.c.id <= last_id).order_by(table.c.id)
    return digest_rows(table, (dict(row) for row in connection.execute(query).mappings()))


def digest_rows(table: Table, rows: Iterable[Mapping[str, object]]) -> tuple[int, str]:
    """Return how many rows these are, and the digest over them."""
    digest, count, names = hashlib.sha256(), 0, [column.name for column in table.c]
    for row in rows:
        digest.update(encoding.dumps([_plain(row[name]) for name in names]))
        count += 1
    return count, digest.hexdigest()


def _plain(value: object) -> object:
    return encoding.moment(value) if isinstance(value, datetime) else value


def _head(link: ChainRow, before: str) -> str:
    parts = (before, link["journal"], link["first_id"], link["last_id"], link["count"], link["digest"])
    return hashlib.sha256(encoding.dumps(parts)).hexdigest()


def _what_rows_say(connection: Connection) -> Iterator[str]:
    for look in (_rows, _statuses, _tries, _fills):
        yield from look(connection)


def _rows(connection: Connection) -> Iterator[str]:
    """Say of which orders the journal tells without a row of theirs: an archive takes events before it takes orders."""
    there = exists().where(orders.c.client_order_id == order_events.c.client_order_id)
    told = select(order_events.c.client_order_id).where(~there).distinct()
    for (id_,) in connection.execute(told.order_by(order_events.c.client_order_id)):
        yield f"order {id_}: it has events, and no row"


def _statuses(connection: Connection) -> Iterator[str]:
    """Say which orders have another status than the last step that the journal tells of."""
    e, o = order_events.c, orders.c
    moved = e.to_status.is_not(None) & e.from_status.is_distinct_from(e.to_status)
    last = select(func.max(e.id).label("id")).where(moved).group_by(e.client_order_id).subquery()
    other = (
        select(o.client_order_id, o.status, e.to_status)
        .join_from(last, order_events, e.id == last.c.id)
        .join(orders, o.client_order_id == e.client_order_id)
        .where(o.status != e.to_status)
    )
    for id_, status, told in connection.execute(other.order_by(o.client_order_id)):
        yield f"order {id_}: {status} by its row, {told} by the journal"


def _tries(connection: Connection) -> Iterator[str]:
    """Say which orders name an attempt that they were never at, though they were at others."""
    a, o = attempts.c, orders.c
    of_it = exists().where(a.client_order_id == o.client_order_id)
    named = select(o.client_order_id, o.attempt_no).where(of_it, ~of_it.where(a.attempt_no == o.attempt_no))
    for id_, number in connection.execute(named.order_by(o.client_order_id)):
        yield f"order {id_}: its row names attempt {number}, and it was never at that one"


def _fills(connection: Connection) -> Iterator[str]:
    """Say which orders have fills that the journal does not know, or another quantity than their fills."""
    total = func.coalesce(func.sum(fills.c.quantity), 0)
    booked = select(fills.c.client_order_id, total.label("quantity")).group_by(fills.c.client_order_id).subquery()
    noted = select(order_events.c.client_order_id).where(order_events.c.kind.in_(_FILLED))
    silent = select(booked.c.client_order_id).where(booked.c.quantity > 0, booked.c.client_order_id.not_in(noted))
    for (id_,) in connection.execute(silent.order_by(booked.c.client_order_id)):
        yield f"order {id_}: it has fills, and no event says so"
    other = (
        select(orders.c.client_order_id, orders.c.filled_quantity, booked.c.quantity)
        .join_from(orders, booked, orders.c.client_order_id == booked.c.client_order_id, isouter=True)
        .where(func.abs(orders.c.filled_quantity - func.coalesce(booked.c.quantity, 0)) > 1e-6)
        .where(orders.c.legs.is_(None))  # packages are not the sum of their executions
    )
    for id_, filled, quantity in connection.execute(other.order_by(orders.c.client_order_id)):
        yield f"order {id_}: filled {filled} by its row, {quantity or 0} by its fills"


#: Kinds of events with which shares are booked.
_FILLED = ("filled", "late_fill", "fill_corrected", "fill_busted")
