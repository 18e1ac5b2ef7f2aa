"""The statement that claims plain orders and the careful way are one rule: held equal over all states, both databases.

Orders and a world are put into the database; they are claimed as a worker claims them, the statement first, and once
more from the same beginning by the careful way alone. Everything that is then recorded has to be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from models.lifecycle import Event, Fact, State, apply
from models.record.database import Database, upgrade
from models.record.key_tables import keys
from models.record.tables import (
    attempts,
    halts,
    order_events,
    orders,
    position_locks,
    position_snapshots,
    risk_limits,
    workers,
)
from models.settings import BrokerSettings, RoutingSettings, Settings
from models.vocabulary import CLOSING, Denial, Outcome, Side, Status
from tests.kit import PostgresServer
from tests.open_desk import open_desk
from tests.property.ledger import KINDS, BrokerLedger, Seat
from worker.orders import claiming
from worker.orders.desk import BrokerDesk
from worker.orders.selection import named

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
#: The broker of the claim, and another one.
HERE, THERE = "ibkr", "alpaca"
#: Characters of an id that the broker of the claim takes.
LONGEST = 40
EVERY = (order_events, attempts, orders, halts, position_locks, position_snapshots, risk_limits, workers, keys)


@dataclass(frozen=True)
class Waiting:
    """An order's state, as far as a claim may look at it. This one is plain."""

    status: Status = Status.QUEUED
    broker: str = HERE
    #: Seconds from now until it may be claimed, until it is too old, and until a cancel was asked for.
    due: int = 0
    expires: int | None = 60
    cancel: int | None = None
    side: Side = Side.BUY
    symbol: str = "KO"
    #: How attempts before ended, at the other broker and here.
    tried: tuple[tuple[str, Outcome], ...] = ()
    long_id: bool = False
    reason: str | None = None
    code: str | None = None
    #: Of a group of linked orders, whose other legs are not there.
    leg: str | None = None


#: One change of a plain order each; None of them leaves it plain ...
CHANGES: list[dict[str, Any]] = [
    *({"status": status} for status in Status if status is not Status.QUEUED),
    {"broker": THERE},
    {"due": 1},
    {"expires": 0},
    {"expires": -1},
    {"cancel": -1},
    {"side": Side.SELL},
    {"side": Side.BUY_TO_COVER},
    {"long_id": True},
    {"leg": "entry"},
    {"leg": "take_profit"},
    {"code": str(Denial.RATE), "reason": "too many messages"},
    *({"tried": ((broker, outcome),)} for broker, outcome in product((HERE, THERE), Outcome)),
    {"tried": ((THERE, Outcome.REFUSED), (HERE, Outcome.NOT_SENT))},
]
#: ... but these, which leave it as plain as it was.
NOTHING: list[dict[str, Any]] = [
    {}, {"due": -1}, {"expires": None}, {"expires": 1}, {"side": Side.SELL_SHORT}, {"symbol": "PEP"},
    {"reason": "moved here"},
]  # fmt: skip

WAITING = st.lists(st.sampled_from(CHANGES + NOTHING * 2), max_size=3).map(
    lambda changes: replace(Waiting(), **{name: value for change in changes for name, value in change.items()})
)
#: What stops, and what locks: scope and kind; broker and symbol. The first of each stands for nothing.
STOPS = [None, ("*", "halt"), (HERE, "halt"), (HERE, "drain"), (THERE, "halt"), (THERE, "drain")]
LOCKS = [None, (HERE, "KO"), (HERE, "PEP"), (THERE, "KO")]


@dataclass(frozen=True)
class Surroundings:
    """What a claim looks at beside the order."""

    stop: tuple[str, str] | None = None
    lock: tuple[str, str] | None = None
    #: Shares that the broker holds; None: nobody has read its positions.
    held: int | None = None
    sell: str = "closes"
    closed: bool = False
    #: Somebody has set a limit; so large that nothing meets it.
    limited: bool = False
    #: Somebody has a key to sign with, so that it has to be asked who stands behind an order.
    keyed: bool = False

    @property
    def is_plain(self) -> bool:
        stops_here = self.stop is not None and self.stop[0] in ("*", HERE)
        locks_here = self.lock is not None and self.lock[0] == HERE
        return not (self.closed or stops_here or locks_here or self.limited or self.keyed)


