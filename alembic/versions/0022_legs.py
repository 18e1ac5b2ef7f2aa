"""legs: orders that trade several instruments together, and the leg that each of their executions is of

Revision: 0022, after 0021

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

An execution of a leg has a side of its own; so of the views of 0018 only where they take the side from is new. What a
package has slipped is no sum over its legs, whose prices nobody decided on: `v_tca` leaves them out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

#: Side of an execution of ours.
_SIDE = "coalesce(f.side, o.side)"
_DROPPED = ("v_tca", "v_pnl", "v_position_days", "v_positions", "position_executions", "v_fills", "v_orders")


def _revision(name: str) -> ModuleType:
    """Return an earlier migration, for the words of its views."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _views() -> dict[str, str]:
    """The views as 0018 has made them, and 0021, which counts what is archived."""
    before = _revision("0018_instruments")
    balances, slippage = before._revision("0013_balances"), before._revision("0014_slippage")
    by_symbol = balances._multiplier

    def multiplier(symbol: str) -> str:
        return f"coalesce(f.multiplier, {by_symbol(symbol)})" if symbol == "f.symbol" else str(by_symbol(symbol))

    balances._multiplier = multiplier
    slippage._MULTIPLIER = f"coalesce(f.multiplier, {slippage._MULTIPLIER})"
    times = f" * {multiplier('f.symbol')}"
    fills = before._V_FILLS.format(new=f"{multiplier('f.symbol')} AS multiplier, ", times=times)
    orders = before._ORDERS.format(
        brokers=before._BROKERS, new="o.asset_class, o.currency, ", times=f" * {before._OF_CLASS}"
    )
    made = {name: text.strip().split(" AS\n", 1)[1] for name, text in (("v_fills", fills), ("v_orders", orders))}
    kept = balances._views()
    kept["position_executions"] += " UNION ALL " + _revision("0021_archive")._archived(balances)
    return {**kept, "v_tca": slippage._tca(), **made}


def _of_legs(name: str, text: str) -> str:
    """Return what becomes of a view: sides are those of legs where there are any."""
    if name == "v_tca":
        return text.replace("f.voided_at IS NULL", "f.voided_at IS NULL AND f.leg IS NULL")
    if name == "v_orders":
        text = text.replace("o.group_id, o.leg", "o.group_id, o.leg, o.legs")
        return text.replace(
            "CASE o.asset_class", "CASE WHEN o.legs IS NOT NULL THEN 100 ELSE CASE o.asset_class"
        ).replace("NULL ELSE 1 END", "NULL ELSE 1 END END")
    if name == "v_fills":
        return text.replace("f.symbol, o.side", f"f.symbol, {_SIDE} AS side").replace(
            "f.recorded_at", "f.recorded_at, f.leg"
        )
    return text.replace("o.side", _SIDE)


def _drop() -> None:
    for name in _DROPPED:
        op.execute(f"DROP VIEW {name}")


def upgrade() -> None:
    _drop()
    op.add_column("orders", sa.Column("legs", sa.JSON(), nullable=True))
    op.add_column("fills", sa.Column("leg", sa.Integer(), nullable=True))
    op.add_column("fills", sa.Column("side", sa.String(length=16), nullable=True))
    for name, text in _views().items():
        op.execute(f"CREATE VIEW {name} AS {_of_legs(name, text)}")


def downgrade() -> None:
    _drop()
    for table, column in (("fills", "side"), ("fills", "leg"), ("orders", "legs")):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for name, text in _views().items():
        op.execute(f"CREATE VIEW {name} AS {text}")
