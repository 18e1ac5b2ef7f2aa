"""Strange words in every text of every table at once: no command prints a control character, and none dies of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Column, Date, Table, insert
from sqlalchemy.types import Float, Integer
from typer.main import get_command

from models.record.columns import Money, UtcTime
from models.record.database import Database
from models.record.tables import metadata
from producers.cli.exports import WHAT
from tests.unit.test_show import terminal
from tests.unit.words import Run
from worker.cli import main

__all__ = ["terminal"]
NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
#: Rich's: the cursor hidden and shown, up a line, a line cleared.
PROGRESS = re.compile(r"\x1b\[(\?25[lh]|1A|2K)|\r")
WORDS = "\x1b[31m[/red]\x07\x9b1m\u202e=1+1 \r\nx"
#: Columns whose words are ours, with one that makes sense.
OURS: dict[str, Any] = {
    "client_order_id": "o-1", "group_id": "g-1", "side": "buy", "order_type": "limit", "time_in_force": "day",
    "outcome": "unknown", "broker": "ibkr", "route": ["ibkr"], "scope_kind": "*", "scope": "*", "key_id": "k-1",
    "alg": "ed25519", "may_cancel": "own", "asset_class": "us_equity", "source": "ours", "leg": None, "legs": None,
    "group_kind": "bracket", "attempt_no": 1, "version": 2, "public_key": None, "secret_ref": None, "digest": "0" * 64,
    "wishes": None, "replace_request": None, "terms": None, "reserved": None, "baseline": None, "left": None,
    "labels": "[]", "account": None, "right": "C", "session": None, "held_for": None, "body_hash": "0" * 64,
    "pending": [], "currency": "USD", "commission_currency": "USD", "fee_currency": "USD", "multiplier": None,
    "evidence": {"query": WORDS, "times": 1, "answers": {"error": {"times": 1, "at": WORDS, "words": WORDS}}},
    "detail": WORDS, "request": {"symbol": "KO"}, "preview": None, "name": None, "voided_at": None,
}  # fmt: skip
#: Where a word depends on the table.
IN: dict[str, dict[str, Any]] = {
    "orders": {"status": "submitted", "symbol": "KO", "reason_code": "order_value"},
    "order_groups": {"kind": "bracket", "status": "broken"},
    "fetches": {"kind": "quote", "status": "failed"},
    "controls": {"state": "halted"}, "halts": {"kind": "halt"}, "workers": {"state": "disconnected"},
    "control_events": {"kind": "halt"}, "cash_events": {"kind": "dividend"}, "position_events": {"kind": "locked"},
    "incidents": {"kind": "locked"}, "notifications": {"kind": "locked"},
    "risk_limits": {"name": "max_value", "value": "1"},
    "archived_orders": {"client_order_id": "a-1", "status": "filled"}, "journal_chain": {"journal": "order_events"},
    "external_orders": {"status": "accepted"}, "bars": {"timeframe": "1Day"}, "risk_tallies": {"day": "2026-01-05"},
    "order_events": {"kind": "unknown", "from_status": "submitted", "to_status": "submitted"},
}  # fmt: skip
SKIPPED = frozenset({"deployment", "leases", "tallies", "journal_chain", "position_progress", "position_ledgers"})


def value_of(table: Table, column: Column[Any]) -> Any:
    """Return what stands in a column: strange words where anybody else could have put words."""
    if column.name in (named := IN.get(table.name, {})):
        return named[column.name]
    if column.name == "detail" and isinstance(column.type, JSON):
        return {"conId": WORDS}
    if column.name in OURS and (OURS[column.name] is not None or column.nullable):
        return OURS[column.name]
    kinds: tuple[tuple[Any, Any], ...] = (
        (UtcTime, NOW), (Money, Decimal("1.5")), (Date, NOW.date()), (Boolean, False), (Float, 1.0), (Integer, 1),
        (JSON, [WORDS]),
    )  # fmt: skip
    for kind, value in kinds:
        if isinstance(column.type, kind):
            return value
    longest = getattr(column.type, "length", None) or getattr(column.type, "longest", None)
    return WORDS[:longest]


@pytest.fixture
def filled(database: Database) -> Database:
    """A database with one row in every table."""
    with database.write() as connection:
        for table in metadata.sorted_tables:
            if table.name not in SKIPPED:
                row = {c.name: value_of(table, c) for c in table.c if not (c.primary_key and c.autoincrement is True)}
                connection.execute(insert(table).values(**row))
    return database


_BY = ("--by", "a\x1bb", "--reason", "\x1b[2Jr")
_SOON = ("--timeout", "0.05")
#: What is typed at a terminal; what nobody answers waits no longer than it has to.
SHOWN: tuple[tuple[str, ...], ...] = (
    ("orders",), ("order", "o-1"), ("attempts",), ("events",), ("fills",), ("groups",), ("unresolved",), ("external",),
    ("equity",), ("cash",), ("cash", "--kind", "\x1b"), ("equity", "--account", "\x1b"),
    ("positions", "--at", "2026-01-05"), ("pnl",), ("tca",), ("limits",), ("controls",), ("controls", "--log"),
    ("locks",), ("locks", "--log"), ("keys", "list"), ("fleet",), ("fleet", "--check"), ("logs", "o-1"),
    ("dead-letters",), ("db", "check"), ("db", "verify"), ("db", "upgrade"), ("db", "copy", "\x1b", "x"),
    ("import", "flex", "\x1b[2J"), ("instruments", "\x1bKO"), ("completion", "\x1b"), ("notify", "test"),
    ("submit", "\x1bKO", "buy", "1"), ("submit", "KO", "buy", "\x1b1"), ("submit", "KO", "buy", "1", "--id", "\x1b"),
    ("bracket", "KO", "buy", "1", "--id", "\x1b"), ("oco", "KO", "sell", "1", "--id", "\x1b"),
    ("replace", "\x1b", "--limit", "5"), ("replace", "o-1", "--limit", "5"), ("cancel", "\x1b"), ("cancel", "o-1"),
    ("preview", "KO", "buy", "1", *_SOON), ("quote", "\x1b", *_SOON), ("bars", "[/red]\x1b", "1Day", *_SOON),
    ("account", "\x1b"), ("close", "KO", "--broker", "\x1b"),
    ("approve", "o-1", *_BY), ("deny", "\x1b", "--by", "a", "--reason", "\x1br"), ("settle", "g-1", *_BY),
    ("resolve", "o-1", "--adopt", "\x1b1", "--by", "a"), ("unlock", "ibkr", "\x1bKO", "--by", "a", "--reason", "\x1b"),
    ("limits", "set", "max_\x1b", "1", "--by", "a", "--reason", "r"),
    ("limits", "set", "max_value", "1", "--by", "a", "--reason", "r\x1b"),
    ("limits", "clear", "max_value", "--by", "a", "--reason", "r\x1b[2J"),
    ("halt", "--broker", "x\x1b", "--by", "me", "--reason", "r"), ("reduce", "--symbol", "\x1b", *_BY),
    ("kill", "--strategy", "\x1b", *_BY), ("drain", "\x1b", "--by", "a"),
    ("resume", "\x1b", "--by", "a", "--reason", "b"),
    ("keys", "revoke", "\x1b", "--by", "a", "--reason", "b"), ("keys", "add", "\x1b", "--by", "a", "--reason", "x"),
    ("archive", "--before", "\x1b", "--to", "\x1b"), ("traces", "--since", "\x1b"),
    *(("sandbox", *given) for given in (
        ("faults",), ("ledger",), ("fault", "\x1b", "x"), ("clear", "\x1b"), ("price", "\x1b", "1"),
        ("position", "\x1b", "KO", "1"),
    )),
)  # fmt: skip
#: What is piped, or goes into a file.
WRITTEN = (
    *(("export", what, "--out", "-") for what in WHAT), ("orders", "--wide"), ("unresolved", "--json"),
    ("report", "--out", "report.html"),
)  # fmt: skip
#: What prints no rows: servers, what runs a fleet of its own, what draws a picture that moves, and asks live doors.
ELSEWHERE = {"up", "worker", "web", "mcp", "demo", "watch", "check"}


def commands(command: Any, *path: str) -> Iterator[str]:
    """Yield the words of every command there is."""
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield " ".join(path)
    for name, one in below.items():
        yield from commands(one, *path, name)


def test_every_command_is_tried_with_strange_words() -> None:
    there = set(commands(get_command(main.app)))
    tried = {name for name in there for given in (*SHOWN, *WRITTEN) if [*given][: len(name.split())] == name.split()}
    assert there - tried == ELSEWHERE


def test_no_command_prints_a_control_character_whatever_stands_in_any_table(
    corro: Run, terminal: Callable[[int], None], filled: Database, bare: Path
) -> None:
    for commands_, width in ((WRITTEN, 0), (SHOWN, 80)):
        if width:
            terminal(width)
        for arguments in commands_:
            status, out, err = corro(*arguments)
            assert "Traceback" not in err, (arguments, err)
            assert status in (0, 1, 2, 3), (arguments, err)
            # What is drawn while somebody waits begins and ends with signs of its own.
            for line in PROGRESS.sub("", out + err).splitlines():
                assert line.replace("\t", "").isprintable(), (arguments, line)
    report = (bare / "report.html").read_text()
    assert "[31m[/red]" in report
    assert not [line for line in report.splitlines() if not line.replace("\t", "").isprintable()]
