"""told executions: what a broker tells of lots besides trades (an expiry, a split, a late bust) is a line of its own

Revision: 0043, after 0042

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

Such a line has an id below all others, so it is never among the executions that came since balances were kept: who
writes one says in `position_changes` whose lots are to be reckoned anew.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

_VIEW = "position_executions"
_SHOWN = """broker, account, strategy, symbol, shares AS quantity, price, currency, multiplier, source, kind, event_id,
       reason, filled_at, recorded_at"""
#: Above all ids that there will be.
_FAR = 1_000_000_000_000
_ARCHIVED = r"(FROM archived_fills f)\b"
_REPLACED = r"\1 WHERE NOT EXISTS (SELECT 1 FROM told_executions r WHERE r.replaces = f.id)"
_IS_REPLACED = (
    r"(FROM archived_fills f)\s+WHERE NOT \(?\s*EXISTS \(\s*SELECT 1\s+FROM told_executions r\s+WHERE [^)]*\)+"
)
_IS_TOLD = r"\s+UNION ALL\s+SELECT (?:(?!UNION ALL).)*FROM told_executions t\s+WHERE .*\Z"


def _revision(name: str) -> ModuleType:
    """Return an earlier migration, for the words of its views."""
    spec = importlib.util.spec_from_file_location(f"corro_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _told() -> str:
    day = _revision("0013_balances")._day("t.filled_at", "t.symbol")
    return f"""SELECT t.source, t.id - {_FAR} AS id, t.broker, CAST(coalesce(t.account, '') AS TEXT) AS account,
       coalesce(t.strategy, '') AS strategy, t.symbol, t.currency, t.shares, t.price, t.multiplier, t.fee,
       coalesce(t.fee_currency, t.currency) AS fee_currency, t.filled_at, {day} AS day
FROM told_executions t WHERE t.shares <> 0"""


def upgrade() -> None:
    def money(name: str, *, nullable: bool = True) -> sa.Column[object]:
        return sa.Column(name, sa.Numeric(), nullable=nullable)

    def text(name: str, length: int, *, nullable: bool = True) -> sa.Column[str]:
        return sa.Column(name, sa.String(length=length), nullable=nullable)

    def at(name: str) -> sa.Column[object]:
        return sa.Column(name, sa.DateTime(timezone=True), nullable=False)

    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "told_executions",
        sa.Column("id", number, autoincrement=True, nullable=False),
        text("source", 16, nullable=False), text("broker", 32, nullable=False), text("account", 32),
        text("strategy", 128), text("symbol", 64, nullable=False), text("currency", 8, nullable=False),
        money("shares", nullable=False), money("price"), money("average_price"), money("multiplier", nullable=False),
        money("fee"), text("fee_currency", 8), at("filled_at"), text("kind", 16, nullable=False),
        text("event_id", 128, nullable=False), sa.Column("replaces", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False), money("moved", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True), at("recorded_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_told_executions")),
        sa.UniqueConstraint("replaces", name=op.f("uq_told_executions_replaces")),
    )  # fmt: skip
    op.create_index("ix_told_executions_broker_symbol", "told_executions", ["broker", "symbol"])
    views = _revision("0028_accounts")
    text_ = re.sub(_ARCHIVED, _REPLACED, views._text_of(_VIEW), flags=re.IGNORECASE)
    views._replace(_VIEW, f"{text_} UNION ALL {_told()}".replace(":", r"\:"))
    op.execute(f"CREATE VIEW v_told_executions AS SELECT {_SHOWN} FROM told_executions")


def downgrade() -> None:
    op.execute("DROP VIEW v_told_executions")
    views = _revision("0028_accounts")
    text = re.sub(_IS_TOLD, "", views._text_of(_VIEW), flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(_IS_REPLACED, r"\1", text, flags=re.DOTALL | re.IGNORECASE)
    if "told_executions" in text:
        raise ValueError(f"{_VIEW} still has them: {text}")
    op.execute(
        "INSERT INTO position_changes (source, broker, strategy, symbol) "
        "SELECT DISTINCT source, broker, coalesce(strategy, ''), symbol FROM told_executions"
    )
    views._replace(_VIEW, text.replace(":", r"\:"))
    op.drop_index("ix_told_executions_broker_symbol", "told_executions")
    op.drop_table("told_executions")
