"""Whether our books explain a broker's positions: baselines, fills of ours and of others, locks, and who may judge."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from models.encoding import fitted
from models.errors import NotFound
from models.record.database import Database
from models.record.tables import (
    attempts,
    external_fills,
    fills,
    leases,
    position_events,
    position_ledgers,
    position_snapshots,
)
from models.reports import LONGEST_IDS
from models.settings import Settings
from models.vocabulary import Side
from tests.unit.position_desk import BROKER, PositionDesk
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.positions.ledger import unlock
from worker.positions.locks import Locks
from worker.positions.reading import keep
from worker.runtime.clock import utcnow


@pytest.fixture
def desk(database: Database, settings: Settings) -> PositionDesk:
    return PositionDesk(database, settings.timing)


def test_what_is_there_at_first_is_the_baseline_and_locks_nothing(desk: PositionDesk) -> None:
    desk.read(5, KO=40, TSLA=-3)
    assert desk.baselines() == {"KO": 40, "TSLA": -3}
    assert desk.locks() == {}
    assert desk.snapshot() == {"KO": 40, "TSLA": -3}


def test_fills_of_ours_and_of_others_explain_what_they_made(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.fill("KO", "sell", 15)
    desk.fill("PEP", "buy", 7)
    desk.others_fill("KO", Side.BUY, 2)
    desk.fill("TSLA", "sell_short", 4)
    desk.read(5, KO=27, PEP=7, TSLA=-4)
    assert desk.locks() == {}
    assert desk.positions.doubts == {}


def test_a_difference_locks_after_three_readings_and_ends_when_it_is_explained(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.read(2, KO=80)
    assert desk.locks() == {}
    desk.read()
    assert desk.locks() == {"KO": (40, 80)}
    desk.read(KO=90)
    assert desk.locks() == {"KO": (40, 90)}  # it is kept up to date
    desk.others_fill("KO", Side.BUY, 50)  # the listing was late
    desk.read()
    assert desk.locks() == {}
    assert desk.journal() == [("KO", "locked"), ("KO", "explained")]


def test_a_name_longer_than_its_column_is_one_symbol_and_costs_no_reading(desk: PositionDesk) -> None:
    longs = ["K" * 90, "K" * 91]
    desk.read(KO=40, **dict.fromkeys(longs, 3))
    desk.read(5, KO=40, **dict.fromkeys(longs, 9))
    kept = [fitted(name, LONGEST_IDS["symbol"]) for name in longs]
    assert desk.locks() == dict.fromkeys(kept, (3, 9))
    assert desk.snapshot() == {"KO": 40, **dict.fromkeys(kept, 9)}
    desk.read(**dict.fromkeys(longs, 3))
    assert desk.locks() == {}


def test_a_position_that_is_gone_locks_too(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.read(3, KO=0)
    assert desk.locks() == {"KO": (40, 0)}


def test_readings_count_only_while_executions_can_be_read(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.complete = False
    desk.read(9, KO=50)
    assert desk.locks() == {}
    desk.complete = True
    desk.read(2)
    assert desk.locks() == {"KO": (40, 50)}


@pytest.mark.parametrize("outcome", ["sending", "unknown"])
def test_nothing_is_judged_where_an_order_of_ours_is_under_way(desk: PositionDesk, outcome: str) -> None:
    desk.read(KO=40)
    name = desk.fill("KO", "buy", 5, outcome=outcome)
    desk.read(9, KO=45)
    assert desk.locks() == {}
    with desk.database.write() as connection:
        mine = attempts.c.client_order_id == name
        connection.execute(update(attempts).where(mine).values(outcome="absent"))
    desk.read(3)
    assert desk.locks() == {"KO": (40, 45)}


def test_nothing_is_judged_right_after_a_fill(desk: PositionDesk) -> None:
    desk.timing = desk.timing.model_copy(update={"lock_after": 5.0})
    desk.positions = desk.make()
    desk.read(KO=40)
    desk.fill("KO", "buy", 5, age_s=0.0)
    desk.read(5, KO=40)  # the broker's position is behind
    assert desk.positions.doubts == {}
    desk.read(KO=45)
    assert desk.positions.doubts == {}


def test_the_baseline_waits_where_something_is_under_way_at_first(desk: PositionDesk) -> None:
    name = desk.fill("KO", "buy", 5, outcome="unknown")
    desk.read(KO=45, PEP=1)
    assert desk.baselines() == {"PEP": 1}
    with desk.database.write() as connection:
        mine = attempts.c.client_order_id == name
        connection.execute(update(attempts).where(mine).values(outcome="absent"))
    desk.read(4)
    assert desk.baselines() == {"KO": 45, "PEP": 1}
    assert desk.locks() == {}


def test_history_before_the_first_reading_is_no_surprise(desk: PositionDesk) -> None:
    """A corro that traded before it kept these books."""
    desk.fill("KO", "buy", 30, age_s=86_400)
    desk.fill("KO", "buy", 5)
    desk.read(5, KO=35)
    desk.fill("KO", "sell", 35)
    desk.read(5, KO=0)
    assert desk.locks() == {}


def test_old_fills_are_folded_so_that_history_may_be_deleted(desk: PositionDesk) -> None:
    desk.read(KO=40)
    old = desk.fill("KO", "buy", 5, age_s=3600)
    desk.others_fill("KO", Side.SELL, 1, age_s=3600)
    desk.fill("KO", "buy", 2)
    desk.read(2, KO=46)
    assert desk.baselines() == {"KO": 44}
    with desk.database.write() as connection:
        connection.execute(delete(fills).where(fills.c.client_order_id == old))
        connection.execute(delete(external_fills))
    desk.read(5)
    assert desk.locks() == {}
    assert desk.positions.doubts == {}


@pytest.mark.parametrize(("age_s", "is_passed"), [(2 * 86_400, True), (3600, False)])
def test_a_ledger_passes_by_what_other_brokers_filled_long_ago(
    desk: PositionDesk, age_s: float, is_passed: bool
) -> None:
    """Else that of a broker which hardly ever fills stays where it is, and what came since is all there ever was."""
    desk.read(KO=40)
    with desk.database.read() as connection:
        before = connection.execute(select(position_ledgers.c.fills_id)).scalar_one()
    name = desk.fill("KO", "buy", 5, age_s=age_s)
    with desk.database.write() as connection:
        elsewhere = update(fills).where(fills.c.client_order_id == name).values(broker="elsewhere")
        connection.execute(elsewhere)
    desk.fill("KO", "buy", 2)
    desk.read(2, KO=42)
    with desk.database.read() as connection:
        theirs = connection.execute(select(fills.c.id).where(fills.c.client_order_id == name)).scalar_one()
        assert connection.execute(select(position_ledgers.c.fills_id)).scalar_one() == (theirs if is_passed else before)
    assert desk.baselines() == {"KO": 40}
    desk.read(5)
    assert desk.locks() == {}


def test_others_fills_that_turn_out_to_be_ours_count_once(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.others_fill("KO", Side.BUY, 5, order="b-o1", age_s=3600)
    desk.read(2, KO=45)
    assert desk.baselines() == {"KO": 45}  # folded as another's
    name = desk.fill("KO", "buy", 5)
    with desk.database.write() as connection:
        mine = attempts.c.client_order_id == name
        connection.execute(update(attempts).where(mine).values(broker_order_id="b-o1"))  # adopted
    desk.read(5)
    assert desk.locks() == {}
    assert desk.baselines() == {"KO": 40}


def test_unlocking_takes_what_the_broker_shows_and_keeps_who_and_why(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.read(3, KO=80)
    row = unlock(desk.database, BROKER, "KO", by="ana", reason="split 2:1")
    assert (row["expected"], row["found"]) == (40, 80)
    desk.fill("KO", "sell", 10)
    desk.read(5, KO=70)
    assert desk.locks() == {}
    e = position_events.c
    assert desk._rows(select(e.kind, e.by, e.reason))[-1] == ("unlocked", "ana", "split 2:1")
    with pytest.raises(NotFound):
        unlock(desk.database, BROKER, "KO", by="ana", reason="again")


# -- WHO MAY JUDGE ---
def test_a_worker_that_does_not_lead_stores_but_does_not_judge(desk: PositionDesk) -> None:
    desk.read(KO=40)
    with desk.database.write() as connection:
        connection.execute(update(leases).values(holder="somebody else"))
    desk.read(9, KO=80)
    assert desk.locks() == {}
    assert desk.snapshot() == {"KO": 80}


def test_a_leader_that_slept_between_reading_and_writing_writes_nothing_old(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.read(2, KO=80)  # one more would lock
    other = PositionDesk(desk.database, desk.timing)

    def sleep() -> None:
        with desk.database.write() as connection:
            connection.execute(update(leases).values(holder=other.me.name, until=utcnow() + timedelta(seconds=6)))
        other.pulse.beat()
        other.read(PEP=41)  # nothing of KO is held any more

    desk.paper.while_reading = sleep
    desk.read()
    assert desk.locks() == {}
    assert desk.snapshot() == {"PEP": 41}


def test_a_lease_that_was_lost_and_won_back_does_not_revive_an_old_reading(desk: PositionDesk) -> None:
    pulse, other = desk.pulse, Heartbeat(desk.database, Identity(BROKER), desk.timing)
    began = pulse.tenure

    def still(tenure: Any) -> bool:
        with desk.database.write() as connection:
            return pulse.still_leads(connection, tenure)

    def set_lease(**values: Any) -> None:
        with desk.database.write() as connection:
            connection.execute(update(leases).values(**values))

    pulse.beat()
    assert pulse.tenure == began is not None
    assert still(began)
    set_lease(until=utcnow() - timedelta(seconds=1))
    assert not still(began)  # over, though nobody else has it
    pulse.beat()
    assert pulse.leads
    assert not still(began)  # a tenure with a gap is two
    began = pulse.tenure
    assert still(began)
    set_lease(until=utcnow() - timedelta(seconds=1))
    other.beat()
    assert other.leads
    assert not still(began)
    pulse.beat()
    assert (pulse.leads, pulse.tenure) == (False, None)
    assert not still(pulse.tenure)
    other.stop()
    pulse.beat()
    assert pulse.leads
    assert still(pulse.tenure)
    assert not still(began)


def test_positions_are_read_sooner_while_there_are_doubts(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.later_s = 5
    assert not desk.positions.is_due()
    desk.read(KO=41)
    desk.later_s = 10
    assert desk.positions.is_due()


# -- WHAT A CLAIM SEES ---
@pytest.mark.parametrize(
    ("symbol", "side", "quantity", "passes"),
    [
        ("PEP", "buy", 99, True),
        ("KO", "buy", 1, False),
        ("KO", "sell", 80, True),
        ("KO", "sell", 81, False),
        ("KO", "sell_short", 1, False),
        ("KO", "buy_to_cover", 1, False),
    ],
)
def test_an_order_in_a_locked_symbol_is_refused_unless_it_closes(
    desk: PositionDesk, symbol: str, side: str, quantity: int, passes: bool
) -> None:
    desk.read(KO=40)
    desk.read(3, KO=80)
    row = {
        "client_order_id": "new", "symbol": symbol, "side": side, "quantity": Decimal(quantity),
        "filled_quantity": Decimal(0), "legs": None, "broker": BROKER, "account": None,
    }  # fmt: skip
    with desk.database.read() as connection:
        refusal = Locks(connection, BROKER).refusal(row)
    assert (refusal is None) is passes
    if refusal is not None:
        assert refusal.code == "position_locked"
        assert "shows 80, our books explain 40" in str(refusal)


def test_closing_orders_share_what_is_there(desk: PositionDesk) -> None:
    desk.read(KO=40)
    desk.read(3, KO=80)
    row = {"symbol": "KO", "side": "sell", "quantity": Decimal(50), "filled_quantity": Decimal(0), "legs": None}
    row |= {"broker": BROKER, "account": None}
    with desk.database.read() as connection:
        locks = Locks(connection, BROKER)
        assert locks.refusal(row | {"client_order_id": "a"}) is None
        assert locks.refusal(row | {"client_order_id": "b"}) is not None  # in the same claim
    desk.fill("KO", "sell", 50, age_s=0.0)  # sold since the position was read, perhaps
    with desk.database.read() as connection:
        assert Locks(connection, BROKER).refusal(row | {"client_order_id": "b"}) is not None


def test_the_ledger_remembers_until_when_executions_were_read(desk: PositionDesk) -> None:
    desk.read(KO=40)
    at = utcnow()
    desk.external.read_until(at)
    assert desk._rows(select(position_ledgers.c.fills_read_at)) == [(at,)]


# -- SNAPSHOTS ---
def test_an_older_reading_takes_nothing_from_a_newer_one(database: Database) -> None:
    now = utcnow()

    def row(symbol: str, quantity: int, at: Any) -> dict[str, Any]:
        return {"broker": BROKER, "symbol": symbol, "quantity": Decimal(quantity), "currency": "EUR", "taken_at": at}

    def stored() -> dict[str, Any]:
        with database.read() as connection:
            rows = connection.execute(select(position_snapshots)).mappings().all()
        return {r["symbol"]: (r["quantity"], r["currency"]) for r in rows}

    with database.write() as connection:
        keep(connection, position_snapshots, BROKER, now, [row("KO", 5, now), row("PEP", 2, now)])
    earlier = now - timedelta(seconds=1)
    with database.write() as connection:
        keep(connection, position_snapshots, BROKER, earlier, [row("KO", 4, earlier)])
    assert stored() == {"KO": (5, "EUR"), "PEP": (2, "EUR")}
    later = now + timedelta(seconds=1)
    with database.write() as connection:
        keep(connection, position_snapshots, BROKER, later, [row("KO", 3, later)])
    assert stored() == {"KO": (3, "EUR")}
