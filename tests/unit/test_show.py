"""What the command line prints: it fits the terminal, keeps the status, and nobody's words steer the screen."""

from __future__ import annotations

import json
import os
import pty
import select as ready
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from sqlalchemy import insert

from models.record.database import Database
from models.record.tables import attempts, external_orders, fills, halts, order_events, orders, position_locks, workers
from producers.cli import show
from producers.cli.layout import layout, short_ids
from tests.unit.words import Run

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a terminal without colours, so many cells wide."""

    def have(width: int) -> None:
        for name in ("out", "err"):
            made = Console(
                stderr=name == "err", force_terminal=True, color_system=None, width=width, soft_wrap=True, markup=False,
                highlight=False, emoji=False,
            )  # fmt: skip
            monkeypatch.setattr(show, name, made)

    return have


@pytest.mark.parametrize("width", [60, 80])
def test_a_quote_fits_its_terminal_and_keeps_its_prices(
    width: int, terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(width)
    row = {
        "broker": "ibkr", "symbol": "KO", "bid": Decimal("44.92"), "ask": Decimal("44.93"), "last": Decimal("44.92"),
        "bid_size": 900, "ask_size": 700, "last_size": 200, "size_unit": "shares", "volume": 2943308, "at": NOW,
        "delayed": True, "age_s": 0.013,
    }  # fmt: skip
    show.rows([row], list(row))
    head, line, *_ = capsys.readouterr().out.splitlines()
    assert max(len(head), len(line)) <= width
    assert {"bid", "ask", "last", "delayed"} <= set(head.split())
    assert {"44.92", "44.93", "yes"} <= set(line.split())


def test_a_table_of_columns_that_nobody_has_ranked_fits_all_the_same(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(60)
    names = ("event", "status", *(f"column_{n}" for n in range(20)))
    show.rows([dict.fromkeys(names, "something")], names)
    head, line, hidden = capsys.readouterr().out.splitlines()
    assert max(len(head), len(line)) <= 60
    assert head.split()[:3] == ["event", "status", "column_0"]
    assert "no room for" in hidden


def test_an_error_wraps_by_words_on_a_terminal(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(60)
    show.note("corro: " + "seventeen letters " * 8, keep="\n")
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 60
    assert all(word in ("corro:", "seventeen", "letters") for line in lines for word in line.split())


def test_a_no_is_blank_and_a_column_of_nos_goes(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    show.rows(
        [{"id": "a", "late": False, "leads": True}, {"id": "b", "late": False, "leads": False}], ("id", "late", "leads")
    )
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["id", "leads"], ["a", "yes"], ["b"]]


def fill_with(database: Database, text: str, client_order_id: str) -> None:
    """Put a text everywhere a producer, a broker or an operator could have put it."""
    rows: list[tuple[Any, dict[str, Any]]] = [
        (orders, {
            "client_order_id": client_order_id, "symbol": "KO", "side": "buy", "quantity": 3, "order_type": "market",
            "time_in_force": "day", "status": "submitted", "broker": "ibkr", "route": ["ibkr"], "body_hash": "x",
            "available_at": NOW, "created_at": NOW, "updated_at": NOW, "attempt_no": 1, "strategy": text[:128],
            "reason": text, "tags": [text], "broker_order_id": text[:64],
        }),
        (attempts, {
            "client_order_id": client_order_id, "attempt_no": 1, "broker": "ibkr", "broker_client_order_id": "x",
            "outcome": "unknown", "worker": text[:64], "started_at": NOW, "sent_at": NOW, "ended_at": NOW,
            "lease_until": NOW, "message": text, "code": text[:32],
        }),
        (fills, {
            "broker": "ibkr", "execution_id": text[:64] or "e", "client_order_id": client_order_id, "attempt_no": 1,
            "symbol": "KO", "side": "buy", "quantity": 1, "price": 50, "filled_at": NOW, "recorded_at": NOW,
        }),
        (order_events, {"client_order_id": client_order_id, "at": NOW, "kind": "unknown", "detail": text}),
        (external_orders, {
            "broker": "ibkr", "broker_order_id": text[:64] or "b", "symbol": "KO", "side": "buy", "quantity": 1,
            "order_type": "market", "status": "accepted", "raw_status": text[:64], "filled_quantity": 0,
            "first_seen_at": NOW, "last_seen_at": NOW,
        }),
        (halts, {"scope": "*", "kind": "halt", "reason": text, "by": text[:128], "at": NOW}),
        (workers, {
            "worker": text[:128] or "w", "broker": "ibkr", "host": "h", "boot": "b", "pid": 1, "state": "disconnected",
            "detail": text, "started_at": NOW, "heartbeat_at": NOW,
        }),
        (position_locks, {
            "broker": "ibkr", "symbol": text[:32] or "KO", "expected": 0, "found": 1, "since": NOW, "read_at": NOW,
        }),
    ]  # fmt: skip
    with database.write() as connection:
        for table in (position_locks, workers, halts, external_orders, order_events, fills, attempts, orders):
            connection.execute(table.delete())
        for table, row in rows:
            connection.execute(insert(table).values({k: v for k, v in row.items() if k in table.c}))


_COMMANDS = (
    ["orders"], ["fills"], ["external"], ["unresolved"], ["fleet"], ["fleet", "--check"], ["locks"], ["controls"],
    ["orders", "--wide"], ["controls"],
    ["order", "o-1"], ["order", "nobody\x1b[2J"], ["submit", "KO", "hold\x07", "1"], ["orders", "--status", "x\x1b"],
    ["resolve", "o-1", "--absent", "--adopt", "\x9b1m", "--by", "\x1b"], ["\x1b[1m"], ["fills", "--out", "-"],
)  # fmt: skip


@pytest.mark.parametrize("width", [0, 60, 140])
@hypothesis_settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.text(
        st.one_of(st.sampled_from("\x1b\x07\x08\r\n\x7f\x9b\u202e\u2066[]/="), st.characters(exclude_characters="\0")),
        min_size=1, max_size=60,
    )
)  # fmt: skip
def test_no_command_prints_a_control_character_whatever_anybody_has_said(
    corro: Run, terminal: Callable[[int], None], database: Database, width: int, text: str
) -> None:
    if width:
        terminal(width)
    text = "[/red]\x1b[31m" + text.encode("utf-8", "replace").decode()
    fill_with(database, text, "o-1")
    for arguments in _COMMANDS:
        status, out, err = corro(*arguments)
        for line in (out + err).splitlines():
            assert line.replace("\t", "").isprintable(), (arguments, line)
        assert "Traceback" not in err, (arguments, err)
        assert status in (0, 1, 2), (arguments, err)


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_no_line_of_any_command_is_wider_than_its_terminal(
    corro: Run, terminal: Callable[[int], None], database: Database, width: int
) -> None:
    terminal(width)
    looks = {kind: {"times": 2, "at": "2026-01-05T14:30:00Z", "words": "words of the broker " * 9, "candidates": [
        {"broker_order_id": f"{n}" * 40, "status": "accepted", "symbol": "KO", "side": "buy", "quantity": "1"}
        for n in (1, 2)
    ]} for kind in ("ambiguous", "error")}  # fmt: skip
    fill_with(database, "many words of a person, and then " + "one" * 30 + "日本語" * 20, "k-" + "1" * 60)
    with database.write() as connection:
        connection.execute(attempts.update().values(evidence={"query": "by the id " * 9, "times": 2, "answers": looks}))
    commands = (
        ["orders"], ["fills"], ["external"], ["unresolved"], ["fleet"], ["fleet", "--check"], ["locks"], ["controls"],
        ["order", "k-1111"], ["controls", "--log"], ["locks", "--log"], ["db", "check"],
        ["halt", "--by", "ana", "--reason", "r " * 90], ["resume", "--by", "ana", "--reason", "sun " * 40],
        ["cancel", "k-1111…"], ["cancel", "k-2"], ["submit", "KO", "buy", "-1"], ["frobnicate"],
        ["submit", "KO", "buy", "1", "--route", "alpaca"], ["resolve", "k-1111…", "--absent", "--by", "me"],
        ["unlock", "ibkr", "KO", "--reason", "x"], ["sandbox", "faults"],
    )  # fmt: skip
    for arguments in commands:
        _, out, err = corro(*arguments)
        said = [line for line in (out + err).splitlines() if not line.startswith("{")]  # a log has lines for grep
        wide = [line for line in said if cell_len(line) > width]
        assert not wide, (arguments, wide)


def test_what_was_asked_about_an_attempt_is_whole_on_a_narrow_terminal(
    corro: Run, terminal: Callable[[int], None], database: Database
) -> None:
    terminal(60)
    fill_with(database, "words", "o-1")
    candidate = {
        "broker_order_id": "1003-77-9", "status": "accepted", "symbol": "KO", "limit_price": "45.5", "quantity": "3",
        "submitted_at": "2026-01-05T14:30:00Z", "side": "buy", "order_type": "limit",
    }  # fmt: skip
    looks = {"ambiguous": {"times": 7, "at": "2026-01-05T14:30:00Z", "words": "two", "candidates": [candidate]}}
    asked = {"query": "by terms " * 9, "times": 7, "last_at": "2026-01-05T14:31:00Z", "answers": looks}
    with database.write() as connection:
        connection.execute(attempts.update().values(evidence=asked))
    _, out, _ = corro("unresolved")
    assert "2026-01-05T14:31:00Z" in out, "when it was asked last"
    assert "1003-77-9" in out, "what `corro resolve --adopt` wants"


def test_json_gives_the_text_as_it_was_with_every_control_character_escaped(corro: Run, database: Database) -> None:
    fill_with(database, "\x1b[31m\u202e\x07", "o-1")
    _, out, _ = corro("order", "o-1", "--json")
    assert out.strip().isascii()
    assert out.strip().isprintable()
    assert json.loads(out)["reason"] == "\x1b[31m\u202e\x07"


# -- WIDTH ---
def order_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "client_order_id": f"{number:08x}-5f3a-4d61-9d53-1c8f2a7be{number:03d}", "created_at": NOW,
        "strategy": "dividends",
        "side": "sell_short", "quantity": Decimal("1250.5"), "symbol": "BRK.B", "order_type": "stop_limit",
        "limit_price": Decimal("412.75"), "status": "partially_filled", "broker": "alpaca", "attempt_count": 2,
        "filled_quantity": Decimal(1000), "avg_fill_price": Decimal("411.98"),
        "reason": "ibkr: not connected: connection to 127.0.0.1:7497 was refused, so it went to the next broker",
        **changes,
    }  # fmt: skip


COLUMNS = tuple(order_row(0))


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_a_table_fits_its_terminal_and_never_drops_id_and_status(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal(width)
    show.rows([order_row(n) for n in range(3)], COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= width for line in lines), lines
    for line in [line for line in lines if line.startswith("0000000")]:
        assert "partially_filled" in line
        assert "BRK.B" in line


def test_wide_gives_every_column_in_full_however_narrow_the_terminal_is(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(60)
    row = order_row(7)
    show.rows([row], COLUMNS, wide=True)
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    assert row["client_order_id"] in line
    assert row["reason"] in line


def test_a_column_without_any_value_is_left_out() -> None:
    fitted = layout([order_row(1, strategy=None, limit_price=None)], COLUMNS, None)
    assert {"strategy", "limit_price"}.isdisjoint(column.name for column in fitted.columns)


def test_ids_are_cut_only_as_far_as_they_still_differ() -> None:
    ids = ["rebalance-2026-AAPL-1", "rebalance-2026-AAPL-2", "rebalance-2026-KO-1", "x"]
    short = short_ids(ids)
    assert len(set(short)) == 4
    assert all(id_.startswith(cut.removesuffix("…")) for id_, cut in zip(ids, short, strict=True))
    assert short[2:] == ["rebalance-2026-K…", "x"]


def test_an_id_whose_start_others_share_keeps_more_of_it_than_the_table_alone_needs() -> None:
    """Of what a table does not show, too, many begin with `invalid-4`."""
    chosen, generated = "invalid-4b2f91c3-77aa-4d1c-9a55-0123456789ab", "4b2f91c3-77aa-4d1c-9a55-0123456789ab"
    assert short_ids([chosen, generated]) == ["invalid-4b2f91c3…", "4b2f91c3…"]


def test_a_real_terminal_of_sixty_cells_shows_ids_that_look_like_markup(database: Database, bare: Path) -> None:
    fill_with(database, "[/red]boom", "[/red]boom-with-an-id-of-sixty-four-characters")
    main, other = pty.openpty()
    ioctl(other, TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
    command = [sys.executable, "-m", "worker.cli", "unresolved"]
    process = subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, cwd=Path(__file__).parents[2],
        env={**os.environ, "CORRO_HOME": str(bare), "TERM": "dumb"},
    )  # fmt: skip
    os.close(other)
    said = b""
    while ready.select([main], [], [], 30)[0]:
        try:
            said += os.read(main, 65536)
        except OSError:  # the terminal's other end is closed: the command has ended
            break
    os.close(main)
    assert process.wait(10) == 0, said
    assert b"[/red]bo" in said
    assert b"Traceback" not in said


# -- HOW MANY ---
@pytest.fixture
def sixty(put: Callable[..., None]) -> None:
    for number in range(60):
        put(f"o-{number:02d}", created_at=NOW + timedelta(seconds=number))


@pytest.mark.usefixtures("sixty")
def test_a_program_gets_every_row_and_a_person_hears_of_those_not_shown(
    corro: Run, terminal: Callable[[int], None], tmp_path: Path
) -> None:
    assert len(json.loads(corro("orders", "--json")[1])) == 60
    assert len(corro("orders")[1].splitlines()) == 61
    assert len(json.loads(corro("orders", "--json", "--limit", "7")[1])) == 7
    since, until = (f"2026-01-05T14:30:{second}" for second in (10, 20))
    found = json.loads(corro("orders", "--json", "--since", since, "--until", until)[1])
    assert [row["client_order_id"] for row in found] == [f"o-{n}" for n in range(19, 9, -1)]
    terminal(140)
    _, out, err = corro("orders")
    assert len([line for line in out.splitlines() if line.startswith("o-")]) == 50
    assert "50 of 60 shown" in err
    assert corro("orders", "--out", str(tmp_path / "orders.csv"))[0] == 0
    assert len((tmp_path / "orders.csv").read_text().splitlines()) == 61


# -- WRONG INPUT ---
@pytest.mark.parametrize(
    "arguments",
    [
        ["orders", "--since", "99999999999d"], ["orders", "--since", "999999999w"], ["orders", "--since", "٣d"],
        ["orders", "--until", "0001-01-01T00:00:00+14:00"], ["orders", "--limit", "9999999999999999999"],
        ["orders", "--limit", "0"], ["submit", "KO", "buy", "1", "--expires-in", "inf"],
        ["submit", "KO", "buy", "1", "--expires-in", "0"],
        ["submit", "KO", "buy", "1", "--expires-in", "-1"], ["submit", "KO", "buy", "1", "--wait", "--timeout", "nan"],
        ["submit", "KO", "buy", "1", "--timeout", "1e999"], ["submit", "KO", "buy", "1_0"],
        ["submit", "KO", "buy", "٣"],
        ["submit", "KO", "buy", "1", "--limit", "1_0"], ["quote", "KO", "--timeout", "nan"],
        ["check", "--timeout", "x"],
        ["bars", "KO", "1Day", "--start", "999999999w"], ["fills", "--out", "/nowhere/x.csv"], ["orders", "--nosuch"],
        ["submit", "KO", "buy", "1", "--leg", ""], ["preview", "KO", "buy", "1", "--leg", " "],
        ["orders", "--broker", "ibrk"], ["tca", "--broker", "ibrk"], ["pnl", "--broker", "ibrk"],
        ["export", "orders", "--broker", "ibrk", "--out", "-"], ["external", "--broker", "ibkr,tda"],
        ["order"], ["worker", "ibkr", "--concurrency", "99999999999999999999"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_input_is_one_line_and_status_2(corro: Run, arguments: list[str]) -> None:
    status, out, err = corro(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err


def test_a_log_level_that_is_none_is_one_line_and_status_2(corro: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_LOG_LEVEL", "loud")
    status, _, err = corro("orders")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "log_level" in err


@pytest.mark.parametrize("key", ["databse_url", "redis_ulr", "brokers__alpaca__base_ulr"])
def test_the_value_of_a_mistyped_key_is_not_shown(corro: Run, bare: Path, key: str) -> None:
    if "__" in key:
        (bare / "corro.toml").write_text('[brokers.alpaca]\nbase_ulr = "https://u:S3cr3tS3@h"\n')
    else:
        (bare / "corro.toml").write_text(f'{key} = "postgresql://u:S3cr3tS3@h/db"\n')
    for arguments in (["orders"], ["check", "--timeout", "0.5"], ["fleet"], ["check", "--json", "--timeout", "0.5"]):
        _, out, err = corro(*arguments)
        assert "S3cr3tS3" not in out + err, arguments


# -- IDS ---
def test_the_start_of_an_id_is_enough_where_it_is_the_only_one(corro: Run, put: Callable[..., None]) -> None:
    generated = "3f2c9a1b-5f3a-4d61-9d53-1c8f2a7be001"
    put(generated)
    put("k-1234-10", attempt_no=0, status="queued")
    put("other-1")
    put("other-2")
    assert json.loads(corro("order", "3f2c9a1b", "--json")[1])["client_order_id"] == generated
    assert json.loads(corro("order", "k-1234", "--json")[1])["client_order_id"] == "k-1234-10"
    assert json.loads(corro("cancel", "3f2c9a1b", "--json")[1])["client_order_id"] == generated
    status, _, err = corro("order", "other")
    assert status == 2
    assert "other-1, other-2" in err
    # `k-1234-1` may be an order of its own that was never recorded: only the sign of the tables makes it a start.
    status, _, err = corro("cancel", "k-1234-1")
    assert status == 1
    assert "did you mean k-1234-10?" in err
    assert "has to be whole, or cut by the sign …" in err
    assert json.loads(corro("cancel", "k-1234-1…", "--json")[1])["status"] == "canceled"
