"""Every command of the line, in the order in which `corro --help` shows them: whoever adds one adds a line here.

A command is a function: its parameters are the arguments and options, its docstring is the help, and it exits by
`typer.Exit`. What brokers, queue and record need is imported in its body, so that no command waits for another one's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import typer

from producers.cli import accounts, data, earnings, events, exports, groups, instruments, lists, logs, orders, preview
from worker.cli import (
    approvals,
    archive,
    assistant,
    check,
    completion,
    controls,
    db,
    dead_letters,
    fleet,
    imports,
    keys,
    kill,
    limits,
    locks,
    notify,
    resolve,
    running,
    sandbox,
    traces,
    watch,
    web,
)

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Subcommands:
    """Commands behind one name.

    Args:
        help: what they are for.
        commands: by their names.
        first: runs before each of them, and where none is named.
    """

    help: str
    commands: Mapping[str, Command]
    first: Command | None = None


#: By the headings of the help.
COMMANDS: Mapping[str, Mapping[str, Command | Subcommands]] = {
    "Orders": {
        "submit": orders.submit,
        "preview": preview.preview,
        "cancel": orders.cancel,
        "replace": orders.replace,
        "close": orders.close,
        "bracket": groups.bracket,
        "oco": groups.oco,
        "approve": approvals.approve,
        "deny": approvals.deny,
    },
    "What became of them": {
        "orders": lists.orders,
        "order": lists.order,
        "groups": groups.groups,
        "fills": lists.fills,
        "attempts": lists.attempts,
        "events": events.events,
        "logs": logs.logs,
        "watch": watch.watch,
        "traces": traces.traces,
    },
    "Markets and accounts": {
        "quote": data.quote,
        "bars": data.bars,
        "instruments": instruments.instruments,
        "positions": data.positions,
        "account": data.account,
    },
    "Results": {
        "pnl": earnings.pnl,
        "tca": earnings.tca,
        "equity": accounts.equity,
        "cash": accounts.cash,
        "report": earnings.report,
        "export": exports.write,
        "import": Subcommands("Take into the record what a broker tells by file.", {"flex": imports.flex}),
        "archive": archive.archive,
    },
    "What may trade": {
        "halt": controls.halt,
        "reduce": controls.reduce,
        "drain": controls.drain,
        "resume": controls.resume,
        "controls": controls.controls,
        "kill": kill.kill,
        "limits": Subcommands(
            "Limits: what is allowed, used and left; `set` and `clear` change them.",
            {"set": limits.set_limit, "clear": limits.clear_limit},
            first=limits.listing,
        ),
        "keys": Subcommands(
            "Keys of those who may trade.",
            {"add": keys.add_key, "list": keys.list_keys, "revoke": keys.revoke_key},
        ),
    },
    "What needs a person": {
        "unresolved": lists.unresolved,
        "resolve": resolve.resolve,
        "settle": resolve.settle,
        "external": lists.external,
        "locks": locks.locks,
        "unlock": locks.unlock,
        "dead-letters": dead_letters.dead_letters,
        "notify": Subcommands("Tell people when something needs them.", {"test": notify.try_out}),
    },
    "The fleet": {
        "up": running.up,
        "worker": running.worker,
        "web": web.web,
        "mcp": assistant.mcp,
        "fleet": fleet.fleet,
        "check": check.check,
        "db": Subcommands(
            "The database's schema.", {"upgrade": db.upgrade, "check": db.check, "verify": db.verify, "copy": db.copy}
        ),
    },
    "Trying it out": {
        "demo": running.demo,
        "sandbox": Subcommands(
            "Run the simulated market with its doors: TWS, Alpaca, TDA, Schwab and the control door; or trouble it.",
            {
                "fault": sandbox.fault,
                "clear": sandbox.clear,
                "faults": sandbox.faults,
                "ledger": sandbox.ledger,
                "price": sandbox.price,
                "position": sandbox.position,
            },
            first=sandbox.run,
        ),
        "completion": completion.completion,
    },
}


def add_all(app: typer.Typer) -> None:
    """Give the command line its commands."""
    for heading, commands in COMMANDS.items():
        for name, command in commands.items():
            if isinstance(command, Subcommands):
                app.add_typer(_behind(command), name=name, rich_help_panel=heading)
            else:
                app.command(name, rich_help_panel=heading)(command)


def _behind(these: Subcommands) -> typer.Typer:
    alone = these.first is not None
    app = typer.Typer(help=these.help, no_args_is_help=not alone, invoke_without_command=alone)
    if these.first is not None:
        app.callback()(these.first)
    for name, command in these.commands.items():
        app.command(name)(command)
    return app
