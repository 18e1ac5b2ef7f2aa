"""The whole command line: the order commands, and what an operator types.

Exit status: 0 done, 1 it failed, 2 wrong usage or settings (nothing was done), 3 `--wait` ran out: not known yet.
"""

import errno
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from models.errors import ConfigurationError, CorroError, IdempotencyConflict, InvalidOrder, InvalidRequest
from models.private import keep_private
from producers.cli import show
from producers.cli.app import app, fail
from worker.cli import completion
from worker.cli.__main__ import INTERRUPTED
from worker.cli.commands import add_all

add_all(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show.say(f"corro {version('corro')}")
        raise typer.Exit


@app.callback()
def corro(
    _: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")] = False,
) -> None:
    """Execute orders over several brokers: never twice, never lost, never a guess told as a fact."""


# -- ENTRY ---
_USAGE = (ConfigurationError, InvalidOrder, InvalidRequest, IdempotencyConflict)
#: Click's ClickException, wherever Typer keeps it; its classes have `format_message`, `exit_code` and `ctx`.
_WRONG_COMMAND = cast("type[Exception]", typer.BadParameter.__mro__[2])
#: No file can have such a path: whoever gave it meant another one.
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
#: New objects before the garbage collector looks for cycles: a command imports a hundred thousand that stay.
_COLLECT_AFTER = 100_000


def main() -> None:
    """Run the command line; whatever goes wrong becomes one clear line and an exit status."""
    gc.freeze()  # what was imported stays: no collection need look at it
    gc.set_threshold(_COLLECT_AFTER)
    show.prepare()
    keep_private()
    if completion.ASKED in os.environ:
        completion.answer(app)
    try:
        _must_be_text(sys.argv)
        status = app(standalone_mode=False)
    except CorroError as error:
        fail(error)
        status = 2 if isinstance(error, _USAGE) else 1
    except _WRONG_COMMAND as error:
        status = _explain(error)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        if error.filename is None or not error.strerror:
            status = _defect(error)
        else:
            fail(error, f"{error.filename}: {error.strerror.lower()}")
            status = 2 if error.errno in _NO_PATH else 1
    except Exception as error:
        status = _defect(error)
    gc.freeze()  # what there is ends with the process, so Python's last collection need not look at it either
    sys.exit(status if isinstance(status, int) else 0)


def _defect(error: Exception) -> int:
    show.note(traceback.format_exc().rstrip(), keep="\n")
    fail(error, f"a defect of corro, {type(error).__name__}: {error}; please report the lines above")
    return 1


def _must_be_text(words: Sequence[str]) -> None:
    """Refuse arguments that are no text: neither database nor queue could take them."""
    for word in words:
        if not word.isascii() and any("\ud800" <= c <= "\udfff" for c in word):
            raise InvalidRequest(f"an argument is no UTF-8 text: {os.fsencode(word)!r}")


def _explain(error: Exception) -> int:
    """Say what is wrong with a command; without any arguments, what there is."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        cast("typer.BadParameter", error).show()
    else:
        words = cast("typer.BadParameter", error).format_message().rstrip(".")
        fail(error, f"{words}; try `{context.command_path} --help`" if context else words)
    return int(getattr(error, "exit_code", 2))
