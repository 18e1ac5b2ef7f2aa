"""What has happened since the database was made, counted: entries of orders and attempts into their states.

A counter never becomes smaller, also where old rows are archived, so it is kept: each count covers the events up to an
id, and counting goes on from there. An order counts once in each state, an attempt once in each outcome, under the
broker that had the order at that moment. Whoever shows the counts counts on; several may.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select, text, update

from models import encoding
from models.record.database import Database
from models.record.statements import upsert
from models.record.stream import settled
from models.record.tables import tallies

#: Upper bounds of the buckets of a time, seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Ids that are counted in one transaction.
_PART = 20_000
#: The row that says up to which event all is counted.
_PLACE = "events"
#: Values of a row's labels, in the order of the metric's.
Labels = tuple[str, ...]

# What an event tells of, with the attempt that was the order's newest then: it was begun in a transaction of the same
# time as its event. In vain, and what the order does after it, are of one transaction, too.
_SEEN = """
WITH seen AS (
  SELECT v.id, v.client_order_id, v.at, v.kind, v.from_status, v.to_status, o.created_at,
    coalesce({first}, o.broker, '') AS first, {first_account} AS first_account,
    (SELECT max(a.attempt_no) FROM attempts a
      WHERE a.client_order_id = v.client_order_id AND a.started_at <= v.at) AS no
  FROM order_events v JOIN orders o ON o.client_order_id = v.client_order_id WHERE v.id > :after AND v.id <= :upto
), told AS (
  SELECT s.*, a.started_at, a.sent_at, coalesce(a.broker, s.first) AS broker, coalesce(b.broker, s.first) AS before,
    coalesce(a.account, '') AS account, coalesce(b.account, CASE WHEN b.broker IS NULL THEN s.first_account END, '')
      AS account_before
  FROM seen s LEFT JOIN attempts a ON a.client_order_id = s.client_order_id AND a.attempt_no = s.no
  LEFT JOIN attempts b ON b.client_order_id = s.client_order_id AND b.attempt_no = s.no - 1
)
"""
_ORDERS = """
SELECT t.broker, t.to_status, count(*) FROM told t
WHERE t.to_status IS NOT NULL AND (t.from_status IS NULL OR t.from_status <> t.to_status) AND NOT EXISTS (
  SELECT 1 FROM order_events p
  WHERE p.client_order_id = t.client_order_id AND p.id < t.id AND p.to_status = t.to_status)
GROUP BY 1, 2
"""
_ATTEMPTS = """
SELECT broker, outcome, count(*) FROM (
  SELECT t.broker, CASE
    WHEN t.kind IN ('claimed', 'replacing') THEN 'sending'
    WHEN t.kind IN ('refused', 'not_sent', 'absent', 'unknown') THEN t.kind
    WHEN t.kind IN ('replace_refused', 'replace_not_sent', 'replace_absent', 'replace_unknown') THEN substr(t.kind, 9)
    WHEN t.kind = 'replaced' THEN 'accepted'
    WHEN t.from_status = 'submitted' AND t.to_status IN ('accepted', 'partially_filled', 'filled', 'pending_cancel')
      THEN 'accepted'
    WHEN t.from_status = 'submitted' AND t.to_status IN ('canceled', 'expired') AND NOT EXISTS (
      SELECT 1 FROM order_events p WHERE p.client_order_id = t.client_order_id AND p.id < t.id AND p.at = t.at
      AND p.kind IN ('refused', 'not_sent', 'absent')) THEN 'accepted'
  END AS outcome FROM told t WHERE t.no IS NOT NULL) counted
