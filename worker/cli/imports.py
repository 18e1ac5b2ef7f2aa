"""`corro import`: what a broker tells by file alone."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import InvalidRequest
from producers.cli import show
from producers.cli.app import Json, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.record.database import Connection
    from models.reports import CashEventReport
    from models.settings import Settings

#: Events that are recorded in one transaction.
_AT_ONCE = 200


def flex(
    file: Annotated[Path, typer.Argument(help="a Flex statement, exported as XML")],
    broker: Annotated[str | None, typer.Option(help="whose; default: the only one of the adapter ibkr")] = None,
    json: Json = False,
) -> None:
    """Record the dividends, interest, fees, transfers and corporate actions of an Interactive Brokers statement.

    The same statement, or one that overlaps, may be imported again: each event is recorded once.
    """
    from worker.brokers.ibkr.flex import read_flex

    if not file.is_file():
        raise InvalidRequest(f"there is no file {file}")
    with opened() as (settings, database):
        name = _broker(settings, broker)
        try:
            events, odd = read_flex(file)
        except OSError as error:
            raise InvalidRequest(f"{file}: {error.strerror or error}") from None
        parts = [events[at : at + _AT_ONCE] for at in range(0, len(events), _AT_ONCE)]
        new = sum(database.transact(partial(_book, name, some)) for some in parts)
    for words in odd:
        show.note(f"corro: not read: {words}")
    if json:
        show.document({"broker": name, "events": len(events), "new": new, "unreadable": odd})
    else:
        show.say(f"{name}: {len(events):,} events read, {new:,} of them new; `corro export cash --out FILE` has them")
    raise typer.Exit(1 if odd else 0)


def _book(name: str, some: "Sequence[CashEventReport]", connection: "Connection") -> int:
    from models.record.cash import book

    return book(connection, name, some)


def _broker(settings: "Settings", given: str | None) -> str:
    """Return the broker whose statement it is.

    Raises:
        InvalidRequest: no such broker, or several of the kind.
    """
    found = [name for name, table in settings.all_brokers.items() if table.adapter == "ibkr"]
    if given is not None and given not in settings.all_brokers:
        raise InvalidRequest(f"--broker: there is no broker {given!r}, there are {', '.join(settings.all_brokers)}")
    if given is None and len(found) != 1:
        raise InvalidRequest(f"--broker: which one? Of the adapter ibkr are {', '.join(found) or 'none'}")
    return given or found[0]
