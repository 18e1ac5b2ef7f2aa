"""What all commands share: the app, the common options, a client or the history to work with, lists, and errors.

Commands are functions; `worker.cli.commands` gives them their names. Their modules have no
`from __future__ import annotations`: typer would compile each annotation of each command again at every start.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.decimals import exact
from models.destinations import BETWEEN, broker_of, joined, names_account, split
from models.errors import InvalidOrder, InvalidRequest, NotFound, OutputLost
from producers.cli import show

if TYPE_CHECKING:
    from sqlalchemy import Table

    from models.history import History
    from models.record.database import Database
    from models.settings import Settings
    from producers.client import OrderClient

app = typer.Typer(
    name="corro",
    help="Execute orders over several brokers: never twice, never lost, never a guess told as a fact.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Rows of a list at a terminal, where nobody has said how many.
TERMINAL_ROWS = 50
#: No number of rows needs more digits.
_MOST = 2**31 - 1
#: No event has a larger id.
LAST_ID = 2**63 - 1
_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)


# -- OPTIONS ---
def seconds(text: str) -> float:
    """Read a number of seconds."""
    try:
        number = exact(text)
    except ValueError:
        number = exact(-1)
    if not 0 <= number <= 10_000_000:
        raise typer.BadParameter(f"must be a number of seconds, was {text!r}")
    return float(number)


def whole(least: int, most: int = _MOST) -> Callable[[str], int]:
    """Return a reader of whole numbers within bounds; `1_0` and digits of other scripts are none."""

    def number(text: str) -> int:
        found = int(text) if _WHOLE.fullmatch(str(text)) else least - 1
        if not least <= found <= most:
            raise typer.BadParameter(f"must be a whole number, {least} to {most}, was {text!r}")
        return found

    return number


_asked = {"json": False}


def _remember(asked: bool) -> bool:
    _asked["json"] = asked
    return asked


def wants_json() -> bool:
    """Tell whether the command that runs was asked for JSON."""
    return _asked["json"]


Json = Annotated[bool, typer.Option("--json", is_eager=True, callback=_remember, help="One JSON document on stdout.")]
Out = Annotated[Path | None, typer.Option("--out", help="write .csv or .parquet, every column; - is CSV on stdout")]
Wide = Annotated[bool, typer.Option("--wide", help="every column in full, however wide the terminal is")]
Account = Annotated[str | None, typer.Option(help="an account behind a login: ira, or ibkr:ira")]
OneAccount = Annotated[str | None, typer.Option(help="an account behind a login: ibkr:ira, or ira with --broker ibkr")]
Since = Annotated[str | None, typer.Option(help="ISO time, date, or an age such as 30m, 12h, 7d")]
Until = Annotated[str | None, typer.Option(help="as --since; what is exactly as old is left out")]
Limit = Annotated[
    int | None,
    typer.Option(parser=whole(1), metavar="N", help=f"at most; default: {TERMINAL_ROWS} at a terminal, all elsewhere"),
]

_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> datetime | None:
    """Read an age such as 30m or 7d as the moment so long ago; None where the text is none.

    Raises:
        OverflowError: there was no such moment.
    """
    found = _AGE.fullmatch(text)
    return found and datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(option: str, text: str | None) -> datetime | None:
    """Read an option that is a time; without a zone it is UTC.

    Raises:
        InvalidRequest: it is none.
    """
    if text is None:
        return None
    try:
        when = age(text) or datetime.fromisoformat(text)
        return (when.replace(tzinfo=UTC) if when.tzinfo is None else when).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{option}: must be an ISO time, a date, or an age such as 30m or 7d, was {text!r}"
        ) from None


def day(option: str, text: str | None) -> datetime | date | None:
    """Read an option that is a day: a date stays one, whatever the time zone; a moment is for the history to place.

    Raises:
        InvalidRequest: it is neither.
    """
    when = moment(option, text)
    with suppress(ValueError):
        return date.fromisoformat(text or "")
    return when


# -- OPENING ---
@contextmanager
def opened() -> Iterator[tuple[Settings, Database]]:
    """Open the record, for commands that neither submit nor ask the queue; nothing that it imports logs."""
    from models.record.database import open_database
    from models.settings import load_settings

    settings = load_settings()
    database = open_database(settings)
    try:
        yield settings, database
    finally:
        database.close()


@contextmanager
def client() -> Iterator[OrderClient]:
    """Open a client, quietly: a command's answer is on stdout, its log on stderr."""
    from models.logs import configure
    from models.settings import load_settings
    from producers.client import OrderClient

    settings = load_settings()
    configure("WARNING" if settings.log_level.upper() == "INFO" else settings.log_level)
    with OrderClient(settings) as opened:
        yield opened


