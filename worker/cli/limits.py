"""`corro limits`, `limits set` and `limits clear`: what is allowed, what is used of it, and who said so."""

from typing import TYPE_CHECKING, Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, opened, tell

if TYPE_CHECKING:
    from models.risk.names import Limit

By = Annotated[str, typer.Option(help="who; kept for ever")]
Reason = Annotated[str, typer.Option(help="why; kept for ever")]
Broker = Annotated[str | None, typer.Option(help="of orders at this broker")]
Account = Annotated[str | None, typer.Option(metavar="BROKER:ACCOUNT", help="of orders for this account")]
Strategy = Annotated[str | None, typer.Option(help="of this strategy; with --symbol: in that symbol")]
Symbol = Annotated[str | None, typer.Option(help="of orders in this symbol")]
Key = Annotated[str | None, typer.Option(help="of orders signed with this key")]


def listing(context: typer.Context, out: Out = None, wide: Wide = False, json: Json = False) -> None:
    """List the limits in force, of the settings and of people, with what is used and left of them."""
    if context.invoked_subcommand is not None:
        return
    from models.messages import utcnow
    from worker.risk.report import COLUMNS, limits_report

    with opened() as (settings, database), database.read() as connection:
        rows = limits_report(connection, settings.risk, utcnow())
    tell(rows, COLUMNS, Form(json, out, wide), title="" if rows else "limits")


def set_limit(
    name: Annotated[str, typer.Argument(help="such as max_value; docs/risk.md has them all")],
    value: str,
    by: By,
    reason: Reason,
    broker: Broker = None,
    account: Account = None,
    strategy: Strategy = None,
    symbol: Symbol = None,
    key: Key = None,
    until: Annotated[str | None, typer.Option(help="ISO time, date, or a span from now such as 8h")] = None,
    json: Json = False,
) -> None:
    """Set a limit, of all orders or of a scope, in place of the one there is; it holds for the next order."""
    from models.clock import utcnow
    from models.risk.names import LOCAL, Limit, limit_told, read_value
    from worker.control.known import unknown_names
    from worker.risk.asked import limit_until, names_of
    from worker.risk.changes import set_limit as put

    kind, scope = _scope(broker, account, strategy, symbol, key)
    with opened() as (settings, database):
        if kind in LOCAL:
            settings.must_know(scope)
        limit = Limit(kind, scope, name, read_value(name, value), limit_until(until, utcnow(), "--"), by.strip())
        taken = put(database, settings.risk, limit, reason=reason)
        unknown = unknown_names(database, settings, names_of(kind, scope))
    if json:
        show.document(_row(limit))
    else:
        show.say(f"limit: {limit_told(limit)}")
    for line in unknown:
        show.note(f"corro: {line}")
    if taken:
        show.note(f"{taken} orders that were sent before count from now on")


def clear_limit(
    name: Annotated[str, typer.Argument(help="such as max_value")],
    by: By,
    reason: Reason,
    broker: Broker = None,
    account: Account = None,
    strategy: Strategy = None,
    symbol: Symbol = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """End a limit that somebody has set; one of the settings is in force again."""
    from models.risk.names import from_settings
    from worker.risk.changes import clear_limit as take

    kind, scope = _scope(broker, account, strategy, symbol, key)
    with opened() as (settings, database):
        ended = take(database, (kind, scope, name), by=by.strip(), reason=reason)
        seed = from_settings(settings.risk).get((kind, scope, name))
    if json:
        show.document(_row(ended))
    else:
        show.say(f"ended: {ended.words}")
    if seed:
        show.note(f"in force again, by the settings: {seed.allows}")


def _row(limit: "Limit") -> dict[str, object]:
    """Return a limit as its row in `risk_limits` has it."""
    from models.risk.names import value_text

    kind, scope, name = limit.place
    value = value_text(limit.value)
    return {
        "scope_kind": kind, "scope": scope, "name": name, "value": value, "until": limit.until, "set_by": limit.set_by,
    }  # fmt: skip


def _scope(
    broker: str | None, account: str | None, strategy: str | None, symbol: str | None, key: str | None
) -> tuple[str, str]:
    from worker.control.scopes import KINDS
    from worker.risk.asked import limit_scope

    named = dict(zip(KINDS, (broker, account, strategy, symbol, key), strict=True))
    return limit_scope(named, mark="--")
