"""new executions: PostgreSQL finds those since balances were kept by their ids, and reads no others

Revision: 0035, after 0034

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

Of `id > p.kept_id` between two tables its planner guesses a third of all executions, and so it read all of them, with
all orders, for each question. Of a range of ids in a subquery of its own (OFFSET 0 keeps it one) it guesses few, as
SQLite does, which needs no help.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_VIEWS = ("v_pnl", "v_positions", "v_position_days")
#: Above all ids that there will be.
_FAR = 1_000_000_000_000
_PLAIN = r"CROSS JOIN position_executions e"
_RANGE = r"CROSS JOIN LATERAL \( SELECT x\..*?FROM position_executions x\s+WHERE .*?OFFSET 0\) e"
#: Who says from which id on, and of which source: what is not kept yet, and what is not in expected positions yet.
_SINCE = (
    (r"(FROM position_progress p\s+){joined}(\s+WHERE e\.source = (p\.source)::text AND e\.id > (p\.kept_id))"),
    (r"(FROM position_ledgers l\s+){joined}(\s+WHERE (?:(?!FROM).)*?e\.source = ('\w+')::text AND e\.id > (l\.\w+))"),
)


def _made_anew(find: str, put: str) -> None:
    for view in _VIEWS:
        text = op.get_bind().execute(sa.text(f"SELECT pg_get_viewdef('{view}'::regclass, true)")).scalar_one()
        count = 0
        for since in _SINCE:
            text, found = re.subn(since.format(joined=find), put, text, flags=re.DOTALL)
            count += found
        if count != (3 if view == "v_positions" else 1):
            raise ValueError(f"{view} has {count} of them: {text}")
        op.execute(sa.text(f"CREATE OR REPLACE VIEW {view} AS {text}".replace(":", r"\:")))


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        which = rf"SELECT x.* FROM position_executions x WHERE x.source = \3 AND x.id > \4 AND x.id < \4 + {_FAR}"
        _made_anew(_PLAIN, rf"\1CROSS JOIN LATERAL ({which} OFFSET 0) e\2")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _made_anew(_RANGE, rf"\1{_PLAIN}\2")
