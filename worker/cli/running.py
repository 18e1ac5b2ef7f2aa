"""`corro worker`, `up` and `demo`: what runs on this machine."""

from typing import Annotated

import typer

from producers.cli import show
from producers.cli.app import Json, whole
from worker.cli import web
from worker.runtime.celery_command import worker_arguments


def worker(
    name: Annotated[str, typer.Argument(help="a configured broker")],
    concurrency: Annotated[int, typer.Option(parser=whole(1, 64), metavar="N", help="messages worked on at once")] = 4,
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


def up(
    with_sandbox: Annotated[
        bool | None, typer.Option("--sandbox/--no-sandbox", help="default: only if no broker is configured")
    ] = None,
    with_web: Annotated[bool, typer.Option("--web", help="serve the operator's page as well")] = False,
    port: Annotated[
        int, typer.Option(parser=whole(0, 65_535), metavar="N", help="of the page; 0: any that is free")
    ] = web.PORT,
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


def demo(
    brake: Annotated[bool, typer.Option("--brake", help="a runaway strategy: tripped, killed, flattened")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="leave the database and ledger in place")] = False,
    json: Json = False,
) -> None:
    """Show it all: a sample strategy, a broker failure with fallback, the history; always on the sandbox."""
    from worker.local.demo import run

    raise typer.Exit(run(keep=keep, json=json, brake=brake))
