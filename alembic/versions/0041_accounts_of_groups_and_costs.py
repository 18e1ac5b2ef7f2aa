"""which of several accounts behind a broker's login linked orders were in, and what executions cost in each

Revision: 0041, after 0038

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

The views are read from the database, and get the column at their end.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from alembic import op

revision = "0041"
down_revision = "0038"
branch_labels = None
depends_on = None

#: Each view: the table whose account it shows, and the line before which the column stands.
_VIEWS = {"v_groups": ("o", r"FROM order_groups g\b"), "v_tca": ("f", r"FROM fills f\b\s+JOIN")}


def _accounts() -> ModuleType:
    """The migration of accounts: it reads and replaces views."""
    spec = importlib.util.spec_from_file_location("corro_0028", Path(__file__).with_name("0028_accounts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _literal(text: str) -> str:
    """A colon in a view's text begins no parameter."""
    return re.sub(r"(?<!:):(?=\w)", r"\:", text)


def upgrade() -> None:
    views = _accounts()
    for name, (table, line) in _VIEWS.items():
        text = views._once(rf"(\s+)({line})", rf", {table}.account\1\2", views._text_of(name))
        views._replace(name, _literal(text))


def downgrade() -> None:
    views = _accounts()
    for name, (table, line) in _VIEWS.items():
        text = views._once(rf",\s*(?:{table}\.)?account(\s+{line})", r"\1", views._text_of(name))
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {_literal(text)}")
