"""The tables of what others do at our brokers, and of the positions that come of it.

Positions are kept by destination: where a broker's login has several accounts, `broker` is one of them, `ibkr:ira`
(`models.destinations`).
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, UniqueConstraint

from models.record.columns import Money, Name, UtcTime, Words, metadata

#: Orders at a broker that corro did not send: recorded, and left alone.
external_orders = Table(
    "external_orders",
    metadata,
    Column("broker", String(32), primary_key=True),
    Column("account", String(32)),
    Column("broker_order_id", Name(64), primary_key=True),
    Column("broker_client_order_id", Name(128)),
    Column("symbol", Name(64)),
    Column("side", String(16)),
    Column("order_type", String(16)),
    Column("time_in_force", String(8)),
    Column("quantity", Money),
    Column("limit_price", Money),
    Column("stop_price", Money),
    Column("filled_quantity", Money),
    Column("avg_fill_price", Money),
    #: In the words of `models.reports.BrokerStatus`; unknown where only executions tell of it.
    Column("status", String(24), nullable=False),
    Column("raw_status", Words(64)),
    Column("submitted_at", UtcTime),
    Column("first_seen_at", UtcTime, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
)

#: Their executions: they move positions, so they explain them.
external_fills = Table(
    "external_fills",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("broker", String(32), nullable=False),
    Column("account", String(32)),
    Column("execution_id", Name(128), nullable=False),
    Column("broker_order_id", Name(64)),
    Column("symbol", Name(64)),
    Column("side", String(16)),
    Column("quantity", Money, nullable=False),
    Column("price", Money),
    Column("cumulative_quantity", Money),
    #: Currency of the price, as the broker told it; null where it did not say.
    Column("currency", Words(8)),
    #: Money per unit and unit of price, as the broker told it; null where the symbol says it.
    Column("multiplier", Money),
    Column("commission", Money),
    Column("commission_currency", Words(8)),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("voided_at", UtcTime),
    Column("filled_at", UtcTime, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    UniqueConstraint("broker", "execution_id"),
    Index("ix_external_fills_broker_broker_order_id", "broker", "broker_order_id"),
)

#: How far the books of a broker's positions are added up: see `worker.positions.ledger`.
position_ledgers = Table(
    "position_ledgers",
    metadata,
    Column("broker", String(32), primary_key=True),
    #: Fills up to these ids are contained in the baselines.
    Column("fills_id", BigInteger, nullable=False, default=0),
    Column("external_fills_id", BigInteger, nullable=False, default=0),
    #: Symbols whose baseline could not be taken yet: something of ours was under way there.
    Column("pending", JSON, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    #: Every execution before this has been read and booked, as ours or as external.
    Column("fills_read_at", UtcTime),
)

#: What was at the broker before, and besides, the fills that came later; a symbol without a row began with nothing.
position_baselines = Table(
    "position_baselines",
    metadata,
    Column("broker", String(32), primary_key=True),
    Column("symbol", Name(64), primary_key=True),
    Column("quantity", Money, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

#: Positions that nothing explains: no new order goes there.
position_locks = Table(
    "position_locks",
    metadata,
    Column("broker", String(32), primary_key=True),
    Column("symbol", Name(64), primary_key=True),
    #: By the baseline and every fill since; and what the broker shows. Negative is short.
    Column("expected", Money, nullable=False),
    Column("found", Money, nullable=False),
    Column("since", UtcTime, nullable=False),
    #: When the broker's figure was last read.
    Column("read_at", UtcTime, nullable=False),
    Column("note", Words()),
)

#: The journal of baselines and locks. Append only.
position_events = Table(
    "position_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("broker", String(32), nullable=False),
    Column("symbol", Name(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    #: locked, explained, unlocked; moved: by something that its broker has told, `event_id` in `cash_events`
    Column("kind", String(16), nullable=False),
    Column("expected", Money),
    Column("found", Money),
    Column("by", String(128)),
    Column("reason", Words()),
    Column("event_id", Name(128)),
    Index("ix_position_events_broker_symbol", "broker", "symbol"),
)

#: Lines that are no trades: what brokers told of lots besides executions (an option that expired, a split), and
#: archived executions as their brokers told them later. Positions and profit count them as executions.
told_executions = Table(
    "told_executions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    #: Whose lots: ours or external.
    Column("source", String(16), nullable=False),
    Column("broker", String(32), nullable=False),
    Column("account", String(32)),
    Column("strategy", String(128)),
    Column("symbol", Name(64), nullable=False),
    Column("currency", Words(8), nullable=False),
    #: Signed; 0: nothing is left of it.
    Column("shares", Money, nullable=False),
    Column("price", Money),
    #: At which the average takes it, where that is another: a split leaves the cost of both methods as it is.
    Column("average_price", Money),
    Column("multiplier", Money, nullable=False),
    Column("fee", Money),
    Column("fee_currency", Words(8)),
    Column("filled_at", UtcTime, nullable=False),
    #: expiry, exercise, assignment, split; bust, correction: of an archived execution
    Column("kind", String(16), nullable=False),
    #: Of `cash_events`; of an archived execution, its id.
    Column("event_id", Name(128), nullable=False),
    #: Id of the archived execution that counts no more, as this line stands for it.
    Column("replaces", BigInteger, unique=True),
    Column("revision", Integer, nullable=False, server_default="0"),
    #: What a position has gained by it: of a changed execution the difference alone.
    Column("moved", Money, nullable=False),
    #: The broker's words.
    Column("reason", Words()),
    Column("recorded_at", UtcTime, nullable=False),
    Index("ix_told_executions_broker_symbol", "broker", "symbol"),
)
