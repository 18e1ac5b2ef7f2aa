"""notional: orders for an amount of money, which have no quantity

Revision: 0024, after 0023

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

The quantity of an order was nullable already, for those whose message could not be read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def _view(new: str) -> str:
    """Return v_orders of 0022, with what is new in it."""
    spec = importlib.util.spec_from_file_location("corro_0022", Path(__file__).with_name("0022_legs.py"))
    assert spec is not None
    assert spec.loader is not None
    before = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(before)
    text = str(before._of_legs("v_orders", before._views()["v_orders"]))
    return f"CREATE VIEW v_orders AS {text.replace('o.quantity, ', f'o.quantity, {new}', 1)}"


def upgrade() -> None:
    op.execute("DROP VIEW v_orders")
    op.add_column("orders", sa.Column("notional", sa.Numeric(), nullable=True))
    op.execute(_view("o.notional, "))


def downgrade() -> None:
    op.execute("DROP VIEW v_orders")
    op.execute("ALTER TABLE orders DROP COLUMN notional")
    op.execute(_view(""))
