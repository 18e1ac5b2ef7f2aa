"""`/metrics`: the whole fleet in one scrape, from the record and the queue, so dead workers are told of as well.

`METRICS` is the table of names; a metric that is not in it does not exist, and every one in it is in every scrape that
reaches the database. Counters (`*_total`) count entries and never become smaller; what stands now is a gauge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from models.clock import utcnow
from models.errors import CorroError, DatabaseUnavailable
from models.record import tally
from models.record.database import Database
from models.record.gauges import Gauges, gauges
from models.settings import Settings
from models.vocabulary import OPEN
from worker.messaging.queue_look import QueueLook, QueueLooker
from worker.notify.concerns import is_connected
from worker.risk.report import limits_report

Labels = tuple[str, ...]
Values = Mapping[Labels, float]

#: A worker that has been silent for longer has no metric any more, seconds.
_FORGOTTEN_S = 86_400.0


@dataclass(frozen=True)
class Named:
    """One metric: its type, its labels, and its help."""

    kind: str
    labels: Labels
    words: str


#: Every metric. Counters are named without their `_total`.
METRICS: dict[str, Named] = {
    "corro_build_info": Named("gauge", ("version",), "Always 1: the version that answers."),
    "corro_database_up": Named("gauge", (), "1 while the record can be read."),
    "corro_queue_up": Named("gauge", (), "1 while the queue answers, and takes messages."),
    "corro_orders": Named("counter", ("broker", "status"), "Orders that have entered a status, each once."),
    "corro_open_orders": Named("gauge", ("broker", "status"), "Orders that have not ended."),
    "corro_attempts": Named("counter", ("broker", "outcome"), "Attempts that have entered an outcome."),
    "corro_fallbacks": Named("counter", ("from", "to"), "Attempts at another broker, or account, than the one before."),
    "corro_submit_to_broker_seconds": Named("histogram", (), "From an order's making to its first send."),
    "corro_broker_connected": Named("gauge", ("broker",), "1 while a live worker is connected, and reads its broker."),
    "corro_worker_heartbeat_age_seconds": Named("gauge", ("worker",), "Since the last heartbeat; of broker@host."),
    "corro_oldest_queued_seconds": Named("gauge", ("broker",), "Age of the oldest queued order; 0 without one."),
    "corro_unresolved": Named("gauge", ("broker",), "Attempts that may be live at the broker without anybody knowing."),
    "corro_oldest_unresolved_seconds": Named("gauge", (), "Age of the oldest of them; 0 without one."),
    "corro_position_locks": Named("gauge", ("broker",), "Symbols locked because a position is not explained."),
    "corro_dead_letters_waiting": Named("gauge", ("reason",), "Messages set aside that are kept for a person."),
    "corro_dead_letters": Named("counter", ("reason",), "Messages that were set aside."),
    "corro_controls": Named("gauge", ("scope", "state"), "1 while trading is stopped there."),
    "corro_risk_used_ratio": Named(
        "gauge", ("scope", "limit"), "Share of a limit that is used; over 1: it was lowered."
    ),
    "corro_notifications": Named("counter", ("kind", "result"), "Tries to tell people: sent, failed or given_up."),
    "corro_events_lag_seconds": Named("gauge", (), "For how long an open transaction holds the stream of events."),
}
_FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


class Metrics:
    """Answers scrapes.

    Args:
        settings: which brokers there are, and where the queue is.
        database: the record.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database, self.queue = settings, database, QueueLooker(settings)

    def text(self) -> bytes:
        """Return the answer of one scrape; always one, `corro_database_up 0` where the record cannot be read."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Scraped(list(self._families())))
        return generate_latest(registry)

    def _families(self) -> Iterator[Metric]:
        yield family("corro_build_info", {(version("corro"),): 1})
        look = self.queue.look()
        yield family("corro_queue_up", {(): float(look.up)})
        try:
            counted = self._counts()
            with self.database.read() as connection:
                now = gauges(connection, utcnow(), self.settings.timing.alert_after)
                limits = limits_report(connection, self.settings.risk, now.at)
        except DatabaseUnavailable:
            yield family("corro_database_up", {(): 0})
            return
        yield family("corro_database_up", {(): 1})
        yield from self._counters(counted, look)
        for name, values in standing(now, list(self.settings.all_brokers), self.settings.timing.dead_after).items():
            yield family(name, values)
        yield family("corro_risk_used_ratio", used_ratios(limits))
        yield family("corro_dead_letters_waiting", {(reason,): count for reason, count in look.waiting.items()})

    def _counts(self) -> tally.Counts:
        """Return the counts, counted on where the record can be written."""
        try:
            return tally.count_on(self.database)
        except DatabaseUnavailable:
            with self.database.read() as connection:
                return tally.counts(connection)

    def _counters(self, counted: tally.Counts, look: QueueLook) -> Iterator[Metric]:
        for name in ("orders", "attempts", "fallbacks", "notifications"):
            yield family(f"corro_{name}", counted.of(name))
        yield family("corro_dead_letters", self._dead_letters(counted, look))
        buckets, last = counted.of("to_broker"), 0.0
        summed: list[tuple[str, float]] = []
        for bound in (*map(str, tally.BUCKETS), "+Inf"):
            last += buckets.get((bound,), 0.0)
            summed.append((bound, last))
        name = "corro_submit_to_broker_seconds"
        total = counted.of("to_broker_sum").get((), 0.0)
        yield HistogramMetricFamily(name, METRICS[name].words, buckets=summed, sum_value=total)

    def _dead_letters(self, counted: tally.Counts, look: QueueLook) -> Values:
        """Return what the queue has counted, and had counted before its data was lost."""
        kept = {labels: value for labels, value in counted.of("dead_letters").items() if labels != ("",)}
        last = {labels[0]: value for labels, value in counted.of("dead_letters.last").items()}
        if not look.up or all(last.get(reason) == count for reason, count in look.total.items()):
            return kept
        try:
            return tally.keep_highest(self.database, "dead_letters", look.total)
        except CorroError:
            return kept


class _Scraped(Collector):
    """What was read for one scrape."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Hand it over."""
        return self._families


