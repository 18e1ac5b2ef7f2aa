"""trading hours: when an instrument trades, and the ranges of its prices with their steps

Revision: 0030, after 0029

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instruments", sa.Column("price_bands", sa.JSON()))
    op.add_column("instruments", sa.Column("hours", sa.JSON()))


def downgrade() -> None:
    op.execute("ALTER TABLE instruments DROP COLUMN hours")
    op.execute("ALTER TABLE instruments DROP COLUMN price_bands")
