"""Who takes the work on a live order, and for how long others keep out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from models.errors import NotSent
from models.record.database import Database
from models.record.evidence import LOST_AFTER
from models.record.tables import attempts, order_events, orders, workers
from models.reports import Ambiguous, BrokerStatus, Found, Missing, OrderReport, Sighting
from models.settings import Settings
from tests.open_desk import open_desk
from tests.unit.words import Put
from worker.brokers.base import Capabilities, OrderRef
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.orders.cancel import Cancels
from worker.orders.owners import takes, waiting
from worker.orders.windows import Pauses
from worker.runtime.clock import utcnow


# -- THE RULE ---
@pytest.mark.parametrize(
    ("session", "me", "leads", "alive", "expected"),
    [
        (None, None, True, (), True),
        (None, None, False, (), False),
        (None, "8", True, ("7", "8"), True),
        (None, "8", False, ("7", "8"), False),
        ("7", "7", True, ("7",), True),
        ("7", "7", False, ("7",), True),
        ("7", "7", False, (), True),  # its own heartbeat is late, and it is the one that asks
        ("7", "8", True, ("7", "8"), False),
        ("7", "8", False, ("7", "8"), False),
        ("7", "8", True, ("8",), True),
        ("7", "8", False, ("8",), False),
        ("7", None, True, (), True),
        ("7", None, False, (), False),
    ],
)
def test_the_owner_takes_it_and_the_leader_what_nobody_alive_owns(
    session: str | None, me: str | None, leads: bool, alive: Sequence[str], expected: bool
) -> None:
    assert takes(session, me, leads, frozenset(alive)) is expected


@pytest.mark.parametrize("session", [None, "7", "8", "9"])
@pytest.mark.parametrize("leader", ["7", "8"])
def test_one_of_several_connected_workers_takes_it(session: str | None, leader: str) -> None:
    alive = frozenset({"7", "8"})
    assert sum(takes(session, me, me == leader, alive) for me in alive) == 1


def test_the_words_name_the_wish_the_client_id_and_the_reason() -> None:
    words = waiting("cancel", "ibkr", "client id", "7", "ibkr: somebody is connected under it")
    assert words == "cancel waits for a worker of ibkr with client id 7: somebody is connected under it"


# -- THE RECORD ---
def beat(database: Database, settings: Settings, session: str | None, state: str = "ready") -> Heartbeat:
    pulse = Heartbeat(database, Identity("ibkr"), settings.timing)
    pulse.session, pulse.state = session, state
    pulse.beat()
    return pulse


class Doorkeeper:
    """As much of a broker as cancels ask; sessions in `taken` are somebody else's."""

    name, session_kind, order_session = "ibkr", "client id", "8"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.taken = {"7"}
        self.knocks: list[str] = []
        self.acting: str | None = None
        self.canceled: list[tuple[str | None, str]] = []
        self.seen: dict[str, Sighting] = {}
        #: What happens while somebody knocks.
        self.meanwhile: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def acting_as(self, order_session: str) -> Iterator[None]:
        self.knocks.append(order_session)
        self.meanwhile()
        if order_session in self.taken:
            raise NotSent("ibkr: somebody is connected under it", broker="ibkr")
        self.acting = order_session
        yield
        self.acting = None

    def cancel_order(self, ref: OrderRef) -> None:
        self.canceled.append((self.acting, ref.broker_client_order_id))

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        return [self.seen.get(ref.broker_client_order_id, Missing(evidence="everything")) for ref in refs]


@pytest.fixture
def keeper() -> Doorkeeper:
    return Doorkeeper()


@pytest.fixture
def cancels(database: Database, settings: Settings, keeper: Doorkeeper) -> Iterator[Cancels]:
    desk = open_desk(settings, database, keeper)
    yield desk.cancels
    desk.close()


def share(keeper: Doorkeeper, database: Database, settings: Settings, *, leads: bool) -> list[str | None]:
    deputies = open_desk(settings, database, keeper, leads=leads).deputies
    mine = deputies.mine((session, session) for session in ("7", "8", "9", None))
    return sorted(name for names in mine.values() for name in names if name)


