"""`corro locks` and `corro unlock`: positions that nothing explains, and the word of somebody who looked."""

from collections.abc import Mapping
from typing import Annotated

import typer

from models.destinations import split
from producers.cli.app import (
    Account,
    Form,
    Json,
    Out,
    Since,
    Until,
    Wide,
    client,
    moment,
    must_be_known,
    opened,
    operator,
    placed,
    tell,
)

_COLUMNS = ("broker", "symbol", "expected", "found", "difference", "since", "read_at", "note")
_EVENTS = ("at", "broker", "symbol", "kind", "expected", "found", "by", "reason")


def locks(
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    log: Annotated[bool, typer.Option("--log", help="the journal instead: locked, explained, unlocked")] = False,
    since: Since = None,
    until: Until = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List symbols that are locked at a broker, because it shows a position that nothing explains."""
    from models.history import History
    from models.record.tables import position_events
    from worker.positions.ledger import locks as in_force

    form, begin, end = Form(json, out, wide), moment("--since", since), moment("--until", until)
    if not log and (begin or end):
        raise typer.BadParameter("--since and --until choose from the journal: say --log, too")
    where = placed(broker, account)
    with opened() as (_, database):
        history = History(database)
        must_be_known(history, where["broker"])
        found = history.rows(position_events, since=begin, until=end) if log else in_force(database)
    tell([row for row in found if _is_there(row, where)], _EVENTS if log else _COLUMNS, form, title="locks")


def _is_there(row: Mapping[str, object], where: Mapping[str, str | None]) -> bool:
    """Tell whether a row, which names a broker and its account as one, is where rows are wanted from."""
    at = dict(zip(("broker", "account"), split(str(row["broker"])), strict=True))
    return all(wanted in (None, at[name]) for name, wanted in where.items())


def unlock(
    broker: Annotated[str, typer.Argument(help="a broker, or ibkr:ira")],
    symbol: Annotated[str, typer.Argument()],
    by: Annotated[str | None, typer.Option(help="who takes responsibility; default the login name")] = None,
    reason: Annotated[str | None, typer.Option(help="what explains the position; kept in the journal")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Let orders in a symbol go to a broker again: the position it shows is right, and counts from now on."""
    from worker.positions.ledger import unlock as take

    if reason is None:
        raise typer.BadParameter("--reason is required: the record keeps what explained this position")
    with client() as c:
        c.settings.must_know(broker)
        row = take(c.database, broker, symbol.upper(), by=operator(by), reason=reason)
    columns = ("broker", "symbol", "expected", "found", "since")
    tell([row], columns, Form(json, wide=wide), document=row)
