"""Money and times on a real SQLite file: what is read is what was written, digit for digit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select
from sqlalchemy.exc import StatementError

from models.messages import MAX_DECIMALS, MAX_DIGITS
from models.record.columns import Money, UtcTime
from models.record.database import Database

PAIRS = Table("pairs", MetaData(), Column("id", Integer, primary_key=True), Column("m", Money), Column("t", UtcTime))
AT = datetime(2026, 1, 5, 14, 30, 0, 123456, tzinfo=UTC)
NAIVE = AT.replace(tzinfo=None)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('types') / 'types.db'}")
    with database.write() as opened:
        PAIRS.create(opened)
        yield opened
    database.close()


def there_and_back(connection: Connection, **values: object) -> tuple[Decimal | None, datetime | None]:
    key = connection.execute(insert(PAIRS).values(**values)).inserted_primary_key[0]
    found = connection.execute(select(PAIRS.c.m, PAIRS.c.t).where(PAIRS.c.id == key)).one()
    return found[0], found[1]


@st.composite
def money(draw: st.DrawFn) -> Decimal:
    digits = draw(st.integers(-(10**MAX_DIGITS) + 1, 10**MAX_DIGITS - 1))
    return Decimal(digits).scaleb(-draw(st.integers(0, MAX_DECIMALS)))


quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(money())
@example(Decimal("0.3426815"))  # SQLite reads it into the neighbour of the nearest float
@quick
def test_money_keeps_every_digit(connection: Connection, number: Decimal) -> None:
    found, _ = there_and_back(connection, m=number)
    assert type(found) is Decimal
    assert found == number


@given(money())
@quick
def test_money_is_found_by_its_value(connection: Connection, number: Decimal) -> None:
    key = connection.execute(insert(PAIRS).values(m=number)).inserted_primary_key[0]
    assert key in connection.execute(select(PAIRS.c.id).where(PAIRS.c.m == number)).scalars().all()


def test_money_is_a_number_to_the_database(connection: Connection) -> None:
    """An analyst's ORDER BY and SUM work: it is not stored as text."""
    connection.execute(PAIRS.delete())
    for number in ("9", "10", "0.5"):
        connection.execute(insert(PAIRS).values(m=Decimal(number)))
    assert connection.execute(select(PAIRS.c.m).order_by(PAIRS.c.m)).scalars().all() == [
        Decimal("0.5"), Decimal(9), Decimal(10),
    ]  # fmt: skip
    assert connection.execute(select(func.sum(PAIRS.c.m))).scalar() == Decimal("19.5")
    assert connection.exec_driver_sql("SELECT group_concat(DISTINCT typeof(m)) FROM pairs").scalar() != "text"


def test_nothing_stays_nothing(connection: Connection) -> None:
    assert there_and_back(connection, m=None, t=None) == (None, None)


@given(st.datetimes(NAIVE - timedelta(days=18_000), NAIVE + timedelta(days=60_000)), st.integers(-14 * 60, 14 * 60))
@quick
def test_a_time_is_the_same_moment_and_utc(connection: Connection, wall: datetime, offset: int) -> None:
    at = wall.replace(tzinfo=timezone(timedelta(minutes=offset)))
    _, found = there_and_back(connection, t=at)
    assert found == at
    assert found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(connection: Connection) -> None:
    with pytest.raises(StatementError, match="needs a zone"):
        there_and_back(connection, t=NAIVE)


def test_times_compare_to_the_microsecond(connection: Connection) -> None:
    key = connection.execute(insert(PAIRS).values(t=AT)).inserted_primary_key[0]
    tick = timedelta(microseconds=1)
    for moment, expected in ((AT - tick, False), (AT, True), (AT + tick, True)):
        found = connection.execute(select(PAIRS.c.id).where(PAIRS.c.id == key, PAIRS.c.t <= moment)).first()
        assert bool(found) == expected


def test_whole_seconds_compare_like_all_others(connection: Connection) -> None:
    """SQLite compares times as text: a time without microseconds must not sort behind one that has some."""
    whole = AT.replace(microsecond=0)
    key = connection.execute(insert(PAIRS).values(t=whole)).inserted_primary_key[0]
    assert connection.execute(select(PAIRS.c.id).where(PAIRS.c.id == key, PAIRS.c.t < AT)).first()
    assert not connection.execute(select(PAIRS.c.id).where(PAIRS.c.id == key, PAIRS.c.t > AT)).first()