@pytest.mark.parametrize(
    ("state", "silent_s", "expected"),
    [("ready", 0, ["8", "9"]), ("ready", 60, ["7", "8", "9"]), ("disconnected", 0, ["7", "8", "9"])],
)
def test_the_record_says_who_is_alive_and_connected(
    keeper: Doorkeeper, database: Database, settings: Settings, state: str, silent_s: int, expected: list[str]
) -> None:
    beat(database, settings, "7", state)
    with database.write() as connection:
        connection.execute(update(workers).values(heartbeat_at=utcnow() - timedelta(seconds=silent_s)))
    assert share(keeper, database, settings, leads=True) == expected
    assert share(keeper, database, settings, leads=False) == ["8"]


def test_a_heartbeat_tells_the_session_and_since_when_the_state_is_so(database: Database, settings: Settings) -> None:
    pulse = beat(database, settings, "7")
    pulse.beat()
    with database.read() as connection:
        first = connection.execute(select(workers)).mappings().one()
    assert (first["session"], first["state_since"] < first["heartbeat_at"]) == ("7", True)
    pulse.state = "disconnected"
    pulse.beat()
    with database.read() as connection:
        second = connection.execute(select(workers)).mappings().one()
    assert second["state_since"] == second["heartbeat_at"] > first["state_since"]


# -- WISHES ---
def wished(put: Put, id_: str, session: str | None = "7") -> None:
    attempt = {"outcome": "accepted", "broker_order_id": id_, "session": session}
    put(id_, status="accepted", cancel_requested_at=utcnow(), attempt=attempt)


def told(database: Database, id_: str) -> tuple[list[str], str | None, str | None]:
    with database.read() as connection:
        kinds = connection.execute(select(order_events.c.kind).where(order_events.c.client_order_id == id_)).scalars()
        row = connection.execute(select(orders).where(orders.c.client_order_id == id_)).mappings().one()
        return list(kinds), row["reason"], row["reason_code"]


def test_a_wish_that_nobody_can_take_is_told_once_and_not_knocked_for(
    put: Put, keeper: Doorkeeper, database: Database, cancels: Cancels
) -> None:
    for id_ in ("o-1", "o-2"):
        wished(put, id_)
    for _ in range(5):
        cancels.carry_out()
    words = "cancel waits for a worker of ibkr with client id 7: somebody is connected under it"
    assert told(database, "o-1") == (["cancel_waits"], words, "waits_for_owner")
    assert told(database, "o-2") == (["cancel_waits"], words, "waits_for_owner")
    assert (keeper.knocks, keeper.canceled) == (["7"], [])


def test_two_who_find_at_once_that_a_wish_waits_tell_it_once(
    put: Put, keeper: Doorkeeper, database: Database, settings: Settings, cancels: Cancels
) -> None:
    """A message and the worker's own round may find the same wish: each sees that nobody has told of it yet."""
    wished(put, "o-1")
    other = open_desk(settings, database, keeper)
    batches = cancels.deputies.batches
    change = batches.change

    def behind_the_other(*args: Any) -> Any:
        other.cancels.carry_out()
        return change(*args)

    batches.change = behind_the_other  # type: ignore[method-assign]
    cancels.carry_out()
    other.close()
    assert keeper.knocks == ["7", "7"]
    assert told(database, "o-1")[0] == ["cancel_waits"]


def test_a_cancel_that_was_sent_since_a_look_at_the_wishes_is_not_sent_again(
    put: Put, keeper: Doorkeeper, cancels: Cancels
) -> None:
    """A ring and the worker's own round look at once, and one of them is through before the other begins to send."""
    for id_ in ("o-1", "o-2"):
        wished(put, id_, session="8")
    mine = cancels.deputies.mine

    def behind_the_ring(*args: Any, **kwargs: Any) -> Any:
        cancels.deputies.mine = mine  # type: ignore[method-assign]
        cancels.carry_out(["o-1"])
        return mine(*args, **kwargs)

    cancels.deputies.mine = behind_the_ring  # type: ignore[method-assign]
    cancels.carry_out()
    assert sorted(id_ for _, id_ in keeper.canceled) == ["o-1", "o-2"]


def test_a_gone_workers_orders_are_canceled_under_one_connection(
    put: Put, keeper: Doorkeeper, database: Database, cancels: Cancels
) -> None:
    keeper.taken.clear()
    for id_ in ("o-1", "o-2"):
        wished(put, id_)
    wished(put, "o-3", session="8")
    cancels.carry_out()
    assert keeper.knocks == ["7"]
    assert sorted(keeper.canceled, key=str) == [("7", "o-1"), ("7", "o-2"), (None, "o-3")]


