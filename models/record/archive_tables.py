"""The tables of what has been archived: what stays of each order, so that its id and its shares count for ever."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table

from models.record.columns import Money, Name, UtcTime, Words, metadata

#: Runs of `corro archive`; one that has no `done_at` is not finished.
archives = Table(
    "archives",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    #: Of the folder in `directory` that holds its files.
    Column("name", String(64), nullable=False),
    Column("directory", String(1024), nullable=False),
    Column("before", UtcTime, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    #: Since when its files are complete, and rows may be deleted; null while they are written.
    Column("written_at", UtcTime),
    Column("done_at", UtcTime),
    #: Rows in the files, and orders that were left in the record all the same, as they had changed.
    Column("counts", JSON(none_as_null=True)),
    Column("left", Integer, nullable=False, server_default="0"),
    #: SHA-256 of the manifest.
    Column("digest", String(64)),
    #: The stretch of `order_events` in the files: whole links of the chain, and the head of the last one.
    Column("first_id", BigInteger, nullable=False),
    Column("last_id", BigInteger, nullable=False),
    Column("head", String(64), nullable=False),
    #: What is left in `order_events` up to there, of orders that were not archived.
    Column("kept_count", BigInteger),
    Column("kept_digest", String(64)),
)

#: Ids of archived orders: they stay used for ever.
archived_orders = Table(
    "archived_orders",
    metadata,
    Column("client_order_id", String(64), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("status", String(24), nullable=False),
    #: Of the archive that has the order.
    Column("archive", Integer, nullable=False),
    Column("strategy", String(128)),
    Column("symbol", String(32)),
    #: What closes it has to say so; null, with the currency, of orders that were archived before 0038.
    Column("asset_class", String(16)),
    Column("currency", Words(8)),
    Column("side", String(16)),
    Column("quantity", Money),
    Column("order_type", String(16)),
    Column("route", JSON),
    Column("broker", String(32)),
    #: Null of orders that were archived before 0034: the files of their archive tell it.
    Column("account", String(32)),
    Column("broker_order_id", Name(64)),
    Column("filled_quantity", Money, nullable=False),
    Column("avg_fill_price", Money),
    Column("created_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Index("ix_archived_orders_broker_order_id", "broker", "broker_order_id"),
    Index("ix_archived_orders_symbol_created_at", "symbol", "created_at"),
)

#: Executions of archived orders, as far as positions and profit are made of them.
archived_fills = Table(
    "archived_fills",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("broker", String(32), nullable=False),
    Column("account", String(32)),
    Column("execution_id", Name(128), nullable=False),
    Column("strategy", String(128)),
    Column("symbol", String(32)),
    Column("side", String(16)),
    Column("quantity", Money, nullable=False),
    Column("price", Money),
    Column("currency", String(8)),
    Column("multiplier", Money),
    Column("commission", Money),
    Column("commission_currency", String(8)),
    Column("filled_at", UtcTime, nullable=False),
    Index("ix_archived_fills_execution_id", "broker", "execution_id"),
    Index("ix_archived_fills_symbol_filled_at", "symbol", "filled_at"),
)
