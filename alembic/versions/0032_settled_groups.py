"""settled groups: what was wrong with a group when a person had dealt with it

Revision: 0032, after 0031

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("order_groups", sa.Column("settled", sa.Text()))


def downgrade() -> None:
    op.execute("ALTER TABLE order_groups DROP COLUMN settled")
