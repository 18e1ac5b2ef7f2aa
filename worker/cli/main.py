"""The whole command line: the order commands, and what an operator types.

Exit status: 0 done, 1 it failed, 2 wrong usage or settings (nothing was done), 3 `--wait` ran out: not known yet.
"""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from models.errors import ConfigurationError, CorroError, IdempotencyConflict, InvalidOrder, InvalidRequest
from models.private import keep_private
from producers.cli import data as _data  # noqa: F401
from producers.cli import earnings as _earnings  # noqa: F401
from producers.cli import events as _events  # noqa: F401
from producers.cli import exports as _exports  # noqa: F401
from producers.cli import groups as _groups  # noqa: F401
from producers.cli import instruments as _instruments  # noqa: F401
from producers.cli import lists as _lists  # noqa: F401
from producers.cli import logs as _logs  # noqa: F401
from producers.cli import orders as _orders  # noqa: F401
from producers.cli import preview as _preview  # noqa: F401
from producers.cli import show
from producers.cli.app import Form, Json, Wide, app, client, fail, opened, tell, whole_id
from worker.cli import (
    approvals,
    archive,
    assistant,
    check,
    controls,
    dead_letters,
    imports,
    kill,
    limits,
    locks,
    sandbox,
    watch,
    web,
)
from worker.cli import fleet as cli_fleet
from worker.cli import keys as cli_keys
from worker.cli import notify as cli_notify
from worker.cli.__main__ import INTERRUPTED
from worker.runtime.celery_command import worker_arguments

db_app = typer.Typer(help="The database's schema.", no_args_is_help=True)
app.add_typer(db_app, name="db")
approvals.register(app)
assistant.register(app)
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_notify.app, name="notify")
app.add_typer(imports.app, name="import")
archive.register(app)
check.register(app)
controls.register(app)
kill.register(app)
cli_fleet.register(app)
limits.register(app)
locks.register(app)
sandbox.register(app)
dead_letters.register(app)
web.register(app)
watch.register(app)


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


# -- RUNNING ---
@app.command()
def worker(
    name: Annotated[str, typer.Argument(help="a configured broker")],
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="messages worked on at once")] = 4,
) -> None:
    """Run a worker of one broker: the same as `celery -A worker worker` with that broker's queues."""
    from models.logs import configure
    from models.settings import load_settings

    settings = load_settings()
    settings.broker(name)
    configure(settings.log_level)
    from celery.bin.celery import celery as command

    from worker.celery import app as celery_app

    command.params[0].default = celery_app  # as Celery.start does, which forgets the exit status
    status = command.main(args=worker_arguments(name, name, concurrency), standalone_mode=False)
    raise typer.Exit(int(status or 0))


@app.command()
def up(
    with_sandbox: Annotated[
        bool | None, typer.Option("--sandbox/--no-sandbox", help="default: only if no broker is configured")
    ] = None,
    with_web: Annotated[bool, typer.Option("--web", help="serve the operator's page as well")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the page; 0: any that is free")] = web.PORT,
) -> None:
    """Run everything on this machine until Ctrl-C: queue, database, sandbox, one worker per broker."""
    from models.logs import configure
    from models.settings import load_settings
    from worker.local.processes import Fleet

    settings = load_settings()
    configure(settings.log_level)
    if with_web:
        web.must_be_installed()
    with Fleet(settings, sandbox=settings.is_sandbox if with_sandbox is None else with_sandbox) as fleet:
        page = fleet.start_web(port) if with_web else None
        fleet.wait_ready()
        show.say(("corro is up", "bold"), f" in {settings.home.absolute()}; Ctrl-C stops it.")
        if page:
            show.say("The page: ", (page, "cyan"))
        show.say("In another terminal: ", ("corro submit AAPL buy 10 --wait", "cyan"))
        fleet.watch()


@app.command()
def demo(
    brake: Annotated[bool, typer.Option("--brake", help="a runaway strategy: tripped, killed, flattened")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="leave the database and ledger in place")] = False,
    json: Json = False,
) -> None:
    """Show it all: a sample strategy, a broker failure with fallback, the history; always on the sandbox."""
    from worker.local.demo import run

    raise typer.Exit(run(keep=keep, json=json, brake=brake))


