"""What a day has brought, whatever is known of the days before: the same as by all executions from the beginning."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from models.record.database import Database
from models.record.tables import fills
from models.vocabulary import Side
from tests.traced import traced
from tests.unit.words import NOW
from worker.risk.losses import Openings, gains

START = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
Fill = Callable[..., Any]
D = Decimal


@pytest.fixture
def fill(database: Database, put: Any) -> Fill:
    """Book an execution of an order of its own."""
    count = 0

    def book(side: str, quantity: object, price: object, at: datetime, **more: Any) -> str:
        nonlocal count
        count += 1
        id_ = f"o-{count}"
        put(id_, status="filled", side=side, quantity=D(str(quantity)), symbol=more.get("symbol", "KO"))
        values = {
            "client_order_id": id_, "attempt_no": 1, "broker": "a", "execution_id": f"e-{count}", "symbol": "KO",
            "quantity": D(str(quantity)), "price": None if price is None else D(str(price)), "filled_at": at,
            "recorded_at": at, "strategy": "dip", "currency": "USD",
        } | more  # fmt: skip
        with database.write() as connection:
            connection.execute(fills.insert().values(**values))
        return id_

    return book


def of_day(database: Database, openings: Openings | None = None) -> dict[Any, Decimal]:
    with database.read() as connection:
        return gains(connection, START, openings)


def ago(days: float) -> datetime:
    return START - timedelta(days=days)


def test_what_was_bought_before_is_sold_today_at_its_average(database: Database, fill: Fill) -> None:
    fill("buy", 10, 40, ago(400))
    fill("buy", 10, 60, ago(3))
    fill("sell", 5, 55, START + timedelta(hours=1), commission=D(2))
    assert of_day(database) == {("a", "dip", "KO"): D(5 * 5 - 2)}


def test_a_close_of_more_than_was_opened_here_brings_nothing_for_the_rest(database: Database, fill: Fill) -> None:
    fill("buy", 10, 40, ago(1))
    fill("sell", 15, 41, START)
    fill("buy", 1, 41, START)
    assert of_day(database) == {("a", "dip", "KO"): D(10)}


def test_an_execution_without_a_price_brings_its_fee_alone(database: Database, fill: Fill) -> None:
    fill("buy", 10, None, ago(1))
    fill("sell", 10, 41, START, commission=D(1))
    assert of_day(database) == {("a", "dip", "KO"): D(-1)}


def test_the_days_before_are_read_once_and_not_for_each_claim(database: Database, fill: Fill) -> None:
    openings = Openings()
    for day in range(1, 30):
        fill("buy", 1, 40, ago(day))
    fill("sell", 1, 50, START)
    assert of_day(database, openings) == {("a", "dip", "KO"): D(10)}
    fill("sell", 1, 45, START + timedelta(seconds=1))
    with traced(database) as statements:
        assert of_day(database, openings) == {("a", "dip", "KO"): D(15)}
    assert len([one for one in statements if one.startswith("SELECT")]) == 1


@pytest.mark.parametrize(
    "change",
    [{"price": D(30)}, {"quantity": D(4)}, {"multiplier": D(2)}],
    ids=["a correction of its price", "a bust of a part", "its multiplier is learned"],
)
def test_what_becomes_of_an_execution_of_before_is_seen_at_the_next_look(
    change: dict[str, Any], database: Database, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    openings = Openings()
    id_ = fill("buy", 5, 40, ago(2))
    fill("buy", 5, 20, ago(1))
    fill("sell", 6, 50, START)
    of_day(database, openings)
    with database.write() as connection:
        connection.execute(update(fills).where(fills.c.client_order_id == id_).values(**change))
    monkeypatch.setattr("worker.risk.losses._GOOD_S", -1.0)
    assert of_day(database, openings) == of_day(database)


def test_a_late_execution_and_an_archived_one_are_seen_at_the_next_look(
    database: Database, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    openings = Openings()
    fill("buy", 5, 40, ago(2))
    fill("sell", 4, 50, START)
    of_day(database, openings)
    fill("buy", 5, 20, ago(1))
    monkeypatch.setattr("worker.risk.losses._GOOD_S", -1.0)
    assert of_day(database, openings) == of_day(database) == {("a", "dip", "KO"): D(4 * 20)}


def test_another_day_begins_with_what_is_held_then(database: Database, fill: Fill) -> None:
    openings = Openings()
    fill("buy", 5, 40, ago(2))
    fill("sell", 1, 50, START)
    fill("sell", 1, 60, START + timedelta(days=1))
    of_day(database, openings)
    with database.read() as connection:
        tomorrow = gains(connection, START + timedelta(days=1), openings)
    assert tomorrow == {("a", "dip", "KO"): D(20)}


@pytest.mark.parametrize("seed", range(20))
def test_kept_or_not_the_gain_is_that_of_all_executions_in_their_order(
    seed: int, database: Database, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, openings = random.Random(seed), Openings()
    for step in range(12):
        at = ago(chance.choice([3, 2, 1])) if chance.random() < 0.4 else START + timedelta(minutes=step)
        more = {"symbol": chance.choice(["KO", "PEP"]), "strategy": chance.choice(["dip", None])}
        fill(str(chance.choice(list(Side))), chance.randint(1, 5), chance.choice([None, 40, 41.5, 43]), at, **more)
        if chance.random() < 0.5:
            monkeypatch.setattr("worker.risk.losses._GOOD_S", -1.0)
            assert of_day(database, openings) == of_day(database)
    assert of_day(database), "a history without an execution of today shows nothing"
