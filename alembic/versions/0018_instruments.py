"""instruments: the class and currency of what is ordered, and the multiplier of what was filled

Revision: 0018, after 0017

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

A multiplier that the broker told counts before the one that the symbol says; so of the views of 0013 and 0014 that
have one only this word is new.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_FILLS = ("fills", "external_fills")
#: What has the multiplier, dropped in this order.
_DROPPED = ("v_tca", "v_pnl", "v_position_days", "v_positions", "position_executions")
_BROKERS = "(SELECT count(DISTINCT a.broker) FROM attempts a WHERE a.client_order_id = o.client_order_id)"
#: Of a future only its executions tell: v_fills has it.
_OF_CLASS = "CASE o.asset_class WHEN 'option' THEN 100 WHEN 'future' THEN NULL ELSE 1 END"
_ORDERS = """
CREATE VIEW v_orders AS
SELECT o.client_order_id, o.strategy, o.symbol, {new}o.side, o.quantity, o.order_type, o.limit_price, o.stop_price,
       o.trail_amount, o.trail_percent, o.time_in_force, o.extended_hours, o.tags, o.status, o.route, o.broker,
       o.broker_order_id, o.attempt_no AS attempt_count, {brokers} AS brokers_tried, {brokers} > 1 AS fell_back,
       o.filled_quantity, round(o.quantity - o.filled_quantity, 9) AS remaining_quantity, o.avg_fill_price,
       round(o.filled_quantity * o.avg_fill_price{times}, 9) AS filled_notional, o.reason, o.reason_code, o.created_at,
       o.expires_at, o.submitted_at, o.accepted_at, o.closed_at, o.updated_at, o.group_id, o.leg
FROM orders o
"""
_V_FILLS = """
CREATE VIEW v_fills AS
SELECT f.broker, f.execution_id, f.client_order_id, f.attempt_no, f.strategy, f.symbol, o.side, f.quantity, f.price,
       round(f.quantity * f.price{times}, 9) AS notional, f.currency, {new}f.commission, f.commission_currency, f.late,
       f.inferred, f.filled_at, f.recorded_at
FROM fills f JOIN orders o ON o.client_order_id = f.client_order_id
WHERE f.voided_at IS NULL
"""
_V_EXTERNAL_FILLS = """
CREATE VIEW v_external_fills AS
SELECT f.broker, f.execution_id, f.broker_order_id, f.symbol, f.side, f.quantity, f.price,
       round(f.quantity * f.price{times}, 9) AS notional, f.currency, {new}f.commission, f.commission_currency,
       f.filled_at, f.recorded_at
FROM external_fills f
WHERE f.voided_at IS NULL
"""


def _revision(name: str) -> ModuleType:
    """Return an earlier migration, for the words of its views."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _make(*, told: bool) -> None:
    """Make every view that has a multiplier; `told`: the broker's own where there is one."""
    balances, slippage = _revision("0013_balances"), _revision("0014_slippage")
    by_symbol = balances._multiplier

    def multiplier(symbol: str) -> str:
        return f"coalesce(f.multiplier, {by_symbol(symbol)})" if symbol == "f.symbol" else by_symbol(symbol)

    if told:
        balances._multiplier = multiplier
        slippage._MULTIPLIER = f"coalesce(f.multiplier, {slippage._MULTIPLIER})"
    for name, text in (*balances._views().items(), ("v_tca", slippage._tca())):
        op.execute(f"CREATE VIEW {name} AS {text}")
    words = {"new": f"{multiplier('f.symbol')} AS multiplier, ", "times": f" * {multiplier('f.symbol')}"}
    for view in (_V_FILLS, _V_EXTERNAL_FILLS):
        op.execute(view.format(**(words if told else {"new": "", "times": ""})))
    new = {"new": "o.asset_class, o.currency, ", "times": f" * {_OF_CLASS}"} if told else {"new": "", "times": ""}
    op.execute(_ORDERS.format(brokers=_BROKERS, **new))


def _drop() -> None:
    for name in (*_DROPPED, "v_fills", "v_external_fills", "v_orders"):
        op.execute(f"DROP VIEW {name}")


def upgrade() -> None:
    _drop()
    op.add_column("orders", sa.Column("asset_class", sa.String(length=16), nullable=True))
    op.add_column("orders", sa.Column("currency", sa.String(length=8), nullable=True))
    for table in _FILLS:
        op.add_column(table, sa.Column("multiplier", sa.Numeric(), nullable=True))
    _make(told=True)


def downgrade() -> None:
    _drop()
    for table in _FILLS:
        op.execute(f"ALTER TABLE {table} DROP COLUMN multiplier")
    for column in ("currency", "asset_class"):
        op.execute(f"ALTER TABLE orders DROP COLUMN {column}")
    _make(told=False)
