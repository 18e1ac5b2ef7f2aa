"""How far a reading goes back, what is asked for again, and which questions are open: over a real database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

from models.errors import BrokerError
from models.record.database import Database
from models.record.evidence import LOST_AFTER, unresolved
from models.record.tables import attempts, fills, order_events, orders, workers
from models.reports import BrokerStatus, FillReport, Found, Missing, OrderReport, Sighting
from models.settings import Settings
from models.vocabulary import Side
from tests.open_desk import open_desk
from tests.unit.words import Put, Run
from worker.brokers.base import AbsenceRule, Capabilities, OrderRef
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.orders.windows import OVERLAP, Patience, Window, pause_after
from worker.runtime.clock import utcnow

D = Decimal
DAY = timedelta(days=1)


class ReadBroker:
    """As much of a broker as readings ask, with a page of 100 executions a request."""

    name = "ibkr"
    capabilities = Capabilities(absence=AbsenceRule(possible=False), lookback=timedelta(days=60))

    def __init__(self) -> None:
        self.executions: list[FillReport] = []
        self.open: list[OrderReport] = []
        self.found: dict[str, Sighting] = {}
        self.fails, self.requests, self.looked = False, 0, 0
        self.since: list[datetime] = []

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        self.since.append(since)
        if self.fails:
            raise BrokerError("HTTP 503")
        shown = [e for e in self.executions if e.filled_at >= since]
        self.requests += 1 + len(shown) // 100
        return shown

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        self.requests += 1
        return list(self.open)

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        self.requests += 1
        self.looked += len(refs)
        return [self.found.get(ref.broker_client_order_id, Missing(evidence="everything")) for ref in refs]


class ReadingScene:
    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.paper, me = database, ReadBroker(), Identity("ibkr")
        Heartbeat(database, me, settings.timing).beat()
        desk = open_desk(settings, database, self.paper, me)
        self.reconciler, self.readings, self.recorder = desk.reconciler, desk.readings, desk.recorder
        self.shift = 0.0

    def attempt(self, client_order_id: str = "o-1") -> Any:
        with self.database.read() as connection:
            query = select(attempts).where(attempts.c.client_order_id == client_order_id)
            return connection.execute(query).mappings().one()

    def events(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(select(order_events.c.kind)).scalars())

    def told(self, report: OrderReport) -> None:
        self.database.transact(lambda connection: self.recorder.updates(connection, [report], utcnow(), infer=True))

    def status(self) -> str:
        with self.database.read() as connection:
            return str(connection.execute(select(orders.c.status)).scalar())

    def again(self) -> None:
        """Let the pause before the next look pass."""
        with self.database.write() as connection:
            connection.execute(update(attempts).values(next_check_at=utcnow()))


@pytest.fixture
def scene(database: Database, settings: Settings) -> ReadingScene:
    return ReadingScene(database, settings)


def live(put: Put, client_order_id: str = "o-1", **changes: Any) -> None:
    put(client_order_id, status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"}, **changes)


def change(**more: Any) -> FillReport:
    return FillReport(
        execution_id="named-otherwise", quantity=D(6), price=D(49), filled_at=utcnow(), broker_order_id="7",
        broker_client_order_id="o-1", amends=True, revision=9, **more,
    )  # fmt: skip


@pytest.mark.parametrize("busted", [False, True])
def test_a_change_to_an_execution_that_the_record_does_not_have_questions_the_order_once(
    scene: ReadingScene, put: Put, busted: bool
) -> None:
    began = utcnow() - 3 * DAY
    live(put, created_at=began)
    scene.readings.read()
    with capture_logs() as logs:
        for _ in range(2):
            scene.readings.leave([change(busted=busted)])
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["fill_unexplained"]
    assert scene.events() == ["fill_unexplained", *(["fill_busted"] if busted else [])]
    scene.readings.open_orders()
    assert scene.paper.since[-1] == began - OVERLAP
    scene.readings.open_orders()
    assert scene.paper.since[-1] > began + DAY


def test_a_change_that_a_listing_shows_and_nobody_can_place_is_told_too(scene: ReadingScene, put: Put) -> None:
    live(put)
    scene.paper.executions = [change()]
    for _ in range(2):
        scene.readings.read()
    assert scene.events() == ["fill_unexplained"]
    with scene.database.read() as connection:
        assert connection.execute(select(fills)).all() == []


def test_an_order_with_an_unexplained_change_is_listed_until_somebody_has_looked(
    scene: ReadingScene, put: Put, corro: Run
) -> None:
    put(
        "o-1", status="filled", filled_quantity=D(10), broker_order_id="7",
        attempt={"outcome": "accepted", "broker_order_id": "7"},
    )  # fmt: skip
    put("o-2", status="filled", attempt={"outcome": "accepted", "broker_order_id": "8"})
    scene.readings.leave([change()])
    (row,) = json.loads(corro("unresolved", "--json")[1])
    assert (row["client_order_id"], row["outcome"], row["answers"]) == ("o-1", "accepted", {})
    assert "named-otherwise" in row["unexplained"] == row["latest"]
    assert corro("resolve", "o-2", "--noted", "--by", "ana")[0] == 2
    status, out, _ = corro("resolve", "o-1", "--noted", "--by", "ana", "--reason", "it was a test", "--json")
    assert (status, json.loads(out)["status"]) == (0, "filled")
    assert json.loads(corro("unresolved", "--json")[1]) == []
    scene.readings.leave([replace(change(), execution_id="another")])
    assert [one["client_order_id"] for one in json.loads(corro("unresolved", "--json")[1])] == ["o-1"]


def test_a_change_whose_execution_is_booked_after_all_is_no_question_any_more(
    scene: ReadingScene, put: Put, corro: Run
) -> None:
    live(put)
    scene.readings.leave([change()])
    assert len(json.loads(corro("unresolved", "--json")[1])) == 1
    scene.told(replace(change(), amends=False))
    assert json.loads(corro("unresolved", "--json")[1]) == []


def test_an_order_that_is_filled_with_nothing_ends_when_all_that_its_broker_told_of_it_was_taken_back(
    scene: ReadingScene, put: Put
) -> None:
    live(put)
    with_nothing = OrderReport(
        broker_order_id="7", broker_client_order_id="o-1", status=BrokerStatus.UNKNOWN, raw_status="filled",
        filled_quantity=D(0),
    )  # fmt: skip
    scene.told(with_nothing)
    assert scene.status() == "accepted"
    scene.readings.leave([change(busted=True)])
    scene.told(with_nothing)
    assert scene.status() == "filled"


def test_an_order_that_is_over_is_read_again_for_an_unexplained_change(scene: ReadingScene, put: Put) -> None:
    put(status="filled", attempt={"outcome": "accepted", "broker_order_id": "7"})
    scene.readings.open_orders()
    assert scene.paper.since == []
    scene.readings.leave([change()])
    scene.readings.open_orders()
    assert len(scene.paper.since) == 1


def strangers(count: int, since: datetime) -> list[FillReport]:
    every = (utcnow() - since) / count
    return [
        FillReport(
            execution_id=f"x{n}",
            quantity=D(1),
            price=D(1),
            filled_at=since + n * every,
            symbol="KO",
            side=Side.BUY,
            broker_order_id=f"b{n}",
        )
        for n in range(count)
    ]


# -- HOW FAR BACK ---
def test_requests_depend_neither_on_the_oldest_order_nor_on_the_length_of_the_history(
    scene: ReadingScene, put: Put, database: Database
) -> None:
    old = utcnow() - 50 * DAY
    live(put, submitted_at=old)
    scene.paper.open = [OrderReport(broker_order_id="7", status=BrokerStatus.ACCEPTED)]
    scene.paper.executions = strangers(3000, old)
    scene.readings.read()
    assert scene.paper.since[-1] <= old, "the first reading of a process goes the long way"
    assert scene.paper.requests >= 30
    scene.paper.requests = 0
    for _ in range(6):
        scene.readings.read()
    assert scene.paper.requests == 6 * 2


def test_a_reading_goes_back_to_the_last_complete_one(scene: ReadingScene) -> None:
    scene.readings.read()
    before = utcnow()
    scene.paper.fails = True
    for _ in range(3):
        assert not scene.readings.read()
    scene.paper.fails = False
    scene.readings.read()
    assert all(since <= before - OVERLAP for since in scene.paper.since[1:])
    assert scene.paper.since[-1] >= before - OVERLAP - timedelta(seconds=10)


def test_a_broker_is_not_asked_further_back_than_it_can_answer(scene: ReadingScene, put: Put) -> None:
    live(put, submitted_at=utcnow() - 400 * DAY)
    scene.readings.read()
    assert utcnow() - scene.paper.since[0] <= 60 * DAY + timedelta(seconds=10)


def test_a_window_without_a_limit_goes_all_the_way_once() -> None:
    now, window = utcnow(), Window(None)
    assert window.since(now - 400 * DAY, now) == now - 400 * DAY - OVERLAP
    window.done(now)
    assert window.since(now - 400 * DAY, now + DAY) == now - OVERLAP


# -- ASKED FOR AGAIN ---
def test_what_was_inferred_is_asked_for_until_it_is_told(scene: ReadingScene, put: Put, database: Database) -> None:
    live(put, submitted_at=utcnow())
    done = OrderReport(
        broker_order_id="7", status=BrokerStatus.FILLED, broker_client_order_id="o-1", filled_quantity=D(10)
    )
    scene.paper.found["o-1"] = Found(report=done)
    scene.readings.read()
    with database.read() as connection:
        assert connection.execute(select(fills.c.price)).scalars().all() == [None]
    told = FillReport(
        execution_id="e1", quantity=D(10), price=D(50), filled_at=utcnow(), symbol="AAPL", side=Side.BUY,
        broker_order_id="7",
    )  # fmt: skip
    scene.paper.executions = [told]
    looked = scene.paper.looked
    scene.readings.open_orders()  # nothing is live any more, and it is asked all the same
    assert scene.paper.looked == looked + 1
    with database.read() as connection:
        assert connection.execute(select(orders.c.avg_fill_price)).scalar() == 50
    requests = scene.paper.requests
    scene.readings.open_orders()
    assert scene.paper.requests == requests, "settled"


def test_what_stays_open_is_asked_for_less_and_less_often() -> None:
    patience, now, asked = Patience(10, 600), 0.0, 0
    while now < 3600:
        asked += patience.is_due({"a"}, now)
        now += 10
    assert asked <= 12
    assert patience.is_due({"a", "b"}, now), "something new is asked for at once"
    assert not patience.is_due({}, now)
    assert [pause_after(n, 10, 600) for n in (1, 2, 3, 99)] == [10, 20, 40, 600]


# -- IN NO LISTING ---
def test_a_live_order_that_no_listing_has_any_more_becomes_a_question(scene: ReadingScene, put: Put) -> None:
    live(put)
    for _ in range(LOST_AFTER - 1):
        scene.readings.read()
        scene.again()
    assert unresolved(scene.database, 10.0) == []
    with capture_logs() as lines:
        for _ in range(3):
            scene.readings.read()
            scene.again()
    assert [line["client_order_id"] for line in lines if line["event"] == "order_unresolved"] == ["o-1"]
    (row,) = unresolved(scene.database, 10.0)
    assert (row["client_order_id"], row["outcome"], row["status"]) == ("o-1", "accepted", "accepted")
    assert row["answers"]["missing"]["words"] == "everything"

    looked = scene.paper.looked
    with scene.database.write() as connection:
        connection.execute(update(attempts).values(next_check_at=utcnow() + timedelta(seconds=60)))
    scene.readings.read()
    assert scene.paper.looked == looked, "and is looked for less often"

    scene.again()
    scene.paper.found["o-1"] = Found(report=OrderReport(broker_order_id="7", status=BrokerStatus.ACCEPTED))
    scene.readings.read()
    assert unresolved(scene.database, 10.0) == []


def test_a_person_may_close_the_question_and_nothing_is_sent_again(
    scene: ReadingScene, put: Put, settings: Settings, database: Database
) -> None:
    from producers.client import OrderClient
    from worker.orders.resolve import resolve

    live(put)
    for _ in range(LOST_AFTER):
        scene.readings.read()
        scene.again()
    client = OrderClient(settings)
    client.database.close()
    client.database = database
    row = resolve(client, "o-1", adopt=None, by="ana")
    assert (row["status"], row["attempt_no"]) == ("canceled", 1)
    assert "ana" in row["reason"]
    assert unresolved(database, 10.0) == []


@pytest.mark.parametrize(
    ("adopted", "words"),
    [
        ("77", "is o-2's"),
        ("88", "is not o-1: it has symbol F instead of"),
        ("99", "has shown corro no order 99"),
    ],
)
def test_a_person_cannot_adopt_what_is_not_this_order(
    scene: ReadingScene, put: Put, settings: Settings, database: Database, adopted: str, words: str
) -> None:
    """Another order of ours, one on other terms, and one that the broker never showed: corro would cancel it."""
    from models.errors import InvalidOrder
    from models.record.tables import external_orders
    from producers.client import OrderClient
    from worker.orders.resolve import resolve

    put(attempt={"outcome": "unknown"})
    put("o-2", status="accepted", attempt={"outcome": "accepted", "broker_order_id": "77"})
    seen = {"status": "accepted", "first_seen_at": utcnow(), "last_seen_at": utcnow(), "broker": "ibkr"}
    with database.write() as connection:
        connection.execute(insert(external_orders).values(broker_order_id="88", symbol="F", side="buy", **seen))
    client = OrderClient(settings)
    client.database.close()
    client.database = database
    with pytest.raises(InvalidOrder, match=words):
        resolve(client, "o-1", adopt=adopted, by="ana")
    assert scene.attempt()["outcome"] == "unknown"


# -- ALARMS THAT HANG ON NOTHING ---
def test_an_unknown_outcome_is_raised_though_its_broker_cannot_be_asked(scene: ReadingScene, put: Put) -> None:
    put(attempt={"outcome": "unknown", "started_at": utcnow() - timedelta(seconds=31)})
    with capture_logs() as lines:
        scene.readings.loose_ends.alarm(None)
        assert [line for line in lines if line["event"] == "order_unresolved"] == []
        for _ in range(2):
            scene.readings.loose_ends.alarm("ibkr is disconnected since 10:00:00Z")
    (line,) = [line for line in lines if line["event"] == "order_unresolved"]
    assert (line["client_order_id"], line["why"]) == ("o-1", "cannot ask: ibkr is disconnected since 10:00:00Z")
    assert scene.attempt()["alerted_at"] is not None


def test_unresolved_says_why_a_broker_cannot_be_asked(scene: ReadingScene, put: Put, database: Database) -> None:
    put(attempt={"outcome": "unknown"})

    def said(**changes: Any) -> str | None:
        with database.write() as connection:
            connection.execute(update(workers).values(**changes))
        (row,) = unresolved(database, 10.0)
        words: str | None = row["cannot_ask"]
        return words

    assert said(state="ready") is None
    assert said(state="disconnected", detail="no route to host") == "ibkr is disconnected: no route to host"
    assert "no worker of ibkr is alive since" in str(said(heartbeat_at=utcnow() - timedelta(minutes=5)))


def test_a_cancel_without_effect_is_raised_once_and_listed(scene: ReadingScene, put: Put) -> None:
    asked = utcnow() - timedelta(seconds=121)
    put(status="pending_cancel", attempt={"outcome": "accepted"}, cancel_requested_at=asked)
    put("o-2", status="pending_cancel", attempt={"outcome": "accepted"}, cancel_requested_at=utcnow())
    for _ in range(2):
        scene.readings.loose_ends.alarm(None)
    assert scene.events() == ["unresolved"]
    assert [row["client_order_id"] for row in unresolved(scene.database, 10.0)] == ["o-1"]
