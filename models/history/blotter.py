"""The newest orders with their attempts and fills, as a screen shows them: bounded work, however many orders there are.

Each choice is answered by one index, or is looked for among the newest `WINDOW` orders alone; where that is so, the
answer says how far back it has looked, and from where to look on. Orders that have not ended are few and always found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, or_, select

from models.history.views import QueryOf, Row, v_attempts, v_fills, v_orders
from models.record.asking import Questionnaire
from models.record.database import Database
from models.record.statements import Query, among
from models.record.tables import attempts, orders
from models.vocabulary import OPEN, Outcome

#: Orders among which is looked for what no index finds.
WINDOW = 50_000
#: Orders whose id, or whose broker's id, may fit a text.
_MOST_IDS = 1000
_O, _A = orders.c, attempts.c
_OPEN = frozenset(map(str, OPEN))


class Listed(NamedTuple):
    """An order's place in the list: by the time it was made, then by its id."""

    at: datetime
    client_order_id: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which orders are wanted.

    Args:
        statuses: any of these; none is all.
        broker, strategy, symbol: theirs.
        text: their id, or their id at a broker, begins with it; or it stands in their reason, in their strategy, or in
            what a broker said of them.
        since: made then or later.
        until: made before then.
        before: only what stands behind this place in the list.
        limit: at most so many.
    """

    statuses: tuple[str, ...] = ()
    broker: str | None = None
    strategy: str | None = None
    symbol: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: Listed | None = None
    limit: int = 50

    @property
    def needs_a_window(self) -> bool:
        """Whether no index leads to its newest orders."""
        if self.statuses and _OPEN.issuperset(self.statuses):
            return False
        indexed = [name for name in (self.statuses, self.strategy, self.symbol) if name]
        return bool(self.broker or self.text) or len(indexed) > 1

    def plain(self) -> list[ColumnElement[bool]]:
        """Return its conditions but for statuses and text."""
        equal = {"broker": self.broker, "strategy": self.strategy, "symbol": self.symbol}
        found = [_O[name] == value for name, value in equal.items() if value]
        if self.since is not None:
            found.append(_O.created_at >= self.since)
        if self.until is not None:
            found.append(_O.created_at < self.until)
        if self.before is not None:
            at, id_ = self.before
            found += [_O.created_at <= at, or_(_O.created_at < at, _O.client_order_id < id_)]
        return found


@dataclass(frozen=True, slots=True)
class OrderPage:
    """Some orders, the newest first.

    Args:
        rows: the columns of `v_orders`, with `attempts` and `fills` of `v_attempts` and `v_fills`, oldest first.
        older: what stands behind this place comes next; None where there is no more.
        looked_since: nothing older was looked at; None where everything was.
    """

    rows: list[Row]
    older: Listed | None
    looked_since: datetime | None


def blotter(database: Database, choice: Choice, brokers: Collection[str] = ()) -> OrderPage:
    """Return the newest orders of a choice.

    Args:
        database: the record.
        choice: which.
        brokers: whose order ids a text may begin.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    with database.read() as connection:
        edge = _edge(connection, choice) if choice.needs_a_window else None
        places = sorted(set(_places(connection, choice, edge, brokers)), reverse=True)[: choice.limit]
        rows = _whole(connection, [place.client_order_id for place in places])
    if len(places) == choice.limit:
        return OrderPage(rows, places[-1], edge)
    return OrderPage(rows, Listed(edge, "") if edge else None, edge)


def _edge(connection: Connection, choice: Choice) -> datetime | None:
    """Return when the oldest order of the window was made; None where the window holds all that can be wanted."""
    query = select(_O.created_at).order_by(_O.created_at.desc()).offset(WINDOW - 1).limit(1)
    last = [at for at in (choice.until, choice.before and choice.before.at) if at is not None]
    if last:
        query = query.where(_O.created_at <= min(last))
    edge: datetime | None = connection.execute(query).scalar()
    return None if edge is None or (choice.since is not None and choice.since >= edge) else edge


def _places(
    connection: Connection, choice: Choice, edge: datetime | None, brokers: Collection[str]
) -> Iterator[Listed]:
    plain = choice.plain()
    near = [] if edge is None else [_O.created_at >= edge]
    if not choice.text:
        for status in choice.statuses or (None,):  # one by one, each is in the order of an index
            which = [] if status is None else [_O.status == status]
            yield from _newest(connection, choice, *plain, *near, *which)
        return
    if choice.statuses:
        plain.append(_O.status.in_(choice.statuses))
    for found in _ids(connection, choice.text, brokers):
        yield from _newest(connection, choice, *plain, _O.client_order_id.in_(found))
    said = [column.icontains(choice.text, autoescape=True) for column in (_O.reason, _O.strategy)]
    yield from _newest(connection, choice, *plain, *near, or_(*said))
    told = [_A.message.icontains(choice.text, autoescape=True), _A.code == choice.text]
    begin = edge or choice.since
    recent = [] if begin is None else [_A.started_at >= begin]
    joined = _ordered(choice).join(attempts, _A.client_order_id == _O.client_order_id)
    yield from _read(connection, joined.where(*plain, *near, *recent, or_(*told)))


