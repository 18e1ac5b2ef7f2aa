"""What all commands share: the app, the `--json` option, a client or the history to work with, and how errors read."""

from __future__ import annotations

import getpass
import json as jsonlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import CorroError
from models.logs import configure
from producers import show

if TYPE_CHECKING:
    from models.history import History
    from producers.client import OrderClient

app = typer.Typer(
    name="corro",
    help="Execute orders over several brokers: never twice, never lost, never a guess told as a fact.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@contextmanager
def client() -> Iterator[OrderClient]:
    """Open a client, quietly: a command's answer is on stdout, its log on stderr."""
    from models.settings import load_settings
    from producers.client import OrderClient

    settings = load_settings()
    configure("WARNING" if settings.log_level.upper() == "INFO" else settings.log_level)
    with OrderClient(settings) as opened:
        yield opened


@contextmanager
def history() -> Iterator[History]:
    """Open the history."""
    from models.history import History

    configure("WARNING")
    opened = History()
    yield opened
    opened.database.close()


def operator(by: str | None) -> str:
    """Return who does something: as named, else the login name."""
    if by and by.strip():
        return by.strip()
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as containers have
        return f"user id {os.getuid()}"


def fail(error: CorroError, json: bool) -> None:
    """Say what went wrong, in the form that was asked for."""
    if json:
        show.out.print(jsonlib.dumps({"error": type(error).__name__, "message": str(error)}), markup=False)
    show.err.print(f"corro: {error}", markup=False, style="red" if show.err.is_terminal else "")
