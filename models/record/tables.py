"""The tables, as SQLAlchemy Core. Times are UTC, money and sizes NUMERIC, enums text.

The views `v_*` are the public face: the tables may change with a migration, the views' columns do not disappear.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    case,
    false,
    func,
    literal_column,
    or_,
)

from models.record import archive_tables as archive_tables
from models.record import balance_tables as balance_tables
from models.record import history_tables as history_tables
from models.record.columns import Money, Name, UtcTime, Words
from models.record.columns import metadata as metadata
from models.record.control_tables import control_events as control_events
from models.record.control_tables import controls as controls
from models.record.control_tables import halts as halts
from models.record.group_tables import membership as membership
from models.record.group_tables import order_groups as order_groups
from models.record.instrument_tables import instruments as instruments
from models.record.key_tables import deployment as deployment
from models.record.key_tables import keys as keys
from models.record.kind_tables import rare_terms as rare_terms
from models.record.notice_tables import incidents as incidents
from models.record.position_tables import external_fills as external_fills
from models.record.position_tables import external_orders as external_orders
from models.record.position_tables import position_baselines as position_baselines
from models.record.position_tables import position_events as position_events
from models.record.position_tables import position_ledgers as position_ledgers
from models.record.position_tables import position_locks as position_locks
from models.record.risk_tables import reference_prices as reference_prices
from models.record.risk_tables import risk_limits as risk_limits
from models.record.risk_tables import risk_tallies as risk_tallies

orders = Table(
    "orders",
    metadata,
    Column("client_order_id", String(64), primary_key=True),
    Column("version", Integer, nullable=False, default=1),
    Column("strategy", String(128)),
    Column("symbol", String(32)),
    #: What the symbol names, and the currency of its prices; null where only its listing tells (`models.instruments`).
    Column("asset_class", String(16)),
    Column("currency", String(8)),
    Column("side", String(16)),
    #: Null in an order of money: `notional` is for how much.
    Column("quantity", Money),
    Column("notional", Money),
    Column("order_type", String(16)),
    Column("limit_price", Money),
    Column("stop_price", Money),
    Column("trail_amount", Money),
    Column("trail_percent", Money),
    #: At which the strategy decided; no part of the order's terms.
    Column("decision_price", Money),
    Column("time_in_force", String(8)),
    Column("extended_hours", Boolean, nullable=False, default=False),
    Column("tags", JSON),
    Column("status", String(24), nullable=False),
    #: Brokers to try, in order.
    Column("route", JSON),
    #: Where the order is, or is queued for, now; the account is null where the broker's login is used as one.
    Column("broker", String(32)),
    Column("account", String(32)),
    Column("broker_order_id", Name(64)),
    #: The broker's own word for where it stands: an exit that sleeps there is accepted, and `held` or `PreSubmitted`.
    Column("broker_status", Words(64)),
    #: Attempts begun so far.
    Column("attempt_no", Integer, nullable=False, default=0),
    Column("filled_quantity", Money, nullable=False, default=Decimal(0)),
    Column("avg_fill_price", Money),
    #: Why it ended, or why it waits.
    Column("reason", Words()),
    #: The same as one word that a program can rely on: no_position, halted, ...; null where there is none.
    Column("reason_code", String(32)),
    Column("body_hash", String(64), nullable=False),
    Column("cancel_requested_at", UtcTime),
    Column("cancel_sent_at", UtcTime),
    #: New terms that somebody asked for and nobody has sent yet.
    Column("replace_request", JSON(none_as_null=True)),
    #: Whose signature stands behind it, over which text: the order object as it was signed (models/signing.py).
    Column("key_id", String(64)),
    Column("signed_text", Text),
    Column("signature", String(128)),
    #: When its terms were last changed from those that were signed; of a signed replace, when that was made.
    Column("amended_at", UtcTime),
    #: Cancels and replaces as producers without the right to change an order leave them: workers judge them first.
    Column("wishes", JSON(none_as_null=True)),
    #: What the order asked for: not to be sent before then, and in the regular session alone.
    Column("not_before", UtcTime),
    Column("session", String(16)),
    *membership(),
    *rare_terms(),
    #: What a package trades, as in the order object (`models.legs`); null in an order of one instrument.
    Column("legs", JSON(none_as_null=True)),
    #: Why it is held: approval, not_before, session, with commas between; null once it is released.
    Column("held_for", String(64)),
    #: Not to be claimed, or released, before this (a snooze lives here, never in the queue).
    Column("available_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("submitted_at", UtcTime),
    Column("accepted_at", UtcTime),
    Column("closed_at", UtcTime),
    Column("updated_at", UtcTime, nullable=False),
    Index("ix_orders_status_broker_available_at", "status", "broker", "available_at"),
    Index("ix_orders_status_created_at", "status", "created_at"),
    Index("ix_orders_created_at", "created_at"),
    Index("ix_orders_strategy_created_at", "strategy", "created_at"),
    Index("ix_orders_symbol_created_at", "symbol", "created_at"),
)

#: Orders with wishes that nobody has judged yet.
WISHED = orders.c.wishes.is_not(None)
# Its migration makes it of the WISHED orders alone; to say so here would load both dialects into every process.
WISHED_INDEX = Index("ix_orders_wishes", orders.c.broker)
#: Of orders with legs alone, likewise: those that ended lately are looked at again and again.
PACKAGES_INDEX = Index("ix_orders_packages", orders.c.broker, orders.c.closed_at)

attempts = Table(
    "attempts",
    metadata,
    Column("client_order_id", String(64), ForeignKey("orders.client_order_id"), primary_key=True),
    Column("attempt_no", Integer, primary_key=True),
    Column("broker", String(32), nullable=False),
    Column("account", String(32)),
    #: The id the broker sees: orderRef at IB, client_order_id at Alpaca.
    Column("broker_client_order_id", Name(128), nullable=False),
    Column("broker_order_id", Name(64)),
    Column("outcome", String(16), nullable=False),
    #: The broker's code and words, always kept.
    Column("code", Words(64)),
    Column("message", Words()),
    Column("worker", String(128), nullable=False),
    #: The broker connection that alone may cancel or change the order (IB's client id); null where any may.
    Column("session", String(64)),
    #: The number under which that connection sends it (IB's order id), reserved for an order of a group beforehand.
    Column("session_order_id", String(32)),
    Column("started_at", UtcTime, nullable=False),
    #: When bytes could first leave; null on a broker that marks it means that nothing was sent.
    Column("sent_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("lease_until", UtcTime, nullable=False),
    #: Broker order ids that existed before the send, at brokers without client order ids.
    Column("baseline", JSON(none_as_null=True)),
    #: A replace: the attempt whose order this one changes, and the new terms.
    Column("replaces", Integer),
    Column("terms", JSON(none_as_null=True)),
    Column("next_check_at", UtcTime),
    Column("checks", Integer, nullable=False, default=0),
    Column("missing", Integer, nullable=False, default=0),
    Column("alerted_at", UtcTime),
    #: It had been given up and is alive at its broker: when its cancel is asked for next; null once it is dead.
    Column("stray_at", UtcTime),
    #: What was asked about it while it was unknown, and what came back: see `models.record.evidence`.
    Column("evidence", JSON(none_as_null=True)),
    #: What it counts as in `risk_tallies`: see `models.record.usage`; null where no limit was in force.
    Column("reserved", JSON(none_as_null=True)),
    #: What its slippage is held against: see `v_tca`.
    Column("decision_price", Money),
    Column("arrival_bid", Money),
    Column("arrival_ask", Money),
    Column("arrival_at", UtcTime),
    Index("ix_attempts_outcome_broker_started_at", "outcome", "broker", "started_at"),
    Index("ix_attempts_started_at", "started_at"),
    Index("ix_attempts_broker_broker_client_order_id", "broker", "broker_client_order_id"),
    Index("ix_attempts_broker_broker_order_id", "broker", "broker_order_id"),
)

#: Alive at their broker though they had been given up.
STRAY = attempts.c.stray_at.is_not(None)
# Its migration makes it of the STRAY attempts alone; to say so here would load both dialects into every process.
STRAY_INDEX = Index("ix_attempts_stray", attempts.c.broker)
#: Of attempts that were looked for in vain `models.record.evidence.LOST_AFTER` times, likewise.
LOST_INDEX = Index("ix_attempts_lost", attempts.c.broker)

fills = Table(
    "fills",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("broker", String(32), nullable=False),
    #: The attempt's.
    Column("account", String(32)),
    Column("execution_id", Name(128), nullable=False),
    Column("client_order_id", String(64), ForeignKey("orders.client_order_id"), nullable=False),
    Column("attempt_no", Integer, nullable=False),
    #: The order's, so that the fills of a symbol or a strategy are found without going through its orders.
    Column("symbol", String(32)),
    #: Of an order with legs: which one traded, from 1, and its side; null elsewhere, where the side is the order's.
    Column("leg", Integer),
    Column("side", String(16)),
    Column("strategy", String(128)),
    Column("quantity", Money, nullable=False),
    #: Null until the broker has told it.
    Column("price", Money),
    #: Filled on this attempt including this fill, as the broker counts; null where it does not say.
    Column("cumulative_quantity", Money),
    #: Currency of the price, as the broker told it; null where it did not say.
    Column("currency", Words(8)),
    #: Money per unit and unit of price, as the broker told it; null where the symbol says it.
    Column("multiplier", Money),
    Column("commission", Money),
    Column("commission_currency", Words(8)),
    #: How often the broker has corrected this execution.
    Column("revision", Integer, nullable=False, server_default="0"),
    #: Since when it counts no more: taken back by its broker, or replaced by real executions. Its quantity is 0 then.
    Column("voided_at", UtcTime),
    #: Nobody told of this execution: it is the difference between the broker's total and its executions.
    Column("inferred", Boolean, nullable=False, server_default=false()),
    Column("filled_at", UtcTime, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    #: Arrived after the order had ended, or on an attempt that was believed dead.
    Column("late", Boolean, nullable=False, default=False),
    UniqueConstraint("broker", "execution_id"),
    Index("ix_fills_client_order_id", "client_order_id"),
    Index("ix_fills_filled_at", "filled_at"),
    Index("ix_fills_symbol_filled_at", "symbol", "filled_at"),
    Index("ix_fills_strategy_filled_at", "strategy", "filled_at"),
)

#: The side of an execution: its leg's, else its order's.
SIDE_OF_FILL = func.coalesce(fills.c.side, orders.c.side)
#: The same where it matters whether it opens: a leg that sells may open as well as close, which what is held tells.
SIDE_TO_OPEN = case((fills.c.leg.is_not(None) & (fills.c.side == "sell"), "sell_short"), else_=SIDE_OF_FILL)
#: Executions that are inferred, or have no price yet; word for word as the index has it, or SQLite does not take that.
UNSETTLED = fills.c.voided_at.is_(None) & or_(literal_column("fills.inferred"), fills.c.price.is_(None))
# Its migration makes it of the UNSETTLED fills alone; to say so here would load both dialects into every process.
UNSETTLED_INDEX = Index("ix_fills_unsettled", fills.c.broker)

order_events = Table(
    "order_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("client_order_id", String(64), ForeignKey("orders.client_order_id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("from_status", String(24)),
    Column("to_status", String(24)),
    Column("detail", Words()),
    Index("ix_order_events_client_order_id_id", "client_order_id", "id"),
    Index("ix_order_events_at", "at"),
)

fetches = Table(
    "fetches",
    metadata,
    Column("fetch_id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("request", JSON, nullable=False),
    Column("route", JSON, nullable=False),
    Column("broker", String(32), nullable=False),
    #: queued, running, done, failed
    Column("status", String(16), nullable=False),
    #: Claims so far, at any broker.
    Column("attempt_no", Integer, nullable=False, default=0),
    #: Failures at this broker since its last page of bars.
    Column("tries", Integer, nullable=False, default=0),
    #: Share done, 0 to 1; null where it cannot be told.
    Column("progress", Money),
    #: Everything before this is stored in `bars`, from `broker`: where another worker goes on.
    Column("cursor", UtcTime),
    #: Bars this request has stored from `broker`.
    Column("stored", Integer, nullable=False, default=0),
    Column("result", JSON(none_as_null=True)),
    #: What went wrong on the way, broker by broker; kept when another one has answered.
    Column("error", Words()),
    Column("worker", String(128)),
    Column("lease_until", UtcTime),
    #: Not to be claimed before this: a broker that asked for a pause gets it.
    Column("available_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("updated_at", UtcTime, nullable=False),
    Index("ix_fetches_status_broker", "status", "broker"),
)

bars = Table(
    "bars",
    metadata,
    Column("broker", String(32), primary_key=True),
    Column("symbol", String(32), primary_key=True),
    Column("timeframe", String(8), primary_key=True),
    #: Beginning of the bar's interval.
    Column("start", UtcTime, primary_key=True),
    Column("open", Money, nullable=False),
    Column("high", Money, nullable=False),
    Column("low", Money, nullable=False),
    Column("close", Money, nullable=False),
    Column("volume", Money, nullable=False),
    #: Whether its interval was over when its broker was asked for it; null: nobody knows (of before 0045).
    Column("complete", Boolean),
)

account_snapshots = Table(
    "account_snapshots",
    metadata,
    Column("broker", String(32), primary_key=True),
    Column("account_id", Name(64), primary_key=True),
    Column("currency", Words(8), nullable=False),
    Column("buying_power", Money),
    Column("cash", Money),
    Column("equity", Money),
    Column("portfolio_value", Money),
    Column("total_liquidity", Money),
    Column("day_trade_count", Integer),
    Column("paper", Boolean),
    Column("taken_at", UtcTime, nullable=False),
)

position_snapshots = Table(
    "position_snapshots",
    metadata,
    Column("broker", String(32), primary_key=True),
    Column("symbol", Name(64), primary_key=True),
    #: Negative for a short position.
    Column("quantity", Money, nullable=False),
    Column("avg_price", Money),
    Column("market_value", Money),
    Column("unrealized_pnl", Money),
    Column("account_id", Name(64)),
    Column("currency", Words(8)),
    Column("taken_at", UtcTime, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("worker", String(128), primary_key=True),
    Column("broker", String(32), nullable=False),
    Column("host", String(128), nullable=False),
    #: Tells two boots of one host, and two containers that share its name, apart.
    Column("boot", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    #: The session under which its orders are placed (IB's client id); null where every connection may change them.
    Column("session", String(64)),
    #: The lock of PostgreSQL that its own connection holds while it lives; null where there is none.
    Column("lifeline", BigInteger),
    #: starting, ready, disconnected, stopped
    Column("state", String(16), nullable=False),
    #: Since when it is so.
    Column("state_since", UtcTime),
    Column("detail", Words()),
    Column("started_at", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    #: When the positions at this broker were last read completely.
    Column("positions_at", UtcTime),
    Index("ix_workers_broker", "broker"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("until", UtcTime, nullable=False),
    #: Its holder has had it without a break since then: the fencing token of what only the holder may write.
    Column("since", UtcTime),
)

#: What has been counted since the database was made: see `models.record.tally`.
tallies = Table(
    "tallies",
    metadata,
    Column("name", String(64), primary_key=True),
    #: A JSON list of texts.
    Column("labels", String(256), primary_key=True),
    Column("value", Float(53), nullable=False),
)
