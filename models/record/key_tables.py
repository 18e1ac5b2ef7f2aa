"""The tables about whose this is and who may trade, as SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, String, Table, Text

from models.record.columns import UtcTime, metadata

#: Who may trade, with which key and within which bounds. Rows stay: a revoked key is never another one's.
keys = Table(
    "keys",
    metadata,
    Column("key_id", String(64), primary_key=True),
    #: ed25519, hmac-sha256 or token.
    Column("alg", String(16), nullable=False),
    #: ed25519: its 32 bytes in base64url.
    Column("public_key", String(64)),
    #: hmac-sha256: the file with the secret, as workers find it.
    Column("secret_ref", Text),
    #: token: SHA-256 of the whole token, in hex.
    Column("digest", String(64)),
    #: It may do at the page and over HTTP what operators do.
    Column("operator", Boolean, nullable=False, default=False),
    Column("owner", String(128), nullable=False),
    #: Bounds; null is none.
    Column("strategies", JSON(none_as_null=True)),
    Column("symbols", JSON(none_as_null=True)),
    Column("brokers", JSON(none_as_null=True)),
    #: own, strategy or all: whose orders it may cancel and replace.
    Column("may_cancel", String(8), nullable=False, default="own"),
    #: Its orders wait for somebody's approval; it may approve those of others.
    Column("needs_approval", Boolean, nullable=False, default=False),
    Column("may_approve", Boolean, nullable=False, default=False),
    Column("not_before", UtcTime),
    Column("not_after", UtcTime),
    Column("added_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
)

#: Links over the journals, see `models.record.chain`. Append only.
journal_chain = Table(
    "journal_chain",
    metadata,
    Column("journal", String(32), primary_key=True),
    Column("first_id", BigInteger, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    #: Over the rows of the stretch; and over this, the stretch and the head before.
    Column("digest", String(64), nullable=False),
    Column("head", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
)

#: One row: which fleet this database belongs to. `home` and the queue carry the same id, so that none is mistaken for a
#: fresh one.
deployment = Table(
    "deployment",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)
