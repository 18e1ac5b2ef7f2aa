"""`corro kill`: stop and cancel everything in a scope, and watch until the brokers show nothing live."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import DatabaseUnavailable
from producers.cli import show
from producers.cli.app import Json, client, seconds
from worker.cli.controls import Account, Broker, By, Key, Reason, Strategy, Symbol, named, remark

if TYPE_CHECKING:
    from models.history import Row
    from models.record.controls import ControlRow, KillRow
    from models.record.database import Connection
    from producers.client import OrderClient
    from worker.control.kill import Left

_EVERY_S = 1.0
_COLUMNS = ("client_order_id", "status", "broker", "symbol", "side", "quantity", "filled_quantity", "strategy")


@dataclass
class Progress:
    """How far a kill is.

    Args:
        left: rows of what is live in its scope.
        closing: rows of its own closing orders.
        waits: broker -> why it is not done.
        notes: what a person should know of brokers that cannot be asked and have nothing live by the record.
    """

    left: list["Row"] = field(default_factory=list)
    closing: list["Row"] = field(default_factory=list)
    waits: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing is live, no broker is waited for, and every closing order has ended."""
        return not self.left and not self.waits and all(row["ended"] for row in self.closing)

    @property
    def words(self) -> str:
        """One line for a person."""
        by_broker: dict[str, int] = {}
        for row in self.left:
            by_broker[row["broker"]] = by_broker.get(row["broker"], 0) + 1
        live = ", ".join(f"{count} at {name}" for name, count in sorted(by_broker.items())) or "nothing live"
        closing = [row for row in self.closing if not row["ended"]]
        parts = [f"left: {live}", *([f"closing: {len(closing)}"] if closing else [])]
        return "; ".join([*parts, *(f"{name}: {why}" for name, why in self.waits.items())])


