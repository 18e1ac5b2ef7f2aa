"""The command `corro dead-letters`: what was taken off the queues because no worker could read it."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from models.errors import QueueUnavailable
from models.logs import configure
from models.settings import Settings, load_settings
from producers import show
from producers.cli_base import Json
from worker.dead_letters import DeadLetters

_COLUMNS = ("id", "at", "queue", "worker", "reason", "why", "size", "message")
#: Characters of a message in a list.
_START = 80


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("dead-letters")(dead_letters)


def dead_letters(
    limit: Annotated[int, typer.Option(min=1, help="at most so many, newest first")] = 50,
    counts: Annotated[bool, typer.Option("--counts", help="how many there have ever been, by reason")] = False,
    one: Annotated[str | None, typer.Option("--show", metavar="ID", help="one of them whole, as far as kept")] = None,
    drop: Annotated[str | None, typer.Option("--drop", metavar="ID", help="forget one of them, or `all`")] = None,
    json: Json = False,
) -> None:
    """List the messages that no worker could read, and why; asks the queue, not the database."""
    configure("WARNING")
    with closing(DeadLetters.of(load_settings())) as letters:
        if drop is not None:
            done = {"dropped": letters.drop(None if drop == "all" else drop)}
            show.document(done) if json else show.rows([done], list(done))
        elif one is not None:
            found = letters.one(one)
            pairs = [{"field": name, "value": _harmless(value)} for name, value in found.items()]
            show.document(found) if json else show.rows(pairs, ("field", "value"))
        elif counts:
            tally = [{"reason": reason, "count": count} for reason, count in letters.counts().items()]
            show.document(tally) if json else show.rows(tally, ("reason", "count"))
        else:
            listed = [{**row, "message": str(row["message"])[:_START]} for row in letters.kept(limit)]
            rows = [{name: _harmless(value) for name, value in row.items()} for row in listed]
            show.document(listed) if json else show.rows(rows, _COLUMNS, title="messages set aside")


def _harmless(value: object) -> object:
    """Write out what would steer a terminal: anybody may have written it."""
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def hint(settings: Settings) -> str | None:
    """Return a line about messages set aside, if there are some and the queue says so at once."""
    try:
        with closing(DeadLetters.of(settings, answer_s=0.5)) as letters:
            kept = letters.size()
    except QueueUnavailable as error:
        return f"messages set aside: not known, {error}"
    return f"messages set aside: {kept}; `corro dead-letters` lists them" if kept else None
