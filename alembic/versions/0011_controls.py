"""controls: halted and reducing, by scope; the halts of the version before stay, and are in force as well

Revision: 0011, after 0010

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# A halt that a newer control of the same scope stands for is not shown twice.
_CONTROLS = """
CREATE VIEW v_controls AS
SELECT c.scope_kind, c.scope, c.state, c.generation, c.kill, c."by", c.reason, c.at
FROM controls c
UNION ALL
SELECT CASE h.scope WHEN '*' THEN '*' ELSE 'broker' END, h.scope,
       CASE h.kind WHEN 'drain' THEN 'draining' ELSE 'halted' END, 0, NULL, h."by", h.reason, h.at
FROM halts h
WHERE h.kind = 'drain' OR NOT EXISTS (
    SELECT 1 FROM controls c WHERE c.scope = h.scope AND c.scope_kind IN ('*', 'broker') AND c.at >= h.at
)
"""


def upgrade() -> None:
    op.create_table(
        "controls",
        sa.Column("scope_kind", sa.String(length=32), nullable=False),
        sa.Column("scope", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("kill", sa.JSON(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope_kind", "scope", name=op.f("pk_controls")),
    )
    op.execute(_CONTROLS)


def downgrade() -> None:
    op.execute("DROP VIEW v_controls")
    op.drop_table("controls")