# -- OPERATING ---
@app.command()
def resolve(
    client_order_id: str,
    absent: Annotated[bool, typer.Option("--absent", help="the broker does not have it, you have checked")] = False,
    adopt: Annotated[str | None, typer.Option(metavar="BROKER_ORDER_ID", help="this order at the broker is it")] = None,
    noted: Annotated[bool, typer.Option("--noted", help="you have looked at the unexplained execution")] = False,
    by: Annotated[str | None, typer.Option(help="who takes responsibility")] = None,
    reason: Annotated[str | None, typer.Option(help="why; kept with the order")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Settle an unknown outcome by hand, on somebody's word; it is kept with that name."""
    from models.history import History
    from worker.orders.resolve import note
    from worker.orders.resolve import resolve as settle

    if [absent, adopt is not None, noted].count(True) != 1:
        raise typer.BadParameter("say either --absent, --adopt BROKER_ORDER_ID or --noted")
    if by is None:
        raise typer.BadParameter("--by is required: the record keeps who decided this")
    with client() as c:
        meant = whole_id(client_order_id, History(c.database).ids, changes=True)
        row = note(c, meant, by=by, reason=reason) if noted else settle(c, meant, adopt=adopt, by=by, reason=reason)
    columns = ("client_order_id", "status", "broker", "broker_order_id", "reason")
    tell([row], columns, Form(json, wide=wide), document=row)


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the schema up to date."""
    from models.logs import configure
    from models.record.database import Database, current_revision, upgrade
    from models.settings import load_settings

    configure("WARNING")
    database = Database(load_settings().database)
    before = current_revision(database)
    upgrade(database)
    show.say(f"{database.url!r}: {before or 'empty'} -> {current_revision(database)}")


@db_app.command("check")
def db_check(wide: Wide = False, json: Json = False) -> None:
    """Tell whether the schema is current and whether the server can hold the record; exit 1 if not."""
    from models.record.database import Database, current_revision, head_revision, objections
    from models.settings import load_settings

    database = Database(load_settings().database)
    current, head = current_revision(database), head_revision()
    found = objections(database)
    good = current == head and not found
    state = {"database": repr(database.url), "revision": current, "needed": head, "ok": good}
    tell([state], list(state), Form(json, wide=wide), document={**state, "objections": found})
    for line in found if not json else ():
        show.note(f"corro: {line}")
    raise typer.Exit(0 if good else 1)


@db_app.command("verify")
def db_verify(
    archived: Annotated[
        Path | None, typer.Option("--archive", help="the folder of the archives: verify them, too")
    ] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Walk the chain over the journals, and see that fills, orders and events agree; exit 1 if anything does not."""
    from models.record.chain import verify

    with opened() as (_, database), database.read() as connection:
        found = verify(connection)
        objections = list(found.objections)
        if archived is not None:
            from models.record.archiving import verify_files

            objections += verify_files(connection, archived)
    good = not objections
    told = {"links": found.links, "rows": found.rows, "newer": found.newer, "ok": good}
    whole = {**told, "heads": found.heads, "objections": objections}
    tell([told], list(told), Form(json, wide=wide), document=whole)
    for line in objections if not json else ():
        show.note(f"corro: {line}")
    raise typer.Exit(0 if good else 1)


@db_app.command("copy")
def db_copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the record, or the path of an SQLite file")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty database")],
    json: Json = False,
) -> None:
    """Copy the whole record into another database, SQLite to PostgreSQL; run it again after it was broken off.

    Nothing else writes into FROM meanwhile. TO cannot be used before all of it was compared, FROM not afterwards.
    """
    from datetime import UTC, datetime

    from models.record.database import Database
    from models.record.moving import copy, must_exist
    from models.settings import load_settings

    urls = [u if "://" in u else f"sqlite:///{Path(u).absolute()}" for u in (source, target)]
    must_exist(urls[0])
    here, there = map(Database, urls)

    def progress(table: str, rows: int) -> None:
        if show.err.is_terminal and rows % 50_000 == 0:
            show.note(f"{table}: {rows:,} rows")

    try:
        done = copy(here, there, load_settings().timing.dead_after, datetime.now(UTC), progress)
    finally:
        here.close()
        there.close()
    told = {"tables": len(done.rows), "rows": sum(done.rows.values()), "ok": True}
    tell([told], list(told), Form(json), document={**told, "by_table": done.rows})
    show.note(f"now set database_url to the copy in corro.toml; {here.url!r} is not used any more")


# -- ENTRY ---
_USAGE = (ConfigurationError, InvalidOrder, InvalidRequest, IdempotencyConflict)
#: Click's ClickException, wherever Typer keeps it; its classes have `format_message`, `exit_code` and `ctx`.
_WRONG_COMMAND = cast("type[Exception]", typer.BadParameter.__mro__[2])
#: New objects before the garbage collector looks for cycles: a command imports a hundred thousand that stay.
_COLLECT_AFTER = 100_000


def main() -> None:
    """Run the command line; whatever goes wrong becomes one clear line and an exit status."""
    gc.freeze()  # what was imported stays: no collection need look at it
    gc.set_threshold(_COLLECT_AFTER)
    show.prepare()
    keep_private()
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
    except Exception as error:
        show.note(traceback.format_exc().rstrip(), keep="\n")
        fail(error, f"a defect of corro, {type(error).__name__}: {error}; please report the lines above")
        status = 1
    gc.freeze()  # what there is ends with the process, so Python's last collection need not look at it either
    sys.exit(status if isinstance(status, int) else 0)


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
