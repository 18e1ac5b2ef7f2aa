"""`corro halt`, `drain`, `resume` and `controls`: what people do to trading, and the journal of what they did."""

from typing import Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, client, history, operator, tell

By = Annotated[str | None, typer.Option(help="who; default the login name")]
Reason = Annotated[str | None, typer.Option(help="why; kept for ever")]

_IN_FORCE = ("at", "kind", "scope", "by", "reason")
_JOURNAL = ("at", "kind", "scope_kind", "scope", "by", "reason", "detail")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (halt, drain, resume, controls):
        app.command()(command)


def halt(
    broker: Annotated[str | None, typer.Option(help="only this broker; default all")] = None,
    reason: Annotated[str, typer.Option(help="kept with the orders it denies")] = "halted by an operator",
    by: By = None,
) -> None:
    """Stop sending at once: queued orders, and those claimed and not yet sent, are denied, or go to another broker.

    Cancels still pass, and replaces that only make an order smaller or less aggressive.
    """
    _stop("halt", broker, reason, by)


def drain(
    name: Annotated[str, typer.Argument(help="a broker")],
    reason: Annotated[str, typer.Option(help="kept for ever")] = "draining",
    by: By = None,
) -> None:
    """Let a broker take nothing new: what waits for it goes to the next one; what is live there stays."""
    _stop("drain", name, reason, by)


def _stop(kind: str, broker: str | None, reason: str, by: str | None) -> None:
    """Stop one broker, or all."""
    from worker.fleet.halts import EVERYTHING, stop

    with client() as c:
        if broker:
            c.settings.broker(broker)
        stop(c.database, broker or EVERYTHING, kind, reason, operator(by))
    ends = f"corro resume --broker {broker}" if broker else "corro resume"
    show.say(f"{kind}: {broker or 'all brokers'}; `{ends}` ends it")


def resume(
    name: Annotated[str | None, typer.Argument(help="a broker, as --broker")] = None,
    broker: Annotated[str | None, typer.Option(help="end the halt and the drain of this broker")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="end every halt and drain, whoever set it")] = False,
    by: By = None,
    reason: Reason = None,
) -> None:
    """End the halt of all brokers; with --broker that broker's halt and drain. What it does not name stays in force."""
    from worker.fleet.halts import EVERYTHING, in_force
    from worker.fleet.halts import resume as end

    broker = broker or name
    if everyone and broker:
        raise typer.BadParameter("say either --broker or --all")
    with client() as c:
        if broker:
            c.settings.broker(broker)
        ended = end(c.database, None if everyone else broker or EVERYTHING, by=operator(by), reason=reason)
        with c.database.read() as connection:
            left = in_force(connection)
    words = ", ".join(f"{row['kind']} {row['scope']}" for row in ended)
    show.say(f"resumed: {words or 'nothing was stopped in that scope'}")
    for row in left:
        show.note(f"still in force: {row['kind']} {row['scope']} (by {row['by']}: {row['reason']})")


def controls(
    log: Annotated[bool, typer.Option("--log", help="the journal instead: who did what, when and why")] = False,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List the halts and drains in force."""
    from models.record.tables import control_events, halts

    form = Form(json, out, wide)
    with history() as h:
        found = h.rows(control_events if log else halts, newest_first=log)
    tell(found, _JOURNAL if log else _IN_FORCE, form, title="controls")
