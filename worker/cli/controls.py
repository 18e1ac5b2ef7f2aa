"""`corro halt`, `reduce`, `drain`, `resume` and `controls`: what people do to trading, and its journal."""

from typing import TYPE_CHECKING, Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Out, Since, Until, Wide, client, history, moment, operator, tell

if TYPE_CHECKING:
    from producers.client import OrderClient
    from worker.control.scopes import Scope

By = Annotated[str | None, typer.Option(help="who; kept for ever")]
Reason = Annotated[str | None, typer.Option(help="why; kept for ever, and with the orders that are denied")]
Broker = Annotated[str | None, typer.Option(help="only this broker")]
Account = Annotated[str | None, typer.Option(help="only this account, BROKER:ACCOUNT")]
Strategy = Annotated[str | None, typer.Option(help="only this strategy's orders")]
Symbol = Annotated[str | None, typer.Option(help="only this symbol")]
Key = Annotated[str | None, typer.Option(help="only orders signed by this key")]

_IN_FORCE = ("at", "state", "scope_kind", "scope", "by", "reason")
_JOURNAL = ("at", "kind", "scope_kind", "scope", "by", "reason", "detail")


def named(command: str, by: str | None, reason: str | None) -> tuple[str, str]:
    """Return who and why; a command that stops trading is refused without them, exit 2."""
    if by is None or reason is None:
        missing = " and ".join(name for name, given in (("--by", by), ("--reason", reason)) if given is None)
        raise typer.BadParameter(f"{missing} must be given: corro {command} --by NAME --reason WHY")
    return by.strip(), reason


def remark(client: "OrderClient", scope: "Scope") -> None:
    """Say on stderr which names of a scope nothing here has: what was typed is done, and may not be what was meant."""
    from worker.control.known import unknown_names

    for line in unknown_names(client.database, client.settings, scope.names.items()):
        show.note(f"corro: {line}")


def halt(
    broker: Broker = None,
    account: Account = None,
    strategy: Strategy = None,
    symbol: Symbol = None,
    key: Key = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Stop sending at once: queued orders, and those claimed and not yet sent, are denied, or go to another broker.

    Without a scope: everything. Cancels still pass, and replaces that only make an order smaller or less aggressive.
    What is live at a broker stays: `corro kill` cancels it.
    """
    _stop("halt", by, reason, json, broker=broker, account=account, strategy=strategy, symbol=symbol, key=key)


def reduce(
    broker: Broker = None,
    account: Account = None,
    strategy: Strategy = None,
    symbol: Symbol = None,
    key: Key = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Let only closing orders through (sell, buy_to_cover), and what a halt does; it takes a halt's place."""
    _stop("reduce", by, reason, json, broker=broker, account=account, strategy=strategy, symbol=symbol, key=key)


def drain(
    name: Annotated[str, typer.Argument(help="a broker")],
    reason: Annotated[str, typer.Option(help="kept for ever")] = "draining",
    by: By = None,
    json: Json = False,
) -> None:
    """Let a broker take nothing new: what waits for it goes to the next one; what is live there stays."""
    _stop("drain", operator(by), reason, json, broker=name)


def _stop(kind: str, by: str | None, reason: str | None, json: bool, **names: str | None) -> None:
    from models.record.controls import NOUNS, in_force
    from worker.control.controls import stop
    from worker.control.scopes import Scope, must_be_there

    who, why = named(kind, by, reason)
    with client() as c:
        scope = Scope.of(**names)
        if kind == "drain":  # what waits goes elsewhere: that is no brake
            must_be_there(c.settings, scope)
        stop(c.database, scope, kind, why, who)
        with c.database.read() as connection:
            rows = [
                row for row in in_force(connection) if (row["scope_kind"], row["scope"]) == (scope.kind, scope.text)
            ]
        remark(c, scope)
    if json:
        drains = kind == "drain"
        show.document(next((row for row in rows if (NOUNS[row["state"]] == "drain") is drains), None))
    else:
        show.say(f"{kind}: {scope.words}; `{scope.resume}` ends it")


def resume(
    name: Annotated[str | None, typer.Argument(help="a broker, as --broker")] = None,
    broker: Annotated[str | None, typer.Option(help="end the control and the drain of this broker")] = None,
    account: Annotated[str | None, typer.Option(help="end that of this account")] = None,
    strategy: Annotated[str | None, typer.Option(help="end that of this strategy")] = None,
    symbol: Annotated[str | None, typer.Option(help="end that of this symbol")] = None,
    key: Annotated[str | None, typer.Option(help="end that of this key")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="end every control and drain, whoever set it")] = False,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """End the control of everything; with a scope that scope's. What it does not name stays in force."""
    from models.record.controls import NOUNS, in_force
    from worker.control.controls import resume as end
    from worker.control.scopes import Scope
    from worker.control.scopes import scope_of as about

    who, why = named("resume", by, reason)
    given = {"broker": broker or name, "account": account, "strategy": strategy, "symbol": symbol, "key": key}
    if everyone and any(value is not None for value in given.values()):
        raise typer.BadParameter("say either a scope or --all")
    with client() as c:
        scope = None if everyone else Scope.of(**given)
        ended = end(c.database, scope, by=who, reason=why)
        with c.database.read() as connection:
            left = in_force(connection)
    words = ", ".join(f"{NOUNS[row['state']]} of {about(row).words}" for row in ended)
    if json:
        show.document(ended)
    else:
        show.say(f"resumed: {words or 'nothing was stopped in that scope'}")
    for row in left:
        what = f"{NOUNS[row['state']]} of {about(row).words}"
        show.note(f"still in force: {what} (by {row['by']}: {row['reason']})")


def controls(
    log: Annotated[bool, typer.Option("--log", help="the journal instead: who did what, when and why")] = False,
    since: Since = None,
    until: Until = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List what is halted, what may only reduce, and what is drained."""
    from models.record.controls import v_controls
    from models.record.tables import control_events

    form = Form(json, out, wide)
    with history() as h:
        found = h.rows(
            control_events if log else v_controls, newest_first=log,
            since=moment("--since", since), until=moment("--until", until),
        )  # fmt: skip
    tell(found, _JOURNAL if log else _IN_FORCE, form, title="controls")
