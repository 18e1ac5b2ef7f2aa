"""`corro export`: any of the history's tables into a file, with all its columns."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import InvalidRequest
from producers.cli import show
from producers.cli.app import Account, Json, Since, Until, day, fitting, history, moment, must_be_known, placed

if TYPE_CHECKING:
    from sqlalchemy import Table

#: What there is, and the table or view of `models.history` that holds it.
WHAT = {
    "orders": "v_orders", "fills": "v_fills", "attempts": "v_attempts", "events": "order_events",
    "positions": "v_positions", "pnl": "v_pnl", "tca": "v_tca", "equity": "v_equity", "cash": "v_cash",
    "controls": "control_events",
}  # fmt: skip


def write(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=", ".join(WHAT))],
    out: Annotated[Path, typer.Option("--out", help=".csv or .parquet, every column; - is CSV on stdout")],
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Write all of a table of the history, oldest first, for a spreadsheet, pandas or DuckDB."""
    from producers.cli import export as files

    table = _table(what)
    files.check(out)
    if what == "positions" and (since or until):
        raise InvalidRequest("positions are those of now: `corro positions --at TIME --out FILE` has those of a moment")
    read = day if what in ("pnl", "equity") else moment
    wanted = fitting(
        table, what, symbol=symbol and symbol.upper(), strategy=strategy, **placed(broker, account),
        since=read("--since", since), until=read("--until", until),
    )  # fmt: skip
    with history() as h:
        must_be_known(h, wanted.get("broker"))
        found = h.rows(table, newest_first=False, **wanted)
    files.write(found, out, table)
    if json and str(out) != files.STDOUT:
        show.document({"rows": len(found), "out": str(out)})
    elif str(out) != files.STDOUT:
        show.note(f"{len(found):,} rows written to {out}")


def _table(what: str) -> "Table":
    from models import history as views
    from models.record.tables import control_events

    if what not in WHAT:
        raise InvalidRequest(f"WHAT: must be one of {', '.join(WHAT)}, was {what!r}")
    table: Table = control_events if what == "controls" else getattr(views, WHAT[what])
    return table