def test_what_has_waited_says_so_no_more_once_it_is_sent(
    put: Put, keeper: Doorkeeper, database: Database, cancels: Cancels
) -> None:
    wished(put, "o-1")
    cancels.carry_out()
    keeper.taken.clear()
    cancels.deputies._held.clear()  # the pause is over
    cancels.carry_out()
    assert told(database, "o-1") == (["cancel_waits", "cancel_sent"], None, None)


@pytest.mark.parametrize("wish", ["cancel", "replace"])
def test_a_wish_that_its_owner_carries_out_meanwhile_is_not_told_to_wait(
    put: Put, keeper: Doorkeeper, database: Database, settings: Settings, wish: str
) -> None:
    """The owner was late, and is quicker than who knocks in its place."""

    def owner_acts() -> None:
        done = {"cancel": {"cancel_sent_at": utcnow()}, "replace": {"replace_request": None}}
        with database.write() as connection:
            connection.execute(update(orders).values(**done[wish]))

    wanted = {"cancel_requested_at": utcnow()} if wish == "cancel" else {"replace_request": {"limit_price": "2"}}
    attempt = {"outcome": "accepted", "broker_order_id": "o-1", "session": "7"}
    put("o-1", status="accepted", attempt=attempt, **wanted)
    keeper.meanwhile = owner_acts
    desk = open_desk(settings, database, keeper)
    {"cancel": desk.cancels, "replace": desk.replacements}[wish].carry_out()
    desk.close()
    assert keeper.knocks == ["7"]
    assert told(database, "o-1") == ([], None, None)


# -- STRAYS ---
def stray(put: Put, database: Database, session: str | None) -> Any:
    """An order that went on to the next broker while its first attempt came alive."""
    attempt = {"outcome": "accepted", "broker_order_id": "9", "session": session, "stray_at": utcnow()}
    attempt["broker"] = "ibkr"
    put("o-1", status="accepted", attempt_no=2, broker="alpaca", attempt=attempt)

    def again() -> Any:
        with database.write() as connection:
            due = attempts.c.stray_at.is_not(None)
            connection.execute(update(attempts).where(due).values(stray_at=utcnow()))
            return connection.execute(select(attempts)).mappings().one()

    return again


def test_a_stray_is_canceled_until_its_end_is_told(
    put: Put, keeper: Doorkeeper, database: Database, cancels: Cancels
) -> None:
    again = stray(put, database, "8")
    alive = OrderReport(broker_order_id="9", status=BrokerStatus.PENDING_CANCEL, broker_client_order_id="o-1")
    keeper.seen["o-1"] = Found(report=alive)
    cancels.strays()
    cancels.strays()  # not due again yet
    cancels._stray_pauses = Pauses(0, 0)
    assert keeper.canceled == [(None, "o-1")]
    assert again()["stray_at"] is not None
    dead = OrderReport(broker_order_id="9", status=BrokerStatus.CANCELED, broker_client_order_id="o-1")
    keeper.seen["o-1"] = Found(report=dead)
    cancels.strays()
    assert again()["stray_at"] is None
    assert len(keeper.canceled) == 2


def test_a_stray_is_left_to_its_living_owner(
    put: Put, keeper: Doorkeeper, database: Database, settings: Settings, cancels: Cancels
) -> None:
    again = stray(put, database, "7")
    beat(database, settings, "7")
    cancels.strays(told=True)
    assert (keeper.knocks, keeper.canceled) == ([], [])
    assert again()["stray_at"] is not None  # for the owner


def test_a_stray_that_may_be_one_of_several_stays_a_stray(
    put: Put, keeper: Doorkeeper, database: Database, cancels: Cancels
) -> None:
    again = stray(put, database, None)
    cancels._stray_pauses = Pauses(0, 0)
    keeper.seen["o-1"] = Ambiguous(candidates=(), words="its reference is in another account")
    for _ in range(LOST_AFTER + 2):
        cancels.strays()
        assert again()["stray_at"] is not None
    assert "stray_gone" not in told(database, "o-1")[0]


def test_a_stray_that_no_listing_has_any_more_is_left_alone(
    put: Put, keeper: Doorkeeper, database: Database, cancels: Cancels
) -> None:
    again = stray(put, database, None)
    cancels._stray_pauses = Pauses(0, 0)
    for _ in range(5):
        cancels.strays()
        row = again()
    assert (len(keeper.canceled), row["stray_at"]) == (3, None)
    assert told(database, "o-1")[0] == ["stray_gone"]
