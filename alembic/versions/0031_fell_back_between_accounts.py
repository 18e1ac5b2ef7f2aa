"""fell_back between accounts: an order that went from one account to another of the same login has fallen back

Revision: 0031, after 0030

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

`brokers_tried` goes on counting brokers. The view is read from the database, and changed in this one place.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_REST = r"((?: AS count)?\s+FROM attempts a\s+WHERE [^()]*\)+ > 1 AS fell_back)"
_BROKERS = r"count\(DISTINCT a\.broker\)"
_ANY = r"count\(DISTINCT (?:(?!count\(DISTINCT).)*?\)"
_PLACES = r"count(DISTINCT a.broker || '\:' || coalesce(a.account, ''))\1"


def _accounts() -> ModuleType:
    """The migration of accounts: it reads and replaces views."""
    spec = importlib.util.spec_from_file_location("corro_0028", Path(__file__).with_name("0028_accounts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _change(counted: str, new: str) -> None:
    views = _accounts()
    text, count = re.subn(counted + _REST, new, views._text_of("v_orders"), flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"fell_back stands {count} times in {text}")
    views._replace("v_orders", text)


def upgrade() -> None:
    _change(_BROKERS, _PLACES)


def downgrade() -> None:
    _change(_ANY, r"count(DISTINCT a.broker)\1")
