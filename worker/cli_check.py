"""The command `corro check`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from models.errors import ConfigurationError
from models.logs import configure
from producers import show
from producers.cli_base import Json

if TYPE_CHECKING:
    from worker.checks.steps import Finding

_COLUMNS = ("broker", "check", "state", "words", "advice")
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(check)


def check(
    broker: Annotated[str | None, typer.Argument(help="a configured broker; default: all")] = None,
    timeout: Annotated[float, typer.Option(min=0.5, help="seconds for each broker")] = 15.0,
    json: Json = False,
) -> None:
    """Look whether everything works, and say what to change if not; orders nothing, disturbs no worker."""
    from models.settings import load_settings
    from worker.checks import exit_status, run, unreadable

    configure("CRITICAL")  # what went wrong is in the findings
    try:
        settings = load_settings()
    except ConfigurationError as error:
        found = unreadable(error)
    else:
        configure("DEBUG" if settings.log_level.upper() == "DEBUG" else "CRITICAL")
        names = None if broker is None else [broker]
        with show.err.status("looking ...") if show.err.is_terminal else contextlib.nullcontext():
            found = run(settings, names, timeout)
    rows = [asdict(finding) for finding in found]
    if json:
        show.document(rows)
    elif show.out.is_terminal:
        _table(found)
    else:
        show.rows(rows, _COLUMNS)
    raise typer.Exit(exit_status(found))


def _table(found: Sequence[Finding]) -> None:
    """Print a table for a person: advice stands under what it is about."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in _COLUMNS[:-1]:
        table.add_column(name, overflow="fold", no_wrap=name != "words")
    before: str | None = ""
    for finding in found:
        words = Text(finding.words, style="bold red" if "REAL MONEY" in finding.words else "")
        if finding.advice:
            words.append(f"\n> {finding.advice}", style="cyan")
        if finding.broker != before:
            table.add_section()
        name = finding.broker or "" if finding.broker != before else ""
        before = finding.broker
        table.add_row(
            Text(name, style="bold"), finding.check, Text(finding.state, style=_COLOURS[finding.state]), words
        )
    show.out.print(table, soft_wrap=False)
