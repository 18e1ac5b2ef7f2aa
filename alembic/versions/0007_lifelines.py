"""lifelines: the lock that a worker's own connection holds, so that its death is known before its silence is believed

Revision: 0007, after 0006

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("lifeline", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN lifeline")
