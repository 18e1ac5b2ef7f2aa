"""`corro events`: the journal of all orders, in its order, and as it grows."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import DatabaseUnavailable, InvalidRequest
from producers.cli import show
from producers.cli.app import LAST_ID, Form, Json, Limit, Out, Wide, client, moment, opened, tell, whole
from producers.cli.layout import cell

if TYPE_CHECKING:
    from models.record.database import Database
    from models.record.stream import EventRow, EventStream
    from producers.client import OrderClient

COLUMNS = ("id", "at", "client_order_id", "strategy", "kind", "from_status", "to_status", "detail")
#: Events that a person sees before those that are yet to come.
_BEFORE = 20
#: Characters of an order's id, where there is no room for more.
_WHOLE = 14
#: Seconds between tries to reach a database that is away.
_PAUSE_S = 1.0


def events(
    since: Annotated[
        int | None,
        typer.Option(parser=whole(0, LAST_ID), metavar="ID", help="those behind this id; 0: from the first"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="ISO time, date, or an age: what happened before then")] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on with what happens from now on, until Ctrl-C")] = False,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List what happened to orders, by rising ids without a gap; with --json --follow one object a line.

    Without --since a terminal shows the newest, as --limit does; everything else gets all. The last id you have seen is
    where to go on. Events of archived orders are in the archives.
    """
    form = Form(json, out, wide)
    if follow:
        if out is not None:
            raise InvalidRequest("--out: a list that goes on has no end to write; leave out --follow")
        if until is not None:
            raise InvalidRequest("--until: a list that goes on has no end; leave out --follow")
        with client() as c:
            for count, event in enumerate(_endless(c, since, strategy), 1):
                _line(event, count, form)
                if count == limit or not show.is_read():
                    return
        return
    from models.history import v_events

    end, most = moment("--until", until), limit or form.limit
    with opened() as (_, database):
        if end is None:
            found = list(islice(_there(_at(database, since, strategy, most)), limit))
        else:
            before = (event for event in _there(_at(database, since, strategy, None)) if event["at"] < end)
            found = list(islice(before, limit)) if since is not None else list(deque(before, most))
    tell(found, COLUMNS, form, title="" if found else "events", table=v_events)


def _at(database: "Database", since: int | None, strategy: str | None, most: int | None) -> "EventStream":
    from models.record.stream import EventStream, must_have_been

    must_have_been(database, since or 0)
    stream = EventStream(database, since or 0, strategy)
    if since is None and most is not None:
        stream.latest(most)
    return stream


def _there(stream: "EventStream") -> Iterator["EventRow"]:
    while found := stream.look():
        yield from found


def _endless(c: "OrderClient", since: int | None, strategy: str | None) -> Iterator["EventRow"]:
    """Yield events for ever; a database that is away is waited for."""
    place, told = since, False
    while True:
        try:
            if place is None:
                place = _at(c.database, None, strategy, _BEFORE if show.out.is_terminal else None).since
            for event in c.events(place, strategy):
                told, place = False, event["id"]
                yield event
        except DatabaseUnavailable as error:
            if not told:
                show.note((f"corro: {error}; waiting for it", "yellow"))
            told = True
            time.sleep(_PAUSE_S)


def _line(event: "EventRow", count: int, form: Form) -> None:
    if form.json:
        show.line(event)
    elif show.out.is_terminal:
        show.say(*_parts(event, form.wide))
    elif count == 1:
        show.rows([event], COLUMNS)
    else:
        show.plain([event], COLUMNS)


def _parts(event: "EventRow", wide: bool) -> Sequence[show.Part]:
    """One event on one line: its id, when, whose, what, where that leads, and in which words."""
    id_, when = cell(event["client_order_id"], "client_order_id"), cell(event["at"], "at")
    whose = id_ if wide or len(id_) <= _WHOLE else f"{id_[: _WHOLE - 1]}…"
    moved = event["to_status"] if event["from_status"] != event["to_status"] else None
    leads: list[show.Part] = [" → ", show.coloured(moved)] if moved and moved != event["kind"] else []
    detail: list[show.Part] = [(f"  {event['detail']}", "dim")] if event["detail"] else []
    kind = show.coloured(event["kind"])
    return [
        f"{event['id']:>6}  ",
        (when if wide else when[11:], "dim"),
        f"  {whose:<{_WHOLE}}  ",
        kind,
        *leads,
        *detail,
    ]