def kill(
    broker: Broker = None,
    account: Account = None,
    strategy: Strategy = None,
    symbol: Symbol = None,
    key: Key = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="then close the positions, strategy by strategy")] = False,
    collar: Annotated[str | None, typer.Option(metavar="PCT", help="with --flatten: limit orders so far away")] = None,
    external: Annotated[
        bool, typer.Option("--external", help="also what corro did not send, and nobody holds")
    ] = False,
    patience: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to watch")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Halt a scope and cancel everything that is live there; without a scope: everything. It stays halted until resume.

    Prints each second what is left. Exit 1: the patience is over, and something is left (the workers go on). They also
    go on where this command is stopped.
    """
    from worker.control.scopes import Scope

    who, why = named("kill", by, reason)
    percent = _percent(collar, flatten)
    with client() as c:
        scope = Scope.of(broker=broker, account=account, strategy=strategy, symbol=symbol, key=key)
        if not yes and sys.stdin.isatty() and sys.stderr.isatty():
            more = " and close the positions" if flatten else ""
            typer.confirm(f"Halt {scope.words}, cancel everything live there{more}?", abort=True, err=True)
        from worker.control.kill import begin

        asked: KillRow = {"flatten": flatten, "collar": percent, "external": external}
        begun = begin(c.database, scope, by=who, reason=why, kill=asked)
        show.note(begun.words)
        remark(c, scope)
        c.ring_for_cancels(begun.wished)
        deadline, seen = time.monotonic() + patience, Progress(waits={"*": "not read yet"})
        while True:
            seen = _look(c, scope.kind, scope.text, seen)
            show.note(seen.words)
            if seen.is_over or time.monotonic() >= deadline:
                break
            time.sleep(min(_EVERY_S, max(deadline - time.monotonic(), 0.0)))
        _tell(seen, {"scope_kind": scope.kind, "scope": scope.text, "by": who, "reason": why}, len(begun.wished), json)
    raise typer.Exit(0 if _succeeded(seen) else 1)


def _percent(collar: str | None, flatten: bool) -> str | None:
    if collar is None:
        return None
    from worker.control.kill import collar_of

    if (percent := collar_of(collar, flatten=flatten)) is None:
        raise typer.BadParameter(f"--collar is a percentage between 0 and 100, with --flatten; was {collar!r}")
    return percent


def _succeeded(seen: Progress) -> bool:
    return seen.is_over


# -- WATCH ---
def _look(c: "OrderClient", kind: str, text: str, before: Progress) -> Progress:
    """Read how far it is; a record that cannot be read now is no reason to stop watching."""
    from models.record.controls import in_force
    from worker.control.kill import left_of

    try:
        with c.database.read() as connection:
            found = [row for row in in_force(connection) if (row["scope_kind"], row["scope"]) == (kind, text)]
            control = next((row for row in found if row["kill"] is not None), None)
            if control is None:
                return Progress(before.left, before.closing, {"*": "its control was ended by somebody"}, {})
            left, closing = left_of(connection, control), _closing(connection, control)
        return _progress(c, control, left, closing)
    except DatabaseUnavailable as error:
        return Progress(before.left, before.closing, {"*": f"the database cannot be read: {error}"}, before.notes)


def _closing(connection: "Connection", control: "ControlRow") -> "list[Row]":
    from models.record.reading import orders_beginning
    from models.vocabulary import TERMINAL
    from worker.control.kill import closing_prefix

    rows = orders_beginning(connection, closing_prefix(control["generation"]))
    return [_row(row) | {"reason": row["reason"], "ended": row["status"] in TERMINAL} for row in rows]


def _progress(c: "OrderClient", control: "ControlRow", left: "Left", closing: "Sequence[Row]") -> Progress:
    from models.record.evidence import unreachable
    from worker.control.kill import is_open_at

    rows = [_row(row) for row in left.orders]
    rows += [{"client_order_id": id_, "status": "stray", "broker": name} for name, id_ in left.strays]
    rows += [_row(row) | {"client_order_id": row["broker_order_id"], "status": "external"} for row in left.external]
    seen = Progress(rows, [dict(row) for row in closing])
    kill = control["kill"] or {}
    for name in sorted({*c.settings.all_brokers, *(row["broker"] for row in rows)}):
        if not is_open_at(control, name):
            continue
        away = unreachable(c.database, name, c.settings.timing.dead_after)
        if away and not any(row["broker"] == name for row in rows) and not (kill.get("flatten") and _holds(c, name)):
            seen.notes[name] = f"cannot be asked ({away}); nothing is live there by the record"
        else:
            seen.waits[name] = away or kill.get("troubles", {}).get(name) or "not clear yet"
    return seen


def _holds(c: "OrderClient", broker: str) -> bool:
    from models.destinations import broker_of
    from models.record.holders import positions_shown

    with c.database.read() as connection:
        here = (where for where in c.settings.destinations if broker_of(where) == broker)
        return any(positions_shown(connection, where) for where in here)


def _row(row: Mapping[str, object]) -> "Row":
    return {name: row.get(name) for name in _COLUMNS}


def _tell(seen: Progress, about: Mapping[str, str], wished: int, json: bool) -> None:
    for name, why in seen.notes.items():
        show.note((f"{name}: {why}", "yellow"))
    for row in seen.closing:
        if row["ended"] and row["status"] != "filled" and not seen.is_over:
            show.note((f"not closed: {row['symbol']} at {row['broker']}: {row['status']}, {row['reason']}", "red"))
    if json:
        brokers = {"waits": seen.waits, "unreachable": seen.notes}
        told = {"ok": _succeeded(seen), "wished": wished, "left": seen.left, "closing": seen.closing}
        show.document({**about, **told, **brokers})
        return
    if seen.left:
        show.rows(seen.left, _COLUMNS, title="left")
    elif seen.is_over:
        show.say(
            "nothing is live in that scope", *([f"; {len(seen.closing)} positions closed"] if seen.closing else [])
        )
