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

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

_VIEWS = ("v_pnl", "v_positions")
_NEWEST = "ORDER BY f.filled_at DESC, f.id DESC LIMIT 1"
_SAME = "f.symbol = n.symbol AND f.price IS NOT NULL"
_HERE = rf"(SELECT f.\1 FROM fills f WHERE {_SAME} AND f.voided_at IS NULL {_NEWEST})"
_OF = "SELECT f.id, f.price, f.filled_at FROM"
#: The newest of each table, by its index, and of the two the newer.
_ANYWHERE = rf"""(SELECT f.\1 FROM (
    SELECT here.* FROM ({_OF} fills f WHERE {_SAME} AND f.voided_at IS NULL {_NEWEST}) here
    UNION ALL
    SELECT gone.* FROM ({_OF} archived_fills f WHERE {_SAME} {_NEWEST}) gone) f
    {_NEWEST})"""
_LAST = r"\s+ORDER BY f\.filled_at DESC, f\.id DESC\s+LIMIT 1\s*\)"
_IS_HERE = rf"\(\s*SELECT f\.(price|filled_at)\s+FROM fills f\s+WHERE (?:(?!FROM).)*?{_LAST}"
_IS_ANYWHERE = rf"\(\s*SELECT f\.(price|filled_at)\s+FROM \(\s*SELECT here\..*?\)? gone\) f{_LAST}"


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
        text, count = re.subn(find, put, views._text_of(view), flags=re.DOTALL)
        if count != 2:
            raise ValueError(f"{view} has {count} of them: {text}")
        views._replace(view, text.replace(":", r"\:"))


def upgrade() -> None:
    _made_anew(_IS_HERE, _ANYWHERE)


def downgrade() -> None:
    _made_anew(_IS_ANYWHERE, _HERE)