@contextmanager
def history() -> Iterator[History]:
    """Open the history; nothing that it imports logs."""
    from models.history import History

    opened = History()
    try:
        yield opened
    finally:
        opened.database.close()


def operator(by: str | None) -> str:
    """Return who does something: as named, were it by nothing, else the login name."""
    if by is not None:
        return by.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as containers have
        return f"user id {os.getuid()}"


# -- LISTS ---
@dataclass(frozen=True, slots=True)
class Form:
    """How a list is wanted."""

    json: bool = False
    out: Path | None = None
    wide: bool = False
    #: Columns of a listing that say which row is which, and stay in the narrowest terminal.
    keys: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.out is not None:
            from producers.cli import export

            export.check(self.out)

    @property
    def limit(self) -> int | None:
        """How many rows it has where nobody says: a person sees the newest, a program gets them all."""
        return TERMINAL_ROWS if show.out.is_terminal and not self.json and self.out is None else None


def tell(
    found: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    form: Form,
    *,
    title: str = "",
    table: Table | None = None,
    document: object = None,
    keys: Collection[str] = (),
) -> None:
    """Print rows in the form that was asked for, or write them to a file with all their columns.

    Args:
        found: the rows.
        columns: which of them a person wants to see.
        form: how.
        title: of the table.
        table: whose rows they are: gives a file its columns and types, also where there are no rows.
        document: instead of the rows, for JSON.
        keys: columns that say which row is which, and stay in the narrowest terminal.
    """
    if form.out is not None:
        from producers.cli import export

        export.write(found, form.out, table)
        if str(form.out) != export.STDOUT:
            show.note(f"{len(found)} rows written to {form.out}")
    if form.json:
        show.document(found if document is None else document)
    elif form.out is None:
        show.rows(found, columns, title=title, wide=form.wide, keys=keys)


def listing(table: Table, columns: Sequence[str], form: Form, *, limit: int | None = None, **filters: Any) -> None:
    """Print rows of a view, newest first, and say so where that is not all of them."""
    what = table.name.removeprefix("v_").replace("_", " ")
    filters = fitting(table, what, **filters)
    most = limit or form.limit
    with history() as h:
        must_be_known(h, filters.get("broker"))
        found = h.rows(table, limit=most, **filters)
        count = h.count(table, **filters) if most is not None and len(found) == most and show.err.is_terminal else 0
    # Only an empty list needs a name: the columns say what the others are.
    tell(found, columns, form, table=table, title="" if found else what, keys=form.keys)
    note_rest(len(found), count)


def note_rest(shown: int, there: int) -> None:
    """Say to whoever looks that a list is not whole, and which limit shows all of it."""
    if shown < there and show.err.is_terminal:
        show.note(f"{shown:,} of {there:,} shown; --limit {there} shows all")


