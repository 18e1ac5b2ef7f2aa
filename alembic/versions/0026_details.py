"""details: what a broker's adapter needs to know an instrument again without asking

Revision: 0026, after 0025

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instruments", sa.Column("detail", sa.JSON()))


def downgrade() -> None:
    op.execute("ALTER TABLE instruments DROP COLUMN detail")
