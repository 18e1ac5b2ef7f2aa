"""`corro traces`: one OpenTelemetry trace an order, sent to a collector once the order has ended."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from models.errors import CollectorUnavailable, DatabaseUnavailable, InvalidRequest
from models.extras import must_have
from producers.cli import show
from producers.cli.app import LAST_ID, Json, opened, whole

if TYPE_CHECKING:
    from models.record.database import Database
    from models.record.stream import EventRow, EventStream
    from worker.tracing.sending import TraceSender

T = TypeVar("T")

#: What the extra brings.
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
#: Seconds between two looks for orders that have ended, and between tries.
_PAUSE_S = 1.0


def traces(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="the collector; else OTEL_EXPORTER_OTLP_ENDPOINT, or this host")
    ] = "",
    since: Annotated[
        int | None,
        typer.Option(
            parser=whole(0, LAST_ID), metavar="ID", help="orders that ended behind this event; 0: from the first"
        ),
    ] = None,
    place: Annotated[
        Path | None, typer.Option(metavar="FILE", help="keeps the last event's id, and goes on there the next time")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on with what ends from now on, until Ctrl-C")] = False,
    json: Json = False,
) -> None:
    """Send a trace of each order that has ended to a collector of OpenTelemetry (OTLP over HTTP).

    Without --since and --place: with --follow orders that end from now on, else all.
    """
    must_have("corro traces", "traces", *_NEEDED)
    _must_be_an_address(to)
    from models.logs import configure
    from models.record.stream import EventStream, must_have_been
    from worker.tracing.sending import TraceSender

    configure("CRITICAL")  # the collector's troubles are told here, in one line
    with opened() as (_, database):
        begin = _kept(place) if since is None else since
        must_have_been(database, begin or 0)
        stream = EventStream(database, begin or 0)
        if begin is None and follow:
            stream.latest(0)
            if place:
                _keep(place, stream.since)  # stopped before anything ends, it begins here the next time, and not later
        sender = TraceSender(to)
        try:
            orders, spans = _send_all(database, stream, sender, place, follow)
        finally:
            sender.close()
    if json:
        show.document({"orders": orders, "spans": spans, "last_event": stream.since})
    else:
        show.say(f"{orders} orders, {spans} spans; the last event was {stream.since}")


def _send_all(
    database: "Database", stream: "EventStream", sender: "TraceSender", place: Path | None, follow: bool
) -> tuple[int, int]:
    """Send what has ended, look by look; nothing is passed over: a place moves on once the collector has it."""
    from models.history import History

    history, orders, spans = History(database), 0, 0
    while True:
        found = _patient(stream.look, follow)
        if ids := _ended(found):
            spans += _patient(lambda ids=ids: sender.send(history, ids), follow)  # type: ignore[misc]
            orders += len(ids)
        if found and place:
            _keep(place, stream.since)
        if not found:
            if not follow:
                return orders, spans
            time.sleep(_PAUSE_S)


def _ended(found: "list[EventRow]") -> list[str]:
    from models.vocabulary import TERMINAL

    moved = (row for row in found if row["to_status"] != row["from_status"])
    return list(dict.fromkeys(row["client_order_id"] for row in moved if row["to_status"] in TERMINAL))


def _patient(work: Callable[[], T], follow: bool) -> T:
    """Do it; one that follows waits for whoever is away, and says so once."""
    told = False
    while True:
        try:
            return work()
        except (DatabaseUnavailable, CollectorUnavailable) as error:
            if not follow:
                raise
            if not told:
                show.note((f"corro: {error}; waiting", "yellow"))
            told = True
            time.sleep(_PAUSE_S)


def _kept(place: Path | None) -> int | None:
    if place is None or not place.exists():
        return None
    text = place.read_text().strip()
    if not text.isdecimal():
        raise InvalidRequest(f"--place: {place} has to hold the id of an event, holds {text[:40]!r}")
    return int(text)


def _keep(place: Path, id_: int) -> None:
    new = place.with_name(f"{place.name}.new")
    new.write_text(f"{id_}\n")
    new.replace(place)


def _must_be_an_address(to: str) -> None:
    if to and (urlsplit(to).scheme not in ("http", "https") or not urlsplit(to).hostname):
        raise InvalidRequest(f"--to: must be an address such as http://127.0.0.1:4318, was {to!r}")
