"""The command `corro dead-letters`: what was taken off the queues because no worker could read it."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Limit, Out, Wide, note_rest, tell

if TYPE_CHECKING:
    from models.settings import Settings

_COLUMNS = ("id", "at", "queue", "worker", "reason", "why", "size", "message")
#: Characters of a message in a list.
_START = 80


def dead_letters(
    limit: Limit = None,
    counts: Annotated[bool, typer.Option("--counts", help="how many there have ever been, by reason")] = False,
    one: Annotated[str | None, typer.Option("--show", metavar="ID", help="one of them whole, as far as kept")] = None,
    drop: Annotated[str | None, typer.Option("--drop", metavar="ID", help="forget one of them, or `all`")] = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List the messages that no worker could read, and why; asks the queue, not the database."""
    from models.logs import configure
    from models.settings import load_settings
    from worker.messaging.dead_letters import KEPT, DeadLetters

    form = Form(json, out, wide)
    configure("WARNING")
    with closing(DeadLetters.of(load_settings())) as letters:
        if drop is not None:
            done = {"dropped": letters.drop(None if drop == "all" else drop)}
            tell([done], list(done), form, document=done)
        elif one is not None:
            found = letters.one(one)
            if json or out is not None:
                tell([found], list(found), form, document=found)
            else:
                show.record(found)
        elif counts:
            tell([{"reason": why, "count": n} for why, n in letters.counts().items()], ("reason", "count"), form)
        else:
            most = limit or form.limit or KEPT
            listed = letters.kept(most)
            if out is None:
                listed = [{**row, "message": str(row["message"])[:_START]} for row in listed]
            tell(listed, _COLUMNS, form, title="messages set aside")
            if show.err.is_terminal and len(listed) == most:
                note_rest(most, letters.size())


def hint(settings: "Settings") -> str | None:
    """Return lines about the queue, if it says so at once: that it refuses writes, and which messages nobody takes."""
    from models.errors import QueueUnavailable
    from models.logs import configure
    from producers.bell import asking
    from worker.messaging.dead_letters import DeadLetters
    from worker.messaging.unread import refusal, unread_lists, words

    configure("WARNING")
    try:
        with asking(settings, 0.5) as client:
            kept, unread, no = DeadLetters(client).size(), unread_lists(client, settings.all_brokers), refusal(client)
    except QueueUnavailable as error:
        return f"messages set aside: not known, {error}"
    aside = f"messages set aside: {kept}; `corro dead-letters` lists them" if kept else ""
    sick = f"the queue refuses writes: {no}; orders go on at the sweep's pace, `corro check` tells more" if no else ""
    return "\n".join(filter(None, (sick, aside, words(unread)))) or None
