"""The tables of what keeps orders from being sent, and of who set it, as SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Integer, String, Table

from models.record.columns import UtcTime, Words, metadata

#: What may not be sent: see `models.record.controls`, which reads them.
controls = Table(
    "controls",
    metadata,
    #: "*", broker, account, strategy, symbol, key, or two of them joined by +; and which, joined by colons.
    Column("scope_kind", String(32), primary_key=True),
    Column("scope", String(200), primary_key=True),
    #: halted: nothing is sent; reducing: closing orders alone.
    Column("state", String(16), nullable=False),
    #: Id of the event in `control_events` that set it.
    Column("generation", BigInteger, nullable=False),
    #: What a kill asks of the leaders, and where it is done; null where it is none.
    Column("kill", JSON(none_as_null=True)),
    Column("by", String(128), nullable=False),
    Column("reason", Words(), nullable=False),
    Column("at", UtcTime, nullable=False),
)

#: Drains; and halts as the version before reads and writes them.
halts = Table(
    "halts",
    metadata,
    #: A broker's name, or * for all.
    Column("scope", String(32), primary_key=True),
    #: halt: nothing is sent; drain: this broker takes nothing new.
    Column("kind", String(8), primary_key=True),
    Column("reason", Words()),
    Column("by", String(128)),
    Column("at", UtcTime, nullable=False),
)

#: What people and corro itself did to trading: halt, drain, resume, unlock, resolve ... Append only.
control_events = Table(
    "control_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(16), nullable=False),
    #: "*", broker, order, symbol ...; and which.
    Column("scope_kind", String(16), nullable=False),
    Column("scope", String(128), nullable=False),
    Column("by", String(128)),
    Column("reason", Words()),
    Column("detail", Words()),
)
