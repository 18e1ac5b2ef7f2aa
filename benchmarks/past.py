"""Made-up years of history, quickly: rows are made by the database itself from a counter, newest first.

Order number i (0 is the newest) lies i * 86.4 seconds back: a thousand orders a day, whatever the size; more orders are
more years, not busier days, unless the step is another. Each has an attempt, a fill and two events; the newest are
unresolved or live, one in a hundred was rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from benchmarks.house import BenchHouse
from models.record.database import Database
from models.record.keeping import keep
from models.record.tables import LOST_INDEX, PACKAGES_INDEX, STRAY_INDEX, UNSETTLED_INDEX, WISHED_INDEX, metadata

#: The newest order's time.
NEWEST = datetime(2026, 6, 1, 16, tzinfo=UTC)
SYMBOLS, STRATEGIES = 100, 20
#: The newest orders are unresolved, those behind them live.
UNRESOLVED, OPEN = 5, 55
STEP_S = 86.4
_YEAR_S = 365 * 86400
#: Executions that are kept in one turn, instead of a leader's few.
_BITE = 100_000

#: What each database says in its own words: the counter's rows, and a time some seconds after the newest order.
_WORDS = {
    "sqlite": {
        "numbers": "(WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < {count}) "
        "SELECT i FROM c)",
        "at": "strftime('%Y-%m-%d %H:%M:%f', {base} - i * {step} + {s}, 'unixepoch') || '000'",
        "id": "printf('%08x-bench-%d', i * 2654435761 % 4294967296, i)",
        "no": "0",
        "pad": "printf('S%02d', {n})",
    },
    "postgresql": {
        "numbers": "(SELECT generate_series(0::bigint, {count} - 1) AS i)",
        "at": "to_timestamp({base} - i * {step} + {s})",
        "id": "lpad(to_hex(i * 2654435761 % 4294967296), 8, '0') || '-bench-' || i",
        "no": "false",
        "pad": "'S' || lpad(({n})::text, 2, '0')",
    },
}
_ROUTE = """'["ibkr", "alpaca", "tda"]'"""
_BROKER = "CASE i % 3 WHEN 0 THEN 'ibkr' WHEN 1 THEN 'alpaca' ELSE 'tda' END"
_STATUS = (
    f"CASE WHEN i < {UNRESOLVED} THEN 'submitted' WHEN i < {OPEN} THEN 'accepted' WHEN i % 100 = 99 THEN 'rejected' "
    "ELSE 'filled' END"
)
_OUTCOME = f"CASE WHEN i < {UNRESOLVED} THEN 'unknown' WHEN i % 100 = 99 THEN 'refused' ELSE 'accepted' END"
_STRATEGY = f"'strategy-' || ((i * 7 + i / 100) % {STRATEGIES})"
#: Symbols are bought and sold in turn, so that there are lots to close.
_SIDE = f"CASE WHEN i / {SYMBOLS * STRATEGIES * 3} % 2 = 0 THEN 'sell' ELSE 'buy' END"
_FILLED = f"i >= {OPEN} AND i % 100 <> 99"

_ORDERS = f"""
INSERT INTO orders (client_order_id, version, strategy, symbol, side, quantity, order_type, limit_price, time_in_force,
  extended_hours, tags, status, route, broker, broker_order_id, attempt_no, filled_quantity, avg_fill_price, body_hash,
  available_at, created_at, expires_at, submitted_at, accepted_at, closed_at, updated_at)
SELECT {{id}}, 1, {_STRATEGY}, {{symbol}}, {_SIDE}, 10, 'limit', 101.25, 'day',
  {{no}}, '[]', {_STATUS}, {_ROUTE}, {_BROKER}, 'B' || i, 1, CASE WHEN {_FILLED} THEN 10 ELSE 0 END,
  CASE WHEN {_FILLED} THEN 101.2 END, {{id}}, {{at0}}, {{at0}}, {{at60}}, {{at1}}, {{at2}},
  CASE WHEN i >= {OPEN} THEN {{at3}} END, {{at3}} FROM {{numbers}} n"""
_ATTEMPTS = f"""
INSERT INTO attempts (client_order_id, attempt_no, broker, broker_client_order_id, broker_order_id, outcome, worker,
  started_at, ended_at, lease_until, checks, missing, decision_price, arrival_bid, arrival_ask, arrival_at)
SELECT {{id}}, 1, {_BROKER}, {{id}}, 'B' || i, {_OUTCOME}, 'worker@host:1', {{at1}}, {{at2}}, {{at60}}, 0, 0, 101.2,
  101.15, 101.25, {{at2}}
FROM {{numbers}} n"""
_FILLS = f"""
INSERT INTO fills (broker, execution_id, client_order_id, attempt_no, symbol, strategy, quantity, price,
  cumulative_quantity, commission, filled_at, recorded_at, late)
