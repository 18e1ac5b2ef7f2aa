"""The table of instruments: what brokers have told of them, one row for each broker that knows one. A working table."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Date, Index, String, Table

from models.record.columns import Money, Name, UtcTime, Words, metadata

instruments = Table(
    "instruments",
    metadata,
    #: The canonical text (`models.instruments`).
    Column("symbol", String(64), primary_key=True),
    Column("asset_class", String(16), primary_key=True),
    Column("broker", String(64), primary_key=True),
    #: Of its prices: a listing may have several.
    Column("currency", Words(8), primary_key=True),
    Column("underlying", Name(32), nullable=False),
    #: Last day of an option, or of a future's trading.
    Column("expiry", Date),
    Column("right", String(1)),
    Column("strike", Money),
    #: Money per unit and unit of price.
    Column("multiplier", Money),
    #: Where it is listed.
    Column("listing", Name(32)),
    #: The finest step of its prices, and of quantities.
    Column("price_increment", Money),
    Column("lot_size", Money),
    #: What it is called there, and the broker's own id (IB's conId).
    Column("broker_symbol", Name(64)),
    Column("broker_id", Name(64)),
    Column("name", Words(128)),
    #: Whether the broker takes orders in it, when it was asked.
    Column("tradable", Boolean),
    #: Ranges of prices with their steps, and when it trades in the days around (`models.trading_hours`).
    Column("price_bands", JSON(none_as_null=True)),
    Column("hours", JSON(none_as_null=True)),
    #: What its adapter needs to know it again without asking.
    Column("detail", JSON(none_as_null=True)),
    #: When the broker told.
    Column("resolved_at", UtcTime, nullable=False),
    Index("ix_instruments_underlying", "underlying", "asset_class", "expiry"),
)