WHERE outcome IS NOT NULL GROUP BY 1, 2
"""
_FALLBACKS = """
SELECT before, broker, count(*) FROM told
WHERE kind = 'claimed' AND (before <> broker OR account_before <> account) GROUP BY 1, 2
"""
_TO_BROKER = "SELECT {seconds} AS took FROM told WHERE kind = 'claimed' AND no = 1"
_FIRST = "json_extract(o.route, '$[0]')"
#: By dialect: the first broker of a route, its account, and the seconds from the order's making to its first send.
_WORDS = {
    "sqlite": {
        "first": f"substr({_FIRST}, 1, instr({_FIRST} || '\\:', '\\:') - 1)",
        "first_account": f"substr({_FIRST}, instr({_FIRST} || '\\:', '\\:') + 1)",
        "seconds": "86400.0 * (julianday(coalesce(sent_at, started_at)) - julianday(created_at))",
    },
    "postgresql": {
        "first": "split_part(o.route ->> 0, '\\:', 1)",
        "first_account": "split_part(o.route ->> 0, '\\:', 2)",
        "seconds": "extract(epoch FROM coalesce(sent_at, started_at) - created_at)",
    },
}


@dataclass
class Counts:
    """The counts as they are kept.

    Args:
        upto: the id of the last event that they cover.
        values: by name and labels.
    """

    upto: int = 0
    values: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def of(self, name: str) -> Mapping[Labels, float]:
        """Return the values of one counter by its labels."""
        return self.values.get(name, {})


def count_on(database: Database, budget_s: float = 2.0) -> Counts:
    """Count what has happened since somebody counted last, and return the counts.

    Args:
        database: the record.
        budget_s: what is not counted within this is left for the next time: after a year without anybody counting.

    Raises:
        DatabaseUnavailable: it cannot be written.
    """
    with database.read() as connection:
        kept = counts(connection)
        if kept.upto >= settled(connection):
            return kept
    end = time.monotonic() + budget_s
    while database.transact(_count) and time.monotonic() < end:
        pass
    with database.read() as connection:
        return counts(connection)


def counts(connection: Connection) -> Counts:
    """Return the counts as they are kept."""
    found = Counts()
    for row in connection.execute(select(tallies.c.name, tallies.c.labels, tallies.c.value)):
        if row.name == _PLACE:
            found.upto = int(row.value)
        else:
            found.values.setdefault(row.name, {})[tuple(encoding.loads(row.labels))] = float(row.value)
    return found


def _count(connection: Connection) -> bool:
    """Count one part; returns whether there is more."""
    add(connection, _PLACE, (), 0)
    place = select(tallies.c.value).where(tallies.c.name == _PLACE).with_for_update()
    after, bound = int(connection.execute(place).scalar_one()), settled(connection)
    upto = min(bound, after + _PART)
    if upto <= after:
        return False
    for name, labels, value in _counted(connection, after, upto):
        add(connection, name, labels, value)
    add(connection, _PLACE, (), upto - after)
    return upto < bound


def _counted(connection: Connection, after: int, upto: int) -> Iterator[tuple[str, Labels, float]]:
    words, part = _WORDS[connection.dialect.name], {"after": after, "upto": upto}
    for name, query in (("orders", _ORDERS), ("attempts", _ATTEMPTS), ("fallbacks", _FALLBACKS)):
        for first, second, count in connection.execute(text(_SEEN.format(**words) + query), part).all():
            yield name, (first, second), count
    took = connection.execute(text((_SEEN + _TO_BROKER).format(**words)), part).scalars().all()
    for seconds in (max(float(value), 0.0) for value in took):
        yield "to_broker", (str(next((bound for bound in BUCKETS if seconds <= bound), "+Inf")),), 1
        yield "to_broker_sum", (), seconds


def add(connection: Connection, name: str, labels: Labels, value: float) -> None:
    """Count on by a value; a transaction that writes."""
    row = {"name": name, "labels": encoding.text(labels), "value": value}
    put = upsert(connection, tallies).values(**row)
    grown = tallies.c.value + put.excluded.value
    connection.execute(put.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": grown}))


def keep_highest(database: Database, name: str, seen: Mapping[str, int]) -> Mapping[Labels, float]:
    """Return counters that somebody else keeps and may lose (the queue's), so that they never become smaller.

    Args:
        database: the record.
        name: of the counters.
        seen: their values now, by label.
    """

    def work(connection: Connection) -> Mapping[Labels, float]:
        add(connection, name, ("",), 0)
        lock = update(tallies).where(tallies.c.name == name, tallies.c.labels == encoding.text(("",)))
        connection.execute(lock.values(value=func.coalesce(tallies.c.value, 0)))
        kept = counts(connection)
        last = kept.of(f"{name}.last")
        for label, value in seen.items():
            before = last.get((label,), 0)
            add(connection, name, (label,), value - before if value >= before else value)
            add(connection, f"{name}.last", (label,), value - before)
        return {labels: value for labels, value in counts(connection).of(name).items() if labels != ("",)}

    return database.transact(work)
