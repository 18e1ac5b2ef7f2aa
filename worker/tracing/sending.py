"""Sends the traces of orders to a collector, by OTLP over HTTP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from models.errors import CollectorUnavailable
from models.history import History, v_attempts, v_fills, v_orders
from worker.tracing.spans import Row, SpanFacts, span_id, spans_of, trace_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: By the first word of a span's name; the others are internal.
_KINDS = {"order": SpanKind.PRODUCER, "attempt": SpanKind.CLIENT}


class TraceSender:
    """A collector of traces.

    Args:
        endpoint: its address, such as http://127.0.0.1:4318; empty: what OTEL_EXPORTER_OTLP_ENDPOINT says, or that
            address. Headers, certificates and time limits are OpenTelemetry's own variables too.
    """

    def __init__(self, endpoint: str = "") -> None:
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
        self._resource = Resource.create({"service.name": "corro", "service.version": version("corro")})

    def send(self, history: History, ids: Sequence[str]) -> int:
        """Send the traces of these orders; returns how many spans they have.

        Raises:
            CollectorUnavailable: the collector did not take them.
            DatabaseUnavailable: they could not be read.
        """
        spans = [self._span(id_, facts) for id_, facts in _read(history, ids)]
        if spans and self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise CollectorUnavailable(f"the collector did not take {len(spans)} spans of {len(ids)} orders")
        return len(spans)

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _span(self, client_order_id: str, facts: SpanFacts) -> ReadableSpan:
        parent = _context(client_order_id, facts.parent) if facts.parent else None
        return ReadableSpan(
            facts.name, _context(client_order_id, facts.key), parent, self._resource, dict(facts.attributes),
            [Event(name, dict(said), _nanoseconds(at)) for at, name, said in facts.moments],
            kind=_KINDS.get(facts.name.partition(" ")[0], SpanKind.INTERNAL),
            status=Status(StatusCode.ERROR, facts.words) if facts.failed else Status(StatusCode.UNSET),
            start_time=_nanoseconds(facts.begins), end_time=_nanoseconds(facts.ends),
        )  # fmt: skip


def _read(history: History, ids: Sequence[str]) -> Iterator[tuple[str, SpanFacts]]:
    attempts = _by_order(history.rows(v_attempts, client_order_id=list(ids)))
    fills = _by_order(history.rows(v_fills, client_order_id=list(ids), newest_first=False))
    for order in history.rows(v_orders, client_order_id=list(ids), newest_first=False):
        id_ = order["client_order_id"]
        yield from ((id_, facts) for facts in spans_of(order, attempts[id_], fills[id_]))


def _by_order(rows: Iterable[Row]) -> defaultdict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["client_order_id"]].append(row)
    return found


def _context(client_order_id: str, key: str) -> SpanContext:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace_id(client_order_id), span_id(client_order_id, key), is_remote=False, trace_flags=sampled)


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