SELECT {_BROKER}, 'E' || i, {{id}}, 1, {{symbol}}, {_STRATEGY}, 10, 101.2 + i % 7, 10, 0.35, {{at3}}, {{at3}}, {{no}}
FROM {{numbers}} n WHERE {_FILLED} ORDER BY i DESC"""
_EVENTS = [
    f"""
INSERT INTO order_events (client_order_id, at, kind, from_status, to_status, detail)
SELECT {{id}}, {{at{number}}}, '{kind}', {before}, '{kind}', 'at the broker' FROM {{numbers}} n"""
    for number, (kind, before) in enumerate([("queued", "NULL"), ("filled", "'accepted'")])
]

# What the books of positions stand on: fills are folded into baselines up to the last hundred, others' fills stay.
_LEDGERS = [
    """
INSERT INTO external_fills (broker, execution_id, broker_order_id, symbol, side, quantity, price, filled_at,
  recorded_at)
SELECT 'alpaca', 'X' || i, 'XB' || i, {symbol}, 'buy', 10, 101.2, {at3}, {at3} FROM {numbers} n WHERE i < 20""",
    """
INSERT INTO position_ledgers (broker, fills_id, external_fills_id, pending, opened_at, fills_read_at)
SELECT 'alpaca', (SELECT max(id) - 100 FROM fills), 10, '[]', {at3}, {at3} FROM {numbers} n WHERE i < 1""",
]


def identity(number: int) -> str:
    """Return the client_order_id of an order."""
    return f"{number * 2654435761 % 4294967296:08x}-bench-{number}"


def keep_balances(database: Database) -> None:
    """Write down what all executions come to, as the leaders do in the course of years, in larger bites."""
    at_once, later = timedelta(0), datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):  # a turn marks what a later one keeps
        while keep(database, later, settle=at_once, patience=at_once, most=_BITE):
            pass


def made(house: BenchHouse, kind: str, count: int) -> str:
    """Return the URL of a database with so many orders: made when it is first asked for, and shared."""
    return _shared(house, kind, count, STEP_S, kept=False)


def made_year(house: BenchHouse, kind: str, count: int) -> str:
    """The same, with all orders in one year and with what they come to kept."""
    return _shared(house, kind, count, _YEAR_S / count, kept=True)


def _shared(house: BenchHouse, kind: str, count: int, step_s: float, *, kept: bool) -> str:
    if (kind, count, kept) not in house.histories:
        url = house.database(kind, house.folder("history"), ours=True)
        database = Database(url)
        make(database, count, step_s)
        if kept:
            keep_balances(database)
        database.close()
        house.histories[kind, count, kept] = url
    return house.histories[kind, count, kept]


def make(database: Database, count: int, step_s: float = STEP_S) -> None:
    """Fill an empty database with so many orders, one each so many seconds.

    PostgreSQL looks at what it has then, as its autovacuum does; nobody tells SQLite to.
    """
    words = _words(database, count, step_s)
    with _unhurried(database) as connection:
        for statement in (_ORDERS, _ATTEMPTS, _FILLS, *_EVENTS, *_LEDGERS):
            text = statement.format(**words)
            connection.exec_driver_sql(text if database.is_sqlite else text.replace("%", "%%"))
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _words(database: Database, count: int, step_s: float) -> dict[str, str]:
    own = _WORDS["sqlite" if database.is_sqlite else "postgresql"]
    base = int(NEWEST.timestamp())
    times = {
        f"at{n}": own["at"].format(base=base, step=step_s, s=s) for n, s in ((0, 0), (1, 1), (2, 2), (3, 3), (60, 60))
    }
    symbol = own["pad"].format(n=f"i * 37 % {SYMBOLS}")
    numbers = own["numbers"].format(count=count)
    return {"id": own["id"], "no": own["no"], "symbol": symbol, "numbers": numbers, **times}


@contextmanager
def _unhurried(database: Database) -> Iterator[Connection]:
    """A transaction that need not survive a power cut, with the indexes made anew at its end: the rows are made up."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            raw: Any = connection.connection.driver_connection
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
                raw.execute(f"PRAGMA {pragma}").fetchall()
        else:
            for setting in ("synchronous_commit = off", "maintenance_work_mem = '256MB'"):
                connection.exec_driver_sql(f"SET {setting}")
            connection.commit()
        with connection.begin():
            every = [index for table in metadata.sorted_tables for index in table.indexes]
            partial = {LOST_INDEX, PACKAGES_INDEX, STRAY_INDEX, UNSETTLED_INDEX, WISHED_INDEX}  # empty here
            indexes = [index for index in every if index not in partial]
            for index in indexes:
                index.drop(connection)
            yield connection
            for index in indexes:
                index.create(connection)
    database.engine.dispose()
