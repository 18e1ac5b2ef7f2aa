"""the broker's own word for where an order stands, beside ours

Revision: 0036, after 0035

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

The view is read from the database, and gets the column at its end.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

_TABLES = r"FROM orders o\b"


def _accounts() -> ModuleType:
    """The migration of accounts: it reads and replaces views."""
    spec = importlib.util.spec_from_file_location("corro_0028", Path(__file__).with_name("0028_accounts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def upgrade() -> None:
    views = _accounts()
    op.add_column("orders", sa.Column("broker_status", sa.String(length=64), nullable=True))
    shown = views._once(rf"(\s+)({_TABLES})", r", o.broker_status\1\2", views._text_of("v_orders"))
    views._replace("v_orders", shown)


def downgrade() -> None:
    views = _accounts()
    text = views._once(rf",\s*(?:o\.)?broker_status(\s+{_TABLES})", r"\1", views._text_of("v_orders"))
    op.execute("DROP VIEW v_orders")
    op.execute(f"CREATE VIEW v_orders AS {text}")
    op.execute("ALTER TABLE orders DROP COLUMN broker_status")
