"""`corro traces`: one trace an order, made from the record and taken by a collector that speaks OTLP."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra `traces`")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.kit import eventually
from tests.unit.page_site import EVIL, desk_of_orders
from tests.unit.words import Run
from worker.tracing.spans import spans_of


class Collector:
    """Takes what is posted to /v1/traces, or refuses it; each export with its spans by the id of its trace."""

    def __init__(self, port: int = 0) -> None:
        self.status, self.spans, exports = 200, [], []
        self.exports: list[int] = exports

        class TraceDoor(BaseHTTPRequestHandler):
            def do_POST(door) -> None:
                body = door.rfile.read(int(door.headers["Content-Length"]))
                assert door.path == "/v1/traces"
                if self.status == 200:
                    told = ExportTraceServiceRequest.FromString(body)
                    found = [s for r in told.resource_spans for scope in r.scope_spans for s in scope.spans]
                    self.spans += found
                exports.append(self.status)
                door.send_response(self.status)
                door.end_headers()

            def log_message(door, *_: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), TraceDoor)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def of(self, client_order_id: str) -> list[Span]:
        trace = hashlib.sha256(f"corro:{client_order_id}".encode()).digest()[:16]
        return [span for span in self.spans if span.trace_id == trace]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def _collector() -> Iterator[Collector]:
    made = Collector()
    try:
        yield made
    finally:
        made.close()


def said(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_each_order_that_has_ended_is_one_trace_from_its_making_to_its_end(bare: Path, corro: Run) -> None:
    with _collector() as collector, desk_of_orders(bare) as (site, _, _):
        status, out, _ = corro("traces", "--to", collector.address)
        rows = {row["client_order_id"]: row for row in site.json("/api/v1/orders?limit=100")}
    assert status == 0
    assert "4 orders" in [line.split(",")[0] for line in out.splitlines()], "the desk's own log may come in between"
    names = {id_: [span.name for span in collector.of(id_)] for id_ in rows}
    assert names == {
        "p-filled": ["order KO", "queued", "attempt at alpaca", "working at alpaca"],
        "p-fell": ["order KO", "queued", "attempt at alpaca", "queued", "attempt at tda", "working at tda"],
        "p-refused": ["order KO", "queued", "attempt at alpaca"],
        "p-halted": ["order KO"],
        "p-rests": [], "p-held": [], "p-unknown": [],
    }  # fmt: skip
    whole, queued, attempt, working = collector.of("p-filled")
    assert said(whole)["corro.status"] == "filled"
    assert said(whole)["corro.strategy"] == "dip"
    assert {span.parent_span_id for span in (queued, attempt, working)} == {whole.span_id}
    assert (whole.parent_span_id, whole.status.code) == (b"", Status.STATUS_CODE_UNSET)
    made = datetime.fromtimestamp(whole.start_time_unix_nano / 1e9, UTC)
    assert abs((made - datetime.fromisoformat(rows["p-filled"]["created_at"])).total_seconds()) < 1e-3
    assert whole.start_time_unix_nano <= queued.end_time_unix_nano == attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= working.end_time_unix_nano == whole.end_time_unix_nano
    assert [(event.name, said(event)["corro.quantity"]) for event in working.events] == [("fill", "10")]
    refused = collector.of("p-refused")
    assert [span.status.code == Status.STATUS_CODE_ERROR for span in refused] == [True, False, True]
    assert "abcdef123456" not in str(refused) and EVIL.split()[0] in refused[2].status.message  # noqa: PT018
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


def test_a_span_says_when_the_first_byte_left_and_amounts_keep_their_digits() -> None:
    at = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
    nothing: dict[str, Any] = defaultdict(lambda: None)
    order = nothing | {"symbol": "KO", "status": "canceled", "created_at": at, "closed_at": at, "broker": "ibkr",
                       "quantity": Decimal("1E+3"), "limit_price": Decimal("0.10")}  # fmt: skip
    attempt = nothing | {"attempt_no": 1, "broker": "ibkr", "started_at": at - timedelta(seconds=1), "sent_at": at,
                         "outcome": "accepted"}  # fmt: skip
    whole, queued, tried = spans_of(order, [attempt], [])
    assert (whole.attributes["corro.quantity"], whole.failed) == ("1000", False)
    assert queued.begins == queued.ends == at  # another machine's clock: nothing ends before it begins
    assert (tried.ends, [(when, name) for when, name, _ in tried.moments]) == (at, [(at, "sent")])


def test_a_place_is_kept_once_the_collector_has_what_lies_before_it(bare: Path, corro: Run) -> None:
    place = bare / "traces.place"
    with _collector() as collector, desk_of_orders(bare):
        collector.status = 400
        status, _, error = corro("traces", "--to", collector.address, "--place", str(place))
        assert (status, "did not take 14 spans of 4 orders" in error, place.exists()) == (1, True, False)
        collector.status = 200
        assert corro("traces", "--to", collector.address, "--place", str(place))[0] == 0
        first = len(collector.spans)
        status, out, _ = corro("traces", "--to", collector.address, "--place", str(place))
        told = json.loads(corro("traces", "--to", collector.address, "--place", str(place), "--json")[1])
    assert (status, out.split(";")[0], len(collector.spans)) == (0, "0 orders, 0 spans", first)
    assert told == {"orders": 0, "spans": 0, "last_event": int(place.read_text())}
    assert int(place.read_text()) > 0


def test_one_that_follows_and_is_stopped_before_anything_ends_goes_on_there(bare: Path, corro: Run) -> None:
    place = bare / "traces.place"
    with _collector() as collector, desk_of_orders(bare) as (site, _, _):
        words = ("traces", "--to", collector.address, "--place", str(place))
        with _stopped(place.exists):
            corro(*words, "--follow")
        assert (collector.spans, place.exists()) == ([], True)
        site.client.cancel("p-rests").wait(timeout=10)
        assert corro(*words)[1].split(",")[0] == "1 orders"
        assert next(span.name for span in collector.of("p-rests")) == "order KO"


@contextmanager
def _stopped(when: Callable[[], bool]) -> Iterator[None]:
    """Press Ctrl-C once this is so, and after three seconds all the same."""

    def stop() -> None:
        with suppress(AssertionError):
            eventually(when, 3.0)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "localhost:4318"), "--to: must be an address such as http://127.0.0.1:4318"),
        (("--since", "99"), "99"),
        (("--place", "corro.toml"), "has to hold the id of an event"),
    ],
)
def test_what_is_no_address_and_no_place_is_refused(
    bare: Path, corro: Run, options: tuple[str, str], words: str
) -> None:
    (bare / "corro.toml").write_text("# settings\n")
    corro("db", "upgrade")
    status, _, error = corro("traces", *options)
    assert (status, words in error) == (2, True), error
