"""A kill: halted, and then a cancel wished of everything that is live; what is left is for the leaders.

The control itself says what is asked (`controls.kill`), so whoever leads a broker goes on with it when the command that
began it is gone (`worker.orders.kills`). It is done at a broker when that shows nothing live in its scope and, where
positions were to be closed, none that a strategy holds; its scope stays halted, or reducing, until somebody resumes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from sqlalchemy import ColumnElement, Connection, select, update

from models.destinations import destination_of
from models.errors import DatabaseUnavailable, InvalidRequest
from models.fields import positive_number
from models.record.batch import OrderBatch
from models.record.controls import REDUCING, ControlRow, KillRow
from models.record.database import Database
from models.record.holders import Closing
from models.record.order import OrderRecord, cancel
from models.record.rows import ExternalOrderRow, OrderRow
from models.record.statements import fetch
from models.record.tables import STRAY, attempts, controls, external_orders, orders
from models.reports import DONE, BrokerStatus
from models.vocabulary import CLOSING, OPEN, Side
from worker.control.controls import put
from worker.control.scopes import Scope, facts_of, scope_of
from worker.runtime.clock import utcnow

_OPEN = [str(status) for status in OPEN]
_DONE = [str(status) for status in (*DONE, BrokerStatus.UNKNOWN)]
#: Closing orders of one position, one after the other, before a person is asked.
MOST_TRIES = 3
#: Ids of them that are known as such: somebody else may have used some up.
_MOST_IDS = 100
_NONE = Decimal(0)
#: Kinds of scopes that hold no positions of their own.
UNHELD = frozenset({"key"})


@dataclass(frozen=True, slots=True)
class Left:
    """What is live in a kill's scope."""

    orders: Sequence[OrderRow] = ()
    #: Orders that trade on attempts which had been given up: (broker, client_order_id).
    strays: Sequence[tuple[str, str]] = ()
    #: Orders that corro did not send.
    external: Sequence[ExternalOrderRow] = ()

    def __bool__(self) -> bool:
        return bool(self.orders or self.strays or self.external)


@dataclass(frozen=True, slots=True)
class Begun:
    """A kill whose halt is committed.

    Args:
        scope: what is stopped.
        generation: of its control.
        wished: orders whose cancel is wished, those included that were still queued and have ended.
        waits: why no cancel was wished, where the leaders have to do that.
    """

    scope: Scope
    generation: int
    wished: Sequence[OrderRecord] = ()
    waits: str | None = None

    @property
    def words(self) -> str:
        """What was done, for a person."""
        return f"killed: {self.scope.words}; {self.waits or f'{len(self.wished)} cancels wished'}"


def begin(database: Database, scope: Scope, *, by: str, reason: str, kill: KillRow) -> Begun:
    """Begin a kill: halt its scope, and then wish the cancels.

    The halt is committed first: an order that somebody else holds just now keeps nobody from stopping.

    Args:
        database: the record.
        scope: what is stopped.
        by: who.
        reason: why.
        kill: what is asked of the leaders.

    Raises:
        InvalidRequest: nobody can tell which positions are of this scope.
        DatabaseUnavailable: nothing is halted.
    """
    if kill.get("flatten") and (unheld := UNHELD & set(scope.names)):
        raise InvalidRequest(
            f"no position is of {' or '.join(sorted(unheld))} alone: strategies hold positions at brokers. "
            "Kill without flatten, and flatten with a strategy, a symbol or a broker"
        )
    asked = ", ".join(name for name in ("flatten", "external") if kill.get(name)) or "cancels"
    wanted: KillRow = {**kill, "done": []}
    halted = partial(put, scope=scope, kind="kill", by=by, reason=reason, kill=wanted, detail=asked)
    generation = database.transact(lambda connection: halted(connection))
    try:
        wished = database.transact(lambda connection: _wish(connection, scope, generation, by, reason))
    except DatabaseUnavailable as error:
        return Begun(scope, generation, waits=str(error))
    return Begun(scope, generation, wished)


def collar_of(text: str, *, flatten: bool) -> str | None:
    """Read how far from the market closing orders may be, percent; None where it says nothing that can be meant."""
    try:
        percent = positive_number(text)
    except ValueError:
        return None
    return str(percent) if flatten and percent < 100 else None


def _wish(connection: Connection, scope: Scope, generation: int, by: str, reason: str) -> list[OrderRecord]:
    rows = live_orders(connection, scope, generation)
    batch = OrderBatch.open(connection, [row["client_order_id"] for row in rows], utcnow())
    for entry in batch.entries.values():
        cancel(entry, words(by, reason))
    batch.write()
    return list(batch.entries.values())


def words(by: str | None, reason: str | None) -> str:
    """Say in an order's history why its cancel was wished."""
    return f"killed by {by}: {reason}"