def _ids(connection: Connection, text: str, brokers: Collection[str]) -> Iterator[list[str]]:
    """Yield the orders whose id begins with a text, and those whose id at a broker does."""
    sorts_by_bytes = connection.dialect.name == "sqlite"
    mine = select(_O.client_order_id).where(*_begins(_O.client_order_id, text, sorts_by_bytes))
    told = _begins(_A.broker_order_id, text, sorts_by_bytes)
    theirs = (select(_A.client_order_id).where(_A.broker == broker, *told) for broker in brokers)
    for query in (mine, *theirs):
        if found := list(connection.execute(query.limit(_MOST_IDS)).scalars()):
            yield found


def _begins(column: Column[str | None], text: str, sorts_by_bytes: bool) -> list[ColumnElement[bool]]:
    """Say that a column begins with a text, so that its index answers; where it ends, only the order of bytes says."""
    last = [column < f"{text}\U0010ffff"] if sorts_by_bytes else []
    return [column >= text, *last, column.startswith(text, autoescape=True)]


def _ordered(choice: Choice) -> QueryOf:
    newest_first = (_O.created_at.desc(), _O.client_order_id.desc())
    return select(_O.created_at, _O.client_order_id).order_by(*newest_first).limit(choice.limit)


def _newest(connection: Connection, choice: Choice, *which: ColumnElement[bool]) -> list[Listed]:
    return _read(connection, _ordered(choice).where(*which))


def _read(connection: Connection, query: QueryOf) -> list[Listed]:
    return [Listed(row.created_at, row.client_order_id) for row in connection.execute(query)]


#: The orders of a list and their parts: each plan is made once, however many ids there are.
_ORDERS = Query(select(v_orders).where(among(v_orders.c.client_order_id, "ids")))
_PARTS = {
    part: Query(select(view).where(among(view.c.client_order_id, "ids")).order_by(view.c[order]))
    for part, view, order in (("attempts", v_attempts, "attempt_no"), ("fills", v_fills, "filled_at"))
}


def _whole(connection: Connection, ids: list[str]) -> list[Row]:
    """Return these orders, in this order, each with its attempts and fills."""
    if not ids:
        return []
    asked = Questionnaire(connection)
    by_id: dict[str, Row] = {}
    parts: dict[str, list[Row]] = {}
    asked.ask(_ORDERS, lambda rows: by_id.update({row["client_order_id"]: row for row in rows}), ids=ids)
    for part, query in _PARTS.items():
        asked.ask(query, partial(parts.__setitem__, part), ids=ids)
    asked.answer()
    for row in by_id.values():
        row.update({part: [] for part in _PARTS})
    for part, rows in parts.items():
        for row in rows:
            if (order := by_id.get(row["client_order_id"])) is not None:
                order[part].append(row)
    return [by_id[id_] for id_ in ids if id_ in by_id]


# -- WHAT WAS TURNED AWAY ---
#: Attempts of one broker and outcome that are counted; more are as bad.
_MOST_COUNTED = 100


def turned_away(database: Database, brokers: Collection[str], since: datetime) -> list[Row]:
    """Return what brokers refused, and what was kept from being sent, since a moment: by code, with the newest words.

    Returns:
        Rows of `broker`, `outcome`, `code`, `times` (a number, or "100 or more"), `at`, `message`, the newest first.

    Raises:
        DatabaseUnavailable: the record cannot be read.
    """
    found: dict[tuple[str, str, str], Row] = {}
    with database.read() as connection:
        for broker in brokers:
            for outcome in (str(Outcome.REFUSED), str(Outcome.NOT_SENT)):
                mine = (_A.broker == broker, _A.outcome == outcome, _A.started_at >= since)
                query = select(_A.code, _A.started_at, _A.message).where(*mine)
                for row in connection.execute(query.order_by(_A.started_at.desc()).limit(_MOST_COUNTED)):
                    blank: Row = {"broker": broker, "outcome": outcome, "code": row.code, "times": 0}
                    told = found.setdefault(
                        (broker, outcome, row.code or ""), blank | {"at": row.started_at, "message": row.message}
                    )
                    told["times"] += 1
    for told in found.values():
        if told["times"] >= _MOST_COUNTED:
            told["times"] = f"{_MOST_COUNTED} or more"
    return sorted(found.values(), key=lambda told: told["at"], reverse=True)