def family(name: str, values: Values) -> Metric:
    """Return one metric with its values by labels."""
    named = METRICS[name]
    found: Metric = _FAMILIES[named.kind](name, named.words, labels=named.labels)
    for labels, value in sorted(values.items()):
        found.add_metric(labels, value)  # type: ignore[attr-defined]
    return found


def standing(now: Gauges, configured: list[str], dead_after_s: float) -> dict[str, Values]:
    """Return the gauges of the record, with a value for every configured broker: pure.

    Args:
        now: the record.
        configured: brokers.
        dead_after_s: a worker without a heartbeat for this long is dead.
    """
    none: dict[Labels, float] = {(broker,): 0.0 for broker in configured}
    opened: dict[Labels, float] = {(broker, str(status)): 0.0 for broker in configured for status in OPEN}
    stopped: dict[Labels, float] = {
        (scope, state): 0.0 for scope in ("*", *_scopes(configured)) for state in ("halted", "reducing")
    }
    for control in now.controls:
        scope = "*" if control["scope_kind"] == "*" else f"{control['scope_kind']}:{control['scope']}"
        stopped[scope, control["state"]] = 1.0

    def age(at: datetime | None) -> float:
        return 0.0 if at is None else max((now.at - at).total_seconds(), 0.0)

    return {
        "corro_open_orders": opened | {(b or "", s): float(count) for (b, s), count in now.open_orders.items()},
        "corro_oldest_queued_seconds": none | {(b or "",): age(at) for b, at in now.oldest_queued.items()},
        "corro_unresolved": none | {(b,): float(count) for b, count in now.unresolved.items()},
        "corro_oldest_unresolved_seconds": {(): age(now.oldest_unresolved)},
        "corro_position_locks": none | {(b,): float(count) for b, count in now.locks.items()},
        "corro_broker_connected": {
            (b,): float(is_connected([w for w in now.workers if w["broker"] == b], now.at, dead_after_s))
            for b in configured
        },
        "corro_worker_heartbeat_age_seconds": _ages(now),
        "corro_controls": stopped,
        "corro_events_lag_seconds": {(): now.held.seconds},
    }


def used_ratios(limits: Sequence[Mapping[str, object]]) -> Values:
    """Return the used share of each limit that orders use up together: pure.

    Args:
        limits: as `corro limits --json` lists them.
    """
    found: dict[Labels, float] = {}
    for row in limits:
        used = row["used"]
        if isinstance(used, Decimal) and (value := Decimal(str(row["value"]))) > 0:
            scope = "*" if row["scope_kind"] == "*" else f"{row['scope_kind']}:{row['scope']}"
            found[scope, str(row["name"])] = float(used / value)
    return found


def _scopes(configured: list[str]) -> Iterator[str]:
    return (f"broker:{name}" for name in configured)


def _ages(now: Gauges) -> Values:
    """Return the age of the newest heartbeat of each broker and host; who said good-bye, or is long gone, has none."""
    found: dict[Labels, float] = {}
    for worker in now.workers:
        seconds = max((now.at - worker["heartbeat_at"]).total_seconds(), 0.0)
        if worker["state"] != "stopped" and seconds < _FORGOTTEN_S:
            label = (f"{worker['broker']}@{worker['host']}",)
            found[label] = min(seconds, found.get(label, seconds))
    return found
