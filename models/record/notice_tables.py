"""The tables of notifications: what stands that a person should know of, and what is to be said. Working tables."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Integer, String, Table

from models.notify import LONGEST_SUBJECT
from models.record.columns import Name, UtcTime, Words, metadata

#: What a person should know of, until it is over and that was said.
incidents = Table(
    "incidents",
    metadata,
    Column("kind", String(32), primary_key=True),
    #: An order, a worker, a symbol at a broker ...
    Column("subject", Name(LONGEST_SUBJECT), primary_key=True),
    Column("since", UtcTime, nullable=False),
    Column("words", Words(), nullable=False),
    #: When it was put into a message; null until then.
    Column("told_at", UtcTime),
    #: When it was seen to be over; null while it stands.
    Column("over_at", UtcTime),
)

#: Messages to people, one row each, however many leaders there are.
notifications = Table(
    "notifications",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", String(32), nullable=False),
    Column("title", Words(200), nullable=False),
    Column("body", Words(), nullable=False),
    Column("made_at", UtcTime, nullable=False),
    #: Not to be tried before: whoever sends it puts this off first, so nobody else does meanwhile.
    Column("try_at", UtcTime, nullable=False),
    Column("tries", Integer, nullable=False),
    #: Digests of the URLs that have not taken it yet; null before the first try.
    Column("left", JSON(none_as_null=True)),
    #: When the last of them took it, or nobody tries any more.
    Column("done_at", UtcTime),
)
