"""archived prices: what an open position is worth is known by its last execution, also where that is archived

Revision: 0042, after 0041

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

The views are read from the database, whatever else they show by now.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

_VIEWS = ("v_pnl", "v_positions")
_OURS = "FROM fills f WHERE f.symbol = n.symbol AND f.price IS NOT NULL AND f.voided_at IS NULL"
_HERE = rf"(SELECT f.\1 {_OURS} ORDER BY f.filled_at DESC, f.id DESC LIMIT 1)"
#: One that is archived counts where it is newer than all others: each is one look into an index.
_ANYWHERE = rf"""coalesce(
    (SELECT g.\1 FROM archived_fills g WHERE g.symbol = n.symbol AND g.price IS NOT NULL
     AND g.filled_at > coalesce((SELECT max(f.filled_at) {_OURS}), {{before_all}})
     ORDER BY g.filled_at DESC, g.id DESC LIMIT 1),
    {_HERE})"""
_BEFORE_ALL = {"sqlite": "''", "postgresql": "CAST('-infinity' AS timestamptz)"}
_IS_HERE = (
    r"\(\s*SELECT f\.(price|filled_at)\s+FROM fills f\s+WHERE (?:(?!FROM).)*?"
    r"\s+ORDER BY f\.filled_at DESC, f\.id DESC\s+LIMIT 1\s*\)"
)
_IS_ANYWHERE = (
    r"coalesce\(\s*\(\s*SELECT g\.(price|filled_at)\s+FROM archived_fills g\s.*?LIMIT 1\s*\),"
    r"\s*\(\s*SELECT f\.\1\s.*?LIMIT 1\s*\)\s*\)"
)


def _accounts() -> ModuleType:
    """The migration of accounts: it reads and replaces views."""
    spec = importlib.util.spec_from_file_location("corro_0028", Path(__file__).with_name("0028_accounts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _made_anew(find: str, put: str) -> None:
    views = _accounts()
    for view in _VIEWS:
        text, count = re.subn(find, put, views._text_of(view), flags=re.DOTALL | re.IGNORECASE)
        if count != 2:
            raise ValueError(f"{view} has {count} of them: {text}")
        views._replace(view, text.replace(":", r"\:"))


def upgrade() -> None:
    _made_anew(_IS_HERE, _ANYWHERE.format(before_all=_BEFORE_ALL[op.get_bind().dialect.name]))


def downgrade() -> None:
    _made_anew(_IS_ANYWHERE, _HERE)
