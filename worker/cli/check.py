"""The command `corro check`."""

import contextlib
from dataclasses import asdict
from typing import Annotated

import typer

from models.errors import ConfigurationError
from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, seconds, tell

#: Less is not enough for one answer.
_LEAST_S = 0.5
_COLUMNS = ("broker", "check", "state", "words", "advice")


def check(
    broker: Annotated[str | None, typer.Argument(help="a configured broker; default: all")] = None,
    timeout: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds for each broker")] = 15.0,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Look whether everything works, and say what to change if not; orders nothing, disturbs no worker."""
    from models.logs import configure
    from models.settings import load_settings
    from worker.checks import exit_status, run, summary, unreadable

    form, timeout = Form(json, out, wide), max(timeout, _LEAST_S)
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
    tell(rows, _COLUMNS, form)
    if show.err.is_terminal:  # the table is longer than a screen
        show.note((summary(found), "bold red" if exit_status(found) else "bold"))
    raise typer.Exit(exit_status(found))