WORLDS = st.builds(
    Surroundings,
    stop=st.sampled_from([*[None] * 6, *STOPS]),
    lock=st.sampled_from([*[None] * 4, *LOCKS]),
    held=st.sampled_from([None, 0, 3, 1000, -1000]),
    sell=st.sampled_from(["closes", "closes", "as_ordered"]),
    closed=st.sampled_from([False] * 7 + [True]),
    limited=st.sampled_from([False] * 7 + [True]),
    keyed=st.sampled_from([False] * 7 + [True]),
)


def is_plain(order: Waiting, world: Surroundings) -> bool:
    """The rule in words of its own: what the pure lifecycle would claim, and nothing forbids or doubts."""
    first = apply(State(order.status, Decimal(10), attempt_no=len(order.tried)), Event(Fact.CLAIMED, attempt_no=1))
    in_time = order.expires is None or order.expires > 0
    opens = order.side not in CLOSING or world.sell == "as_ordered"
    mine = order.broker == HERE and order.due <= 0 and not order.long_id
    return (
        world.is_plain
        and first.changed
        and mine
        and in_time
        and order.cancel is None
        and opens
        and order.code is None
        and order.leg is None
    )


class Claimant:
    """A worker's desk over one database, which is made anew for each claim."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.desks = {sell: self._desk(sell) for sell in ("closes", "as_ordered")}

    def _desk(self, sell: str) -> BrokerDesk:
        table = {name: BrokerSettings(adapter="model") for name in (HERE, THERE)}
        made = Settings.model_construct(brokers=table, routing=RoutingSettings(sell=sell))
        seat = Seat(BrokerLedger(HERE, "keeps", None), lambda _name: None, lambda _ticket: None)
        seat.capabilities = replace(KINDS["keeps"], client_order_id_length=LONGEST)
        seat.connect()
        return open_desk(made, self.database, seat)

    def close(self) -> None:
        for desk in self.desks.values():
            desk.close()
        self.database.close()

    def put(self, waiting: list[Waiting], world: Surroundings) -> list[str]:
        """Make the database say just this; returns the ids of the orders."""
        ids = [f"o-{n}" + "x" * (LONGEST * one.long_id) for n, one in enumerate(waiting)]
        with self.database.write() as connection:
            for table in EVERY:
                connection.execute(delete(table))
            connection.execute(insert(orders), [_order(id_, one) for id_, one in zip(ids, waiting, strict=True)])
            if tried := [row for id_, one in zip(ids, waiting, strict=True) for row in _tried(id_, one)]:
                connection.execute(insert(attempts), tried)
            if world.stop:
                scope, kind = world.stop
                connection.execute(insert(halts).values(scope=scope, kind=kind, by="ana", at=NOW))
            if world.lock:
                broker, symbol = world.lock
                figures = {"expected": Decimal(5), "found": Decimal(7), "since": NOW, "read_at": NOW}
                connection.execute(insert(position_locks).values(broker=broker, symbol=symbol, **figures))
            if world.limited:
                limit = {"scope_kind": "*", "scope": "*", "name": "max_quantity", "value": "1000000"}
                connection.execute(insert(risk_limits).values(**limit, set_by="ana", reason="a test", set_at=NOW))
            if world.keyed:
                key = {"key_id": "k-1", "alg": "ed25519", "public_key": "A" * 43, "owner": "ana", "added_at": NOW}
                connection.execute(insert(keys).values(**key))
            if world.held is not None:
                at = {"started_at": NOW, "heartbeat_at": NOW, "positions_at": NOW}
                who = {"worker": "w", "broker": HERE, "host": "h", "boot": "b", "pid": 1, "state": "ready"}
                connection.execute(insert(workers).values(**who, **at))
                held = {"broker": HERE, "symbol": "KO", "quantity": Decimal(world.held), "taken_at": NOW}
                connection.execute(insert(position_snapshots).values(**held))
        return ids

    def recorded(self) -> dict[str, list[dict[str, Any]]]:
        """Return all rows that a claim writes, without the numbers of events."""
        found = {}
        with self.database.read() as connection:
            for table, order in ((orders, ()), (attempts, (attempts.c.attempt_no,)), (order_events, ("id",))):
                rows = connection.execute(select(table).order_by(table.c.client_order_id, *order)).mappings()
                found[table.name] = [{n: v for n, v in row.items() if n != "id"} for row in rows]
        return found


def _order(id_: str, one: Waiting) -> dict[str, Any]:
    def at(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOW + seconds * SECOND

    return {
        "client_order_id": id_, "version": 1, "symbol": one.symbol, "side": str(one.side), "quantity": Decimal(10),
        "order_type": "market", "time_in_force": "day", "status": str(one.status), "route": [one.broker, THERE],
        "broker": one.broker, "attempt_no": len(one.tried), "filled_quantity": Decimal(0), "body_hash": "0" * 64,
        "available_at": at(one.due), "created_at": NOW - SECOND, "updated_at": NOW - SECOND,
        "expires_at": at(one.expires), "cancel_requested_at": at(one.cancel), "reason": one.reason,
        "reason_code": one.code, "leg": one.leg, "group_id": one.leg and f"g-{id_}",
        "group_kind": one.leg and "bracket",
        "submitted_at": NOW - SECOND if one.tried else None,
    }  # fmt: skip


def _tried(id_: str, one: Waiting) -> list[dict[str, Any]]:
    return [
        {
            "client_order_id": id_, "attempt_no": number, "broker": broker, "broker_client_order_id": id_,
            "outcome": str(outcome), "worker": "w", "started_at": NOW - SECOND, "lease_until": NOW + 20 * SECOND,
        }
        for number, (broker, outcome) in enumerate(one.tried, 1)
    ]  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def claimant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Claimant]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('s') / 'corro.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.fresh()
    database = Database(url)
    upgrade(database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claiming, "utcnow", lambda: NOW)
        made = Claimant(database)
        yield made
        made.close()


def agrees(claimant: Claimant, waiting: list[Waiting], world: Surroundings) -> None:
    claims = claimant.desks[world.sell].place.claims
    if world.closed:
        claims.gate.close("the connection was lost")
    else:
        claims.gate.open()
    ids = claimant.put(waiting, world)
    before = claimant.recorded()
    plain = set() if world.closed else {one.id for one in claims._take_plain(ids)}
    assert plain == {id_ for id_, one in zip(ids, waiting, strict=True) if is_plain(one, world)}
    for table, rows in claimant.recorded().items():  # what is not plain, the statement leaves as it is
        left = [row for row in rows if row["client_order_id"] not in plain]
        assert left == [row for row in before[table] if row["client_order_id"] not in plain]

    claimant.put(waiting, world)
    claimed = {one.id: (one.attempt_no, one.broker_client_order_id, one.order) for one in claims.claim(named(ids))}
    both = claimant.recorded()
    claimant.put(waiting, world)
    closed = claims.gate.why_closed()
    alone = {
        one.id: (one.attempt_no, one.broker_client_order_id, one.order) for one in claims.carefully(named(ids), closed)
    }
    assert claimed == alone
    assert both == claimant.recorded()
    assert plain <= claimed.keys()


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_state_that_is_not_plain_is_left_to_the_careful_way(claimant: Claimant, change: dict[str, Any]) -> None:
    for world in (Surroundings(), Surroundings(sell="as_ordered", held=1000)):
        agrees(claimant, [replace(Waiting(), **change), Waiting()], world)


@pytest.mark.parametrize(
    "world",
    [
        Surroundings(limited=True),
        Surroundings(keyed=True),
        *(Surroundings(stop=stop, lock=lock) for stop in STOPS for lock in LOCKS),
    ],
    ids=str,
)
def test_each_stop_and_each_lock_is_left_to_the_careful_way(claimant: Claimant, world: Surroundings) -> None:
    agrees(claimant, [replace(Waiting(), **change) for change in NOTHING], world)


@settings(max_examples=40)
@given(waiting=st.lists(WAITING, min_size=1, max_size=8), world=WORLDS)
def test_whatever_waits_is_claimed_as_the_careful_way_claims_it(
    claimant: Claimant, waiting: list[Waiting], world: Surroundings
) -> None:
    agrees(claimant, waiting, world)


def test_what_the_statement_returns_is_what_is_recorded(claimant: Claimant) -> None:
    """Nobody reads such an order again before its answer is written down."""
    (id_,) = claimant.put([Waiting(reason="moved here")], Surroundings())
    (taken,) = claimant.desks["closes"].place.claims._take_plain([id_])
    assert taken.entry is not None
    recorded = claimant.recorded()
    assert [taken.entry.order] == recorded["orders"]
    assert [taken.entry.attempts[1]] == recorded["attempts"]