def fitting(table: Table, what: str, **filters: Any) -> dict[str, Any]:
    """Return the filters that were given, as rows of a table can be held against them: no filter is left out.

    Raises:
        InvalidRequest: the table does not have what one of them asks for.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    if wrong := [name for name in given if name not in table.c and name not in ("since", "until")]:
        raise InvalidRequest(f"{what} cannot be listed by {wrong[0]}")
    return given


def placed(broker: str | None, account: str | None, destinations: Sequence[str] | None = None) -> dict[str, str | None]:
    """Return what rows must have that are at a broker, or in an account: `ira`, `ibkr:ira`; a broker may be one, too.

    Args:
        broker: its name, or `ibkr:ira`.
        account: its name, alone or behind that of its broker.
        destinations: everywhere an order can go; None: as the settings say.

    Raises:
        InvalidRequest: no account has that name, or it is another broker's.
    """
    if BETWEEN in (broker or "") and account is None:
        broker, account = None, broker
    if account is None:
        return {"broker": broker, "account": None}
    if destinations is None:
        from models.settings import load_settings

        destinations = load_settings().destinations
    if BETWEEN in account and not names_account(account):
        raise InvalidRequest(f"--account: must be an account, or BROKER:ACCOUNT, was {account!r}")
    at, name = split(account) if BETWEEN in account else (broker, account)
    if broker not in (None, at):
        raise InvalidRequest(f"--account: {account} is not at {broker}")
    known = [where for where in destinations if BETWEEN in where]
    if known and not any(split(where)[1] == name and at in (None, broker_of(where)) for where in known):
        raise InvalidRequest(f"--account: there is no {joined(at, name) if at else name}; there are {', '.join(known)}")
    return {"broker": at, "account": name}


def must_be_known(h: History, broker: str | None) -> None:
    """See that a broker whose rows are asked for is there, or was.

    Raises:
        InvalidRequest: neither: an empty list of a mistyped one would be no fact.
    """
    from models.record.reading import must_know_broker
    from models.settings import load_settings

    if broker is not None:
        must_know_broker(h.database, load_settings().all_brokers, broker)


def whole_place(broker: str | None, account: str | None) -> str | None:
    """Return a broker, or an account with its broker, as one name; None where neither is given.

    Raises:
        InvalidRequest: no broker, or another one, is named for the account.
    """
    found = placed(broker, account)
    if found["account"] is not None and found["broker"] is None:
        raise InvalidRequest(f"--account: say at which broker, as BROKER:{account}, or by --broker")
    return found["broker"] and joined(found["broker"], found["account"])


# -- IDS ---
#: What stands where a table has cut an id, and what people type for it behind a start.
_CUT, _DOTS = "…", "..."
_GENERATED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LEAST_START = 4
_OF_AN_ORDER = ("order", "client_order_id")


def whole_id(
    given: str, like: Callable[[str, int, str], Sequence[str]], *, changes: bool, of: tuple[str, str] = _OF_AN_ORDER
) -> str:
    """Find the id that is meant: itself, or the only one that begins, and ends, as the tables show it.

    Args:
        given: an id, or the start of one, or what a table shows of it.
        like: returns ids that begin with a text, at most so many, an exact one first, and end with another.
        changes: the order is to be changed. Then the start of an id that somebody has chosen counts only with the sign
            that it is cut, or `corro cancel k-1` would cancel `k-10` where `k-1` was never recorded.
        of: what has such ids, and what they are called.

    Raises:
        NotFound: there is none.
        InvalidOrder: several begin so.
    """
    start, _, end = given.removesuffix(_DOTS).partition(_CUT)
    found = list(like(start, 6, end))
    if given in found:
        return given
    usable = [id_ for id_ in found if not changes or start != given or _GENERATED.fullmatch(id_)]
    if len(usable) == 1 and len(found) == 1 and len(start) >= _LEAST_START:
        return usable[0]
    if len(found) > 1 and len(start) >= _LEAST_START:
        alike = f"begins with {start!r}" + (f" and ends with {end!r}" if end else "")
        raise InvalidOrder(f"several {of[0]}s have an id that {alike}: {', '.join(found[:5])}, ...")
    meant = f"; did you mean {found[0]}?" if found and len(start) >= _LEAST_START else ""
    if meant and changes:
        meant += f" To change one, an id that somebody has chosen has to be whole, or cut by the sign {_CUT}"
    raise NotFound(f"no {of[0]} has the {of[1]} {given!r}{meant}")


# -- ERRORS ---
def fail(error: Exception, words: str | None = None) -> None:
    """Say what went wrong, in the form that was asked for."""
    said = str(error) if words is None else words
    if wants_json():
        with suppress(OutputLost):  # there is nowhere to put it
            show.document({"error": type(error).__name__, "message": said})
    show.note((f"corro: {said}", "red"), keep="\n")
