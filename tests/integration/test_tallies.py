"""Counters on PostgreSQL: the same as on SQLite, and each event once although several count at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import select

from models.history import History, v_orders
from models.record import tally
from models.record.database import Database, upgrade
from models.record.tables import order_events
from tests.order_steps import OrderSteps


def test_both_databases_count_the_same(database: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'corro.db'}")
    upgrade(other)
    found = []
    for one in (database, other):
        OrderSteps(one).one_falls_back_and_one_is_canceled()
        found.append(tally.count_on(one))
        _see_accounts(one)
    other.close()
    assert found[0].of("orders") == found[1].of("orders")
    assert found[0].of("attempts") == found[1].of("attempts")
    assert found[0].of("fallbacks") == found[1].of("fallbacks") == {("ibkr", "alpaca"): 1}
    assert sum(found[0].of("to_broker").values()) == 2


def _see_accounts(database: Database) -> None:
    """Orders in accounts count at their broker, and going from one account to another is a fallback, once."""
    OrderSteps(database).one_goes_to_another_account()
    counted = tally.count_on(database)
    assert counted.of("fallbacks") == {("ibkr", "alpaca"): 1, ("ibkr", "ibkr"): 1}
    assert {broker for broker, _ in counted.of("orders")} == {"ibkr", "alpaca"}
    seen = History(database).rows(v_orders)
    rows = {row["client_order_id"]: (row["brokers_tried"], row["fell_back"]) for row in seen}
    assert rows == {"o-1": (2, True), "o-2": (1, False), "a-1": (1, False), "a-2": (1, True)}


def test_of_several_who_count_at_once_each_event_is_counted_once(database: Database) -> None:
    steps = OrderSteps(database)
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            tally.count_on(database)

    counting = [threading.Thread(target=count) for _ in range(4)]
    for thread in counting:
        thread.start()
    for number in range(50):
        steps.order(f"o-{number}", ["ibkr"])
    done.set()
    for thread in counting:
        thread.join()
    counted = tally.count_on(database)
    with database.read() as connection:
        newest = connection.execute(select(order_events.c.id).order_by(order_events.c.id.desc()).limit(1)).scalar()
    assert counted.upto == newest
    assert counted.of("orders") == {("ibkr", "queued"): 50}
