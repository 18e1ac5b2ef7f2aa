"""quick positions: executions since balances were kept are found by their ids again; loose ends have an index

Revision: 0048, after 0045

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

Either database looks into the parts of a UNION ALL only where a column is of one type in all of them (SQLite: of one
affinity). 0043 added a part whose types were others, and each question about positions read all executions that there
ever were, with their orders.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0045"
branch_labels = None
depends_on = None

_EXECUTIONS, _POSITIONS = "position_executions", "v_positions"
#: A column, and a call that has its type in the other parts: no affinity but for the id's.
_TYPED = (
    ("t.source", "coalesce(CAST(t.source AS TEXT), '') AS source"),
    ("t.id - 1000000000000 AS id", "CAST(t.id - 1000000000000 AS BIGINT) AS id"),
    ("t.currency", "coalesce(t.currency, 'USD') AS currency"),
    ("t.shares", "coalesce(t.shares, 0) AS shares"),
    ("t.multiplier", "coalesce(t.multiplier, 1) AS multiplier"),
)
#: SQLite's planner begins with the executions, not with the few ledgers that say from which id on.
_SINCE = r"AND e\.id > l\.(fills_id|external_fills_id)\b"
_FROM = r" AND e\.id > \(SELECT min\(\w+\) FROM position_ledgers\)"


def _revision(name: str) -> ModuleType:
    """Return an earlier migration, for the words of its views."""
    spec = importlib.util.spec_from_file_location(f"corro_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_sqlite() -> bool:
    return bool(op.get_bind().dialect.name == "sqlite")


def _told(*, typed: bool) -> str:
    """The part of the executions that are no trades."""
    text = str(_revision("0043_told_executions")._told())
    for plain, better in _TYPED if typed else ():
        if text.count(f"{plain},") != 1:
            raise ValueError(f"{plain} does not stand once in {text}")
        text = text.replace(f"{plain},", f"{better},")
    return text


def _make(*, typed: bool) -> None:
    views, before = _revision("0028_accounts"), _revision("0043_told_executions")
    rest, count = re.subn(before._IS_TOLD, "", views._text_of(_EXECUTIONS), flags=re.DOTALL | re.IGNORECASE)
    if count != 1:
        raise ValueError(f"{_EXECUTIONS} has {count} parts of told executions: {rest}")
    views._replace(_EXECUTIONS, f"{rest} UNION ALL {_told(typed=typed)}".replace(":", r"\:"))
    if _is_sqlite():
        find, put = (_SINCE, r"\g<0> AND e.id > (SELECT min(\1) FROM position_ledgers)") if typed else (_FROM, "")
        text, count = re.subn(find, put, views._text_of(_POSITIONS))
        if count != 2:
            raise ValueError(f"{_POSITIONS} has {count} places: {text}")
        views._replace(_POSITIONS, text.replace(":", r"\:"))


def upgrade() -> None:
    _make(typed=True)
    is_lost = sa.text("missing >= 3")
    op.create_index("ix_attempts_lost", "attempts", ["broker"], sqlite_where=is_lost, postgresql_where=is_lost)


def downgrade() -> None:
    op.drop_index("ix_attempts_lost", "attempts")
    _make(typed=False)
