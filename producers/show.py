"""How the command line speaks: tables and colours for people, plain tab-separated text when piped, JSON when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.history import to_json

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_COLOURS = {
    "filled": "green", "accepted": "cyan", "partially_filled": "cyan", "queued": "white", "submitted": "yellow",
    "pending_cancel": "yellow", "canceled": "white", "rejected": "red", "denied": "red", "expired": "magenta",
    "unknown": "bold red", "refused": "red", "not_sent": "magenta", "absent": "magenta", "sending": "yellow",
    "ready": "green", "disconnected": "red", "starting": "yellow", "stopped": "white", "silent": "bold red",
}  # fmt: skip


def cell(value: Any) -> str:
    """Write one value for a person."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, Decimal):
        return str(to_json(value))
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return json.dumps(to_json(value))
    return str(value)


def document(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(to_json(value), indent=2 if sys.stdout.isatty() else None, default=str) + "\n")


def rows(found: Sequence[Mapping[str, Any]], columns: Sequence[str], *, title: str | None = None) -> None:
    """Print rows: a table on a terminal, tab-separated with a header line when piped."""
    if not out.is_terminal:
        lines = [columns, *([" ".join(cell(row.get(name)).split()) for name in columns] for row in found)]
        sys.stdout.write("".join("\t".join(line) + "\n" for line in lines))
        return
    if not found:
        out.print(f"[dim]{title or 'rows'}: none[/dim]")
        return
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("client_order_id",))
    for row in found:
        table.add_row(*(_painted(cell(row.get(name))) for name in columns))
    out.print(table)


def _painted(text: str) -> Text:
    return Text(text, style=_COLOURS.get(text, ""))