# -- WHAT IS LIVE ---
def live_orders(
    connection: Connection, scope: Scope, generation: int, broker: str | None = None, *, unasked: bool = False
) -> list[OrderRow]:
    """Return the orders in a scope that have not ended, without the kill's own closing orders.

    Args:
        connection: to the record.
        scope: of the kill.
        generation: of the kill.
        broker: only there; None is everywhere.
        unasked: only those of which nobody has wished a cancel yet.
    """
    which: list[ColumnElement[bool]] = [orders.c.status.in_(_OPEN)]
    which += [orders.c.broker == broker] if broker is not None else []
    which += [orders.c.cancel_requested_at.is_(None)] if unasked else []
    rows = fetch(connection, select(orders).where(*which).order_by(orders.c.client_order_id), OrderRow)
    found = (row for row in rows if scope.covers(facts_of(row, row["broker"] or "")))
    return [row for row in found if not is_its_own(row, generation)]


def left_of(connection: Connection, control: ControlRow, broker: str | None = None) -> Left:
    """Return what the record shows live in a kill's scope, at one broker or at all."""
    scope, generation, kill = scope_of(control), control["generation"], control["kill"] or {}
    here = [attempts.c.broker == broker] if broker is not None else []
    joined = select(orders, attempts.c.broker.label("at"), attempts.c.account.label("in_account")).join_from(
        attempts, orders, attempts.c.client_order_id == orders.c.client_order_id
    )
    found = connection.execute(joined.where(STRAY, *here)).mappings()
    placed = [(row["at"], row["client_order_id"], {**row, "account": row["in_account"]}) for row in found]
    strays = [(at, id_) for at, id_, row in placed if scope.covers(facts_of(row, at))]
    external = live_external(connection, scope, broker) if kill.get("external") else []
    return Left(live_orders(connection, scope, generation, broker), strays, external)


def live_external(connection: Connection, scope: Scope, broker: str | None = None) -> list[ExternalOrderRow]:
    """Return other people's orders in a scope; a strategy's or a key's scope has none."""
    if {"strategy", "key"} & set(scope.names):
        return []
    which: list[ColumnElement[bool]] = [external_orders.c.status.not_in(_DONE)]
    which += [external_orders.c.broker == broker] if broker is not None else []
    rows = fetch(connection, select(external_orders).where(*which), ExternalOrderRow)
    return [row for row in rows if scope.covers(facts_of(row, row["broker"]))]


# -- HOW FAR IT IS ---
def is_open_at(control: ControlRow, broker: str) -> bool:
    """Tell whether a kill still has something to do at a broker."""
    names = scope_of(control).names
    there = names.get("broker", broker) == broker and names.get("account", f"{broker}:").startswith(f"{broker}:")
    return control["kill"] is not None and there and broker not in control["kill"].get("done", ())


def note(
    connection: Connection, control: ControlRow, broker: str, *, done: bool = False, trouble: str | None = None
) -> None:
    """Write how far a kill is at a broker, unless another control has taken its place."""
    row = _locked(connection, control)
    if row is None or row["kill"] is None:
        return
    kill = row["kill"]
    troubles = {name: said for name, said in kill.get("troubles", {}).items() if name != broker}
    news: KillRow = {**kill, "troubles": troubles | ({broker: trouble} if trouble else {})}
    if done:
        news["done"] = sorted({*kill.get("done", []), broker})
    if news != kill:
        connection.execute(update(controls).where(_same(control)).values(kill=news))


def let_close(connection: Connection, control: ControlRow) -> None:
    """Let closing orders pass, as the kill has asked: halted becomes reducing."""
    if _locked(connection, control) is not None:
        connection.execute(update(controls).where(_same(control)).values(state=REDUCING))


def _same(control: ControlRow) -> ColumnElement[bool]:
    c = controls.c
    here = (c.scope_kind == control["scope_kind"]) & (c.scope == control["scope"])
    return here & (c.generation == control["generation"])


def _locked(connection: Connection, control: ControlRow) -> ControlRow | None:
    query = select(controls).where(_same(control)).with_for_update()
    return next(iter(fetch(connection, query, ControlRow)), None)


# -- CLOSING ORDERS ---
def closing_prefix(generation: int) -> str:
    """Return how the ids of a kill's own closing orders begin."""
    return f"flatten-{generation}-"


def closing_id(generation: int, closing: Closing, number: int) -> str:
    """Return the id of a closing order: the same whoever records it, so that nothing is closed twice.

    Args:
        generation: of the kill.
        closing: what is to be closed, and where.
        number: 1, or a higher one where others have ended and left something to close.
    """
    whole = "\0".join((closing.where, closing.symbol, closing.side, closing.strategy or "", str(number)))
    return closing_prefix(generation) + hashlib.sha256(whole.encode()).hexdigest()[:16]


def is_its_own(row: OrderRow, generation: int) -> bool:
    """Tell whether an order is a closing order of a kill: what only bears such a name is killed like any other."""
    if not row["client_order_id"].startswith(closing_prefix(generation)) or row["side"] not in CLOSING:
        return False
    closing = Closing(row["symbol"] or "", Side(row["side"]), _NONE, row["strategy"], destination_of(row))
    return any(row["client_order_id"] == closing_id(generation, closing, no + 1) for no in range(_MOST_IDS))


def is_about(row: OrderRow, closing: Closing) -> bool:
    """Tell whether a closing order was one for the same position."""
    theirs = (row["symbol"], row["side"], row["strategy"], destination_of(row))
    return theirs == (closing.symbol, closing.side, closing.strategy, closing.where)
