"""accounts: which of several accounts behind a broker's login an order, a try, an execution is of

Revision: 0028, after 0027

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

Views that only show the new column are read from the database and get it at their end, whatever else they show by now.
Where positions are kept, `broker` is a destination, `ibkr:ira`; so the views that join them with executions make it.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_TABLES = ("orders", "attempts", "fills", "external_orders", "external_fills", "archived_fills")
#: What shows it: the column, and where the tables of the view begin.
_SHOWN = {
    "v_orders": ("o.account", r"FROM orders o\b"),
    "v_attempts": ("a.account", r"FROM \(?attempts a\b"),
    "v_fills": ("f.account", r"FROM \(?fills f\b"),
    "v_external_orders": ("account", r"FROM external_orders\b"),
    "v_external_fills": ("f.account", r"FROM external_fills f\b"),
}
_JOINED = ("v_pnl", "v_positions")
_NONE, _ACCOUNT = r"''(::text)? AS account", "CAST(coalesce(f.account, '') AS TEXT) AS account"
_GROWN = (
    r"(CAST\(coalesce\(f\.account, ''\) AS TEXT\)|COALESCE\((f\.)?account, ''::character varying\)::text)"
    r" AS account"
)


def _is_sqlite() -> bool:
    return bool(op.get_bind().dialect.name == "sqlite")


def _text_of(view: str) -> str:
    """The SELECT of a view as the database has it."""
    if _is_sqlite():
        text = op.get_bind().execute(sa.text("SELECT sql FROM sqlite_master WHERE name = :n"), {"n": view}).scalar_one()
        return str(re.sub(rf"\A\s*CREATE VIEW {view} AS\s", "", text))
    return str(op.get_bind().execute(sa.text(f"SELECT pg_get_viewdef('{view}'::regclass, true)")).scalar_one()).rstrip(
        "; \n"
    )


def _once(pattern: str, new: str, text: str) -> str:
    found, count = re.subn(pattern, new, text)
    if count != 1:
        raise ValueError(f"{pattern} stands {count} times in {text}")
    return found


def _replace(view: str, text: str) -> None:
    """Make a view anew; where its columns stay, or grow at the end, PostgreSQL keeps who may read it."""
    if _is_sqlite():
        op.execute(f"DROP VIEW {view}")
    op.execute(f"CREATE{'' if _is_sqlite() else ' OR REPLACE'} VIEW {view} AS {text}")


def _with_archived(executions: str) -> str:
    """See that executions of archived orders are among all: 0022, in its first wording, made the view without them."""
    if "archived_fills" in executions:
        return executions
    archive = _revision("0021_archive")
    return f"{executions} UNION ALL {archive._archived(archive._balances())}"


def _place(of: str) -> str:
    return f"({of}.broker || CASE WHEN {of}.account <> '' THEN ':' || {of}.account ELSE '' END)"


def _parts(place: str) -> str:
    """Broker and account of a destination."""
    if not _is_sqlite():
        return f"split_part({place}, ':', 1), NULLIF(split_part({place}, ':', 2), '')"
    end = f"instr({place} || ':', ':')"
    return f"substr({place}, 1, {end} - 1), NULLIF(substr({place}, {end} + 1), '')"


def _revision(name: str) -> ModuleType:
    """Return an earlier migration, for the words of its views."""
    spec = importlib.util.spec_from_file_location(f"corro_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _positions(*, placed: bool) -> None:
    """Make the views anew that join executions with positions; `placed`: by destination."""
    texts: dict[str, str] = _revision("0013_balances")._views()
    for name in _JOINED:
        text = texts[name]
        if placed:
            text = _once(r"ON s\.broker = n\.broker AND", f"ON s.broker = {_place('n')} AND", text)
        if placed and name == "v_positions":
            text = text.replace("WHERE e.broker = l.broker", f"WHERE {_place('e')} = l.broker")
            text = text.replace("SELECT e.broker, e.symbol", f"SELECT {_place('e')}, e.symbol")
            text = _once(r"ON n\.broker = l\.broker", f"ON {_place('n')} = l.broker", text)
            text = _once(r"SELECT n\.broker, n\.symbol", f"SELECT {_place('n')}, n.symbol", text)
            text = _once("SELECT broker, NULL, '\\(baseline\\)'", f"SELECT {_parts('broker')}, '(baseline)'", text)
        op.execute(f"CREATE VIEW {name} AS {text}")


def _drop() -> None:
    """Drop the views that join executions with positions: SQLite reads them again with every column that goes."""
    for name in _JOINED:
        op.execute(f"DROP VIEW {name}")


def upgrade() -> None:
    _drop()
    for table in _TABLES:
        op.add_column(table, sa.Column("account", sa.String(length=32), nullable=True))
    for view, (column, tables) in _SHOWN.items():
        _replace(view, _once(rf"(\s+)({tables})", rf", {column}\1\2", _text_of(view)))
    _replace("position_executions", re.sub(_NONE, _ACCOUNT, _with_archived(_text_of("position_executions"))))
    _positions(placed=True)


def downgrade() -> None:
    _drop()
    _replace("position_executions", re.sub(_GROWN, "'' AS account", _text_of("position_executions")))
    for view, (column, tables) in _SHOWN.items():
        text = _once(rf",\s*([a-z]\.)?{column.split('.')[-1]}(\s+{tables})", r"\2", _text_of(view))
        op.execute(f"DROP VIEW {view}")
        op.execute(f"CREATE VIEW {view} AS {text}")
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} DROP COLUMN account")
    _positions(placed=False)
