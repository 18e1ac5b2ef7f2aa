"""complete bars: whether the interval of a bar was over when its broker was asked for it

Revision: 0045, after 0043

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

A worker of the previous version writes null: nobody knows it of such bars, nor of those that are there already. What is
told of a stretch of time (`interval_vwap`) is made of complete bars alone.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0043"
branch_labels = None
depends_on = None

_VIEW = "v_tca"
_ALL = r"FROM bars b\b"
_COMPLETE = "FROM (SELECT * FROM bars WHERE complete) b"
_IS_COMPLETE = r"FROM \(\s*SELECT (?:(?!SELECT).)*?FROM bars\s+WHERE (?:bars\.)?complete\) b\b"


def _views() -> ModuleType:
    """The migration of accounts: it reads and replaces views."""
    spec = importlib.util.spec_from_file_location("corro_0028", Path(__file__).with_name("0028_accounts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of(find: str, put: str) -> None:
    views = _views()
    text, count = re.subn(find, put, views._text_of(_VIEW), flags=re.DOTALL | re.IGNORECASE)
    if not count:
        raise ValueError(f"{_VIEW} has no {find}: {text}")
    views._replace(_VIEW, text.replace(":", r"\:"))


def upgrade() -> None:
    op.add_column("bars", sa.Column("complete", sa.Boolean(), nullable=True))
    _of(_ALL, _COMPLETE)


def downgrade() -> None:
    _of(_IS_COMPLETE, "FROM bars b")
    op.execute("ALTER TABLE bars DROP COLUMN complete")
