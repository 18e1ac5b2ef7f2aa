"""archive: what stays of archived orders: their ids, which no order may have again, and their shares

Revision: 0021, after 0020

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

A trigger passes over an order whose id is archived, so that an INSERT finds it taken as if it were there: whoever
records orders pays no question for it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TRIGGER = "orders_id_archived"
_SQLITE = f"""
CREATE TRIGGER {_TRIGGER} BEFORE INSERT ON orders
WHEN EXISTS (SELECT 1 FROM archived_orders a WHERE a.client_order_id = NEW.client_order_id)
BEGIN SELECT RAISE(IGNORE); END
"""
_POSTGRESQL = (
    f"""
CREATE FUNCTION {_TRIGGER}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM archived_orders a WHERE a.client_order_id = NEW.client_order_id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$
""",
    f"CREATE TRIGGER {_TRIGGER} BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION {_TRIGGER}()",
)


def _is_sqlite() -> bool:
    return bool(op.get_bind().dialect.name == "sqlite")


def _balances() -> ModuleType:
    """The migration that made the views of positions and profit: they read one view of executions, which grows here."""
    spec = importlib.util.spec_from_file_location("corro_0013", Path(__file__).with_name("0013_balances.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    by_symbol = module._multiplier  # a multiplier that the broker told counts before it: see 0018
    module._multiplier = lambda s: f"coalesce(f.multiplier, {by_symbol(s)})" if s == "f.symbol" else by_symbol(s)
    return module


def _views(*, archived: bool) -> None:
    before = _balances()
    texts: dict[str, str] = before._views()
    for name in reversed(texts):
        op.execute(f"DROP VIEW {name}")
    if archived:
        texts["position_executions"] += " UNION ALL " + _archived(before)
    for name, text in texts.items():
        op.execute(f"CREATE VIEW {name} AS {text}")


def _archived(before: Any) -> str:
    return f"""
SELECT 'ours' AS source, f.id, f.broker, '' AS account, coalesce(f.strategy, '') AS strategy, f.symbol,
       coalesce(f.currency, 'USD') AS currency,
       CASE WHEN f.side IN ('buy', 'buy_to_cover') THEN f.quantity ELSE -f.quantity END AS shares, f.price,
       {before._multiplier("f.symbol")} AS multiplier, f.commission AS fee,
       coalesce(f.commission_currency, f.currency, 'USD') AS fee_currency, f.filled_at,
       {before._day("f.filled_at", "f.symbol")} AS day
FROM archived_fills f"""


def _text(name: str, length: int, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def _money(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric(), nullable=nullable)


def _at(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "archives", sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _text("name", 64, nullable=False), _text("directory", 1024, nullable=False), _at("before", nullable=False),
        _at("made_at", nullable=False), _at("written_at"), _at("done_at"),
        sa.Column("counts", sa.JSON(), nullable=True),
        sa.Column("left", sa.Integer(), server_default="0", nullable=False), _text("digest", 64), _number("first_id"),
        _number("last_id"), _text("head", 64, nullable=False), _number("kept_count", nullable=True),
        _text("kept_digest", 64), sa.PrimaryKeyConstraint("id", name="pk_archives"),
    )  # fmt: skip
    op.create_table(
        "archived_orders", _text("client_order_id", 64, nullable=False), _text("body_hash", 64, nullable=False),
        _text("status", 24, nullable=False), sa.Column("archive", sa.Integer(), nullable=False), _text("strategy", 128),
        _text("symbol", 32), _text("side", 16), _money("quantity"), _text("order_type", 16),
        sa.Column("route", sa.JSON(), nullable=True), _text("broker", 32), _text("broker_order_id", 64),
        _money("filled_quantity", nullable=False), _money("avg_fill_price"), _at("created_at", nullable=False),
        _at("closed_at"), sa.PrimaryKeyConstraint("client_order_id", name="pk_archived_orders"),
    )  # fmt: skip
    op.create_table(
        "archived_fills",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        _text("broker", 32, nullable=False), _text("execution_id", 128, nullable=False), _text("strategy", 128),
        _text("symbol", 32), _text("side", 16), _money("quantity", nullable=False), _money("price"),
        _text("currency", 8), _money("multiplier"), _money("commission"),
        _text("commission_currency", 8), _at("filled_at", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_archived_fills"),
    )  # fmt: skip
    op.create_index("ix_archived_orders_broker_order_id", "archived_orders", ["broker", "broker_order_id"])
    op.create_index("ix_archived_fills_execution_id", "archived_fills", ["broker", "execution_id"])
    op.create_index("ix_archived_fills_symbol_filled_at", "archived_fills", ["symbol", "filled_at"])
    _views(archived=True)
    for statement in [_SQLITE] if _is_sqlite() else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    op.execute(f"DROP TRIGGER {_TRIGGER}" if _is_sqlite() else f"DROP FUNCTION {_TRIGGER} CASCADE")
    _views(archived=False)
    for table in ("archived_fills", "archived_orders", "archives"):
        op.drop_table(table)
