"""`corro fleet`: who is at work, what is stopped, whether every broker takes orders; its exit status says so too."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, opened, tell

if TYPE_CHECKING:
    from models.record.database import Database
    from models.settings import Settings
    from worker.fleet.picture import Picture

_COLUMNS = ("broker", "worker", "state", "leader", "heartbeat_at", "started_at", "positions_at", "stopped", "detail")


def fleet(
    check: Annotated[bool, typer.Option("--check", help="one line: whether every broker takes orders")] = False,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Show the workers, what is stopped, and what is wrong; exit 1 unless every configured broker takes orders."""
    form = Form(json, out, wide)
    with opened() as (settings, database):
        seen = _look(settings, database, remarks=json or not check)
        configured = ", ".join(settings.all_brokers)
    ok = not seen.troubles
    if check:
        line = f"ok: {configured} take orders" if ok else f"not ok: {'; '.join(seen.troubles)}"
        told = {"ok": ok, "troubles": seen.troubles, "remarks": seen.remarks}
        show.document(told) if json else show.say((line, "green" if ok else "bold red"))
    else:
        from worker.fleet.picture import present

        shown, gone = (seen.rows, []) if json or out is not None else present(seen.rows, datetime.now(UTC))
        tell(shown, _COLUMNS, form, title="workers")
        if not json:
            for line in gone:
                show.note((line, "dim"))
            for line in seen.troubles:
                show.note((line, "bold red"))
            for line in seen.remarks:
                show.note((line, "yellow"))
    raise typer.Exit(0 if ok else 1)


def _look(settings: "Settings", database: "Database", remarks: bool) -> "Picture":
    from worker.fleet.picture import look, remarks_of_the_record

    seen = look(settings, database)
    if remarks:  # a line for a monitor needs none: the queue is not asked, and its client not imported
        from worker.cli.dead_letters import hint

        seen.remarks.extend(remarks_of_the_record(settings, database))
        seen.remarks.extend((hint(settings) or "").splitlines())
    return seen
