"""`corro fleet`: who is at work, what is stopped, whether every broker takes orders; its exit status says so too."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, opened, tell

if TYPE_CHECKING:
    from models.record.database import Database
    from models.settings import Settings
    from worker.fleet.picture import Picture

_COLUMNS = ("broker", "worker", "state", "leader", "heartbeat_at", "started_at", "positions_at", "stopped", "detail")
#: A worker that died so recently has a line of its own beside the others of its broker.
_FRESHLY_DEAD = timedelta(minutes=10)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(fleet)


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


def present(rows: Sequence[dict[str, Any]], now: datetime) -> tuple[list[dict[str, object]], list[str]]:
    """Fold what is long gone, so that a table shows who is there: pure.

    Args:
        rows: of a picture.
        now: the moment.

    Returns:
        The rows of workers that live, that died a moment ago, or that are the last of their broker; and a line for each
        broker with others.
    """
    there: list[dict[str, object]] = []
    gone: list[dict[str, Any]] = []
    for row in rows:
        if row["state"] == "silent":
            others = [r["heartbeat_at"] for r in rows if r["broker"] == row["broker"] and r["state"] != "stopped"]
            is_last = row["heartbeat_at"] == max(others)
            (there if is_last or now - row["heartbeat_at"] < _FRESHLY_DEAD else gone).append(row)
        elif row["state"] != "stopped":
            there.append(row)
    lines = []
    for broker in dict.fromkeys(row["broker"] for row in gone):
        heard = [row["heartbeat_at"] for row in gone if row["broker"] == broker]
        several = f"{len(heard)} workers" if len(heard) > 1 else "1 worker"
        lines.append(f"{broker}: {several} gone, last heard {max(heard):%Y-%m-%d %H:%M} UTC; --json has all")
    return there, lines
