"""kinds: how long an order lives, how it shows itself, and by which algorithm its broker works it

Revision: 0027, after 0026

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, sa.types.TypeEngine[object]] = {
    "good_till": sa.DateTime(timezone=True),
    "limit_offset": sa.Numeric(),
    "display_quantity": sa.Numeric(),
    "hidden": sa.Boolean(),
    "algo": sa.JSON(),
}


def _view(*, rare: bool) -> str:
    """Return v_orders of 0024, with what is new at its end."""
    spec = importlib.util.spec_from_file_location("corro_0024", Path(__file__).with_name("0024_notional.py"))
    assert spec is not None
    assert spec.loader is not None
    before = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(before)
    more = "".join(f", o.{name}" for name in _COLUMNS) if rare else ""
    return str(before._view("o.notional, ")).replace("o.leg, o.legs", f"o.leg, o.legs{more}", 1)


def upgrade() -> None:
    op.execute("DROP VIEW v_orders")
    for name, kind in _COLUMNS.items():
        op.add_column("orders", sa.Column(name, kind, nullable=True))
    op.execute(_view(rare=True))


def downgrade() -> None:
    op.execute("DROP VIEW v_orders")
    for name in reversed(_COLUMNS):
        op.execute(f"ALTER TABLE orders DROP COLUMN {name}")
    op.execute(_view(rare=False))
