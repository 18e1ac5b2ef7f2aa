"""chain: links over the journals, written by leaders, walked by `corro db verify`

Revision: 0015, after 0014

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "journal_chain",
        sa.Column("journal", sa.String(length=32), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("journal", "first_id", name="pk_journal_chain"),
    )


def downgrade() -> None:
    op.drop_table("journal_chain")
