"""The archive on both databases: nothing is lost at any moment, ids stay used, positions and profit stay right."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from models.crash_points import watched
from models.errors import ConfigurationError, IdempotencyConflict, InvalidRequest, NotFound
from models.history import History, v_attempts, v_fills, v_groups, v_latency, v_orders, v_tca
from models.messages import OrderRequest
from models.record import archiving, chain
from models.record.archive_tables import archived_fills, archived_orders, archives
from models.record.archiving import archive, verify_files
from models.record.chain import verify
from models.record.database import Database, upgrade
from models.record.holders import holders
from models.record.intake import Intake
from models.record.parquet import parts
from models.record.reading import order_row
from models.record.tables import attempts, fills, order_events, orders
from models.record.tally import count_on
from models.reports import FillReport
from models.risk.names import Limit
from models.settings import Settings, load_settings
from models.vocabulary import Side
from tests.kit import ROOT, clean_environment
from worker.positions.external import External
from worker.risk.exposure import Exposure
from worker.risk.losses import gains

D = Decimal
NOW = datetime.now(UTC).replace(microsecond=0)
OLD, CUT = NOW - timedelta(days=400), NOW - timedelta(days=30)
TABLES = (orders, attempts, fills, order_events)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'corro.db'}"
    return request.getfixturevalue("postgres").fresh()  # type: ignore[no-any-return]


@pytest.fixture
def database(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(chain, "LINK", 6)
    monkeypatch.setattr(archiving, "PAGE", 4)
    monkeypatch.setattr(archiving, "AT_ONCE", 2)
    made = Database(url)
    upgrade(made)
    fill_with_trades(made)
    yield made
    made.close()


@pytest.fixture
def intake(database: Database, tmp_path: Path) -> Intake:
    return Intake(load_settings(home=tmp_path), database)


def request(id_: str, **terms: Any) -> OrderRequest:
    return OrderRequest(**{"client_order_id": id_, "symbol": "KO", "side": "buy", "quantity": 10} | terms)


def fill_with_trades(database: Database) -> None:
    """Ten orders that ended long ago, one that is open since then, and three of today."""
    with database.write() as connection:
        for n in range(10):
            side, account = "buy" if n % 3 else "sell_short", "ira" if n % 2 else None
            put(connection, f"o-{n}", OLD + timedelta(days=n), side=side, price=10 + n, account=account)
            if n == 3:
                put(connection, "o-open", OLD + timedelta(days=n), status="accepted", side="buy", price=None)
        for n in range(3):
            put(connection, f"new-{n}", NOW - timedelta(hours=3 - n), side="buy", price=50)


def put(
    connection: Any, id_: str, at: datetime, *, side: str, price: int | None, status: str = "filled",
    account: str | None = None,
) -> None:  # fmt: skip
    done = None if price is None else at + timedelta(seconds=5)
    filled = 0 if price is None else 10
    connection.execute(
        insert(orders).values(
            client_order_id=id_, version=1, strategy="dip", symbol="KO", side=side, quantity=10, order_type="market",
            time_in_force="day", extended_hours=False, tags=[], status=status, route=["ibkr"], broker="ibkr",
            account=account, broker_order_id=f"b-{id_}", attempt_no=1, filled_quantity=filled, avg_fill_price=price,
            body_hash=request(id_, side=side).body_hash, available_at=at, created_at=at, updated_at=done or at,
            closed_at=done,
        )
    )  # fmt: skip
    connection.execute(
        insert(attempts).values(
            client_order_id=id_, attempt_no=1, broker="ibkr", account=account, broker_client_order_id=id_,
            broker_order_id=f"b-{id_}", outcome="accepted", worker="w", started_at=at, lease_until=at, checks=0,
            missing=0, baseline=["1"],
        )
    )  # fmt: skip
    steps = [(None, "queued"), ("queued", "submitted"), ("submitted", status)]
    for before, after in steps:
        event = {"client_order_id": id_, "at": at, "kind": after, "from_status": before, "to_status": after}
        connection.execute(insert(order_events).values(**event, detail="an event, whatever it says"))
    if price is not None:
        connection.execute(
            insert(fills).values(
                broker="ibkr", account=account, execution_id=f"e-{id_}", client_order_id=id_, attempt_no=1, symbol="KO",
                strategy="dip", quantity=10, price=price, currency="USD", commission=D("1.25"), filled_at=at,
                recorded_at=at, late=False,
            )
        )  # fmt: skip


def run(database: Database, folder: Path, before: datetime = CUT, tell: Any = lambda *_: None) -> Any:
    return archive(database, before, folder, NOW, tell)


def counts(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in TABLES}


#: How much of a symbol a strategy may hold.
_POSITION = Limit("strategy", "dip", "max_position", D(1000))


def figures(database: Database) -> list[Any]:
    """Positions and profit, by both methods, now and then; what limits know, and what may be closed."""
    history = History(database, Settings())
    moments = [None, OLD + timedelta(days=4, hours=12), NOW - timedelta(days=60)]
    found: list[Any] = [history.positions(at, method=m) for at in moments for m in ("fifo", "average")]
    found += [history.pnl(by, method=m) for by in (None, "month", ["broker", "account"]) for m in ("fifo", "average")]
    with database.read() as connection:
        of_dip = Exposure(connection, ["KO"], [_POSITION], NOW, ("2026-11-30", NOW)).largest_position(_POSITION)
        return [*found, gains(connection, NOW - timedelta(days=1)), holders(connection, "ibkr"), of_dip]


def ids_in(files: Path) -> set[str]:
    return {str(row["client_order_id"]) for part in parts(files / "orders.parquet") for row in part}


def objections(database: Database, folder: Path | None = None) -> list[str]:
    with database.read() as connection:
        found = verify(connection).objections
        return [o for o in found if "no event says so" not in o] + (verify_files(connection, folder) if folder else [])


def test_what_ended_before_goes_into_files_and_positions_and_profit_stay_to_the_cent(
    database: Database, tmp_path: Path
) -> None:
    before, entries = figures(database), count_on(database).values
    done = run(database, tmp_path)
    assert done["counts"] == {"orders": 10, "attempts": 10, "fills": 10, "order_events": 33}, (
        "every event of the stretch"
    )
    assert counts(database) == {"orders": 4, "attempts": 4, "fills": 3, "order_events": 12}
    assert figures(database) == before
    assert count_on(database).values == entries
    assert ids_in(tmp_path / done["name"]) == {f"o-{n}" for n in range(10)}
    assert (objections(database, tmp_path), done["left"]) == ([], 0)
    assert run(database, tmp_path) is None, "nothing else ended before then"


def test_a_second_archive_goes_on_where_the_first_ended_and_the_newest_order_stays(
    database: Database, tmp_path: Path
) -> None:
    before = figures(database)
    first = run(database, tmp_path)
    second = run(database, tmp_path, NOW)
    assert second["first_id"] == first["last_id"] + 1
    assert (second["counts"]["orders"], counts(database)["orders"]) == (2, 2)
    assert figures(database) == before
    assert objections(database, tmp_path) == []
    with database.write() as connection:
        put(connection, "later", NOW, side="buy", price=60)
        newest = connection.execute(select(func.max(order_events.c.id))).scalar_one()
    assert newest > second["last_id"], "no id is given twice"


def test_an_id_stays_used_for_ever(database: Database, intake: Intake, tmp_path: Path) -> None:
    run(database, tmp_path)
    (same,) = intake.record([request("o-1")])
    assert (same["status"], same["filled_quantity"], same["side"]) == ("filled", 10, "buy")
    with pytest.raises(IdempotencyConflict, match="filled"):
        intake.record([request("o-1", quantity=11)])
    with pytest.raises(IdempotencyConflict):
        intake.record([request("fresh"), request("o-2", symbol="F")])
    assert intake.take([request("o-4").to_wire(), request("o-5", quantity=3).to_wire()], "ibkr") == {"o-4": "ibkr"}
    assert counts(database)["orders"] == 4, "neither one of them nor the fresh order beside it was recorded"
    with database.read() as connection:
        found = order_row(connection, "o-1")
    assert found is not None
    assert (found["status"], found["broker"], found["avg_fill_price"]) == ("filled", "ibkr", 11)


def test_an_archived_order_is_still_in_its_account(database: Database, tmp_path: Path) -> None:
    with database.read() as connection:
        before = {n: order_row(connection, f"o-{n}") for n in range(10)}
    done = run(database, tmp_path)
    with database.read() as connection:
        after = {n: order_row(connection, f"o-{n}") for n in range(10)}
    accounts = {n: "ira" if n % 2 else None for n in range(10)}
    for told in (before, after):
        assert {n: row["account"] for n, row in told.items() if row is not None} == accounts
    in_files = [row for part in parts(tmp_path / done["name"] / "orders.parquet") for row in part]
    assert {int(str(row["client_order_id"])[2:]): row["account"] for row in in_files} == accounts


def test_duckdb_reads_the_files_as_the_page_says(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb", reason="it is in requirements/dev.lock")
    run(database, tmp_path / "archives")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "history.md").read_text()
    (recipe,) = re.findall(r"^```duckdb\n([^`]*archives[^`]*)^```", page, re.MULTILINE)
    assert duckdb.sql(recipe).fetchall() == [("KO", "", 5, 50), ("KO", "ira", 5, 50)]


def test_what_a_broker_lists_again_is_no_order_of_somebody_elses(database: Database, tmp_path: Path) -> None:
    run(database, tmp_path)
    old = {"quantity": D(10), "price": D(11), "filled_at": OLD, "symbol": "KO", "side": Side.BUY}
    again = FillReport(execution_id="e-o-1", broker_order_id="b-o-1", broker_client_order_id="o-1", **old)
    late = FillReport(execution_id="e-new", broker_order_id="b-o-1", broker_client_order_id="o-1", **old)
    External(database, "ibkr").note([again, late])
    found = History(database, Settings()).rows(archived_external(), newest_first=False)
    assert [row["execution_id"] for row in found] == ["e-new"], "what nobody had told is not lost"


def archived_external() -> Any:
    from models.history import v_external_fills

    return v_external_fills


POINTS = ["archive_begun", "archive_written", "archive_renamed", "archive_deleted", "archive_emptied"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_record_and_files_have_everything_and_the_next_run_goes_on(
    database: Database, tmp_path: Path, point: str
) -> None:
    class Killed(BaseException):
        pass

    before, passed = figures(database), 0

    def strike(reached: str) -> None:
        nonlocal passed
        passed += reached == point
        if reached == point and (point != "archive_deleted" or passed == 3):
            raise Killed

    with pytest.raises(Killed), watched(strike):
        run(database, tmp_path)
    with database.read() as connection:
        here = set(connection.execute(select(orders.c.client_order_id)).scalars())
        gone = set(connection.execute(select(archived_orders.c.client_order_id)).scalars())
    whole = [files for files in tmp_path.glob("corro-*") if files.suffix != ".partial"]
    assert here | gone == {f"o-{n}" for n in range(10)} | {"o-open", "new-0", "new-1", "new-2"}
    assert not here & gone
    assert gone <= {id_ for files in whole for id_ in ids_in(files)}
    assert figures(database) == before
    assert objections(database) == []
    if point == "archive_deleted":
        assert len(gone) == 4
        with pytest.raises(InvalidRequest, match="not finished"):
            run(database, tmp_path / "elsewhere")
    done = run(database, tmp_path)
    assert (done["counts"]["orders"], counts(database)["orders"]) == (10, 4)
    assert [files.name for files in tmp_path.glob("corro-*")] == [done["name"]]
    assert (figures(database), objections(database, tmp_path)) == (before, [])


def as_one(history: History) -> dict[str, list[Any]]:
    """Return every row of the views that archives are read through, and of one order."""
    views = (v_orders, v_attempts, v_fills, v_latency, v_tca, order_events)
    found = {view.name: history.rows(view, newest_first=False) for view in views}
    return {name: sorted(rows, key=repr) for name, rows in found.items()} | {"o-3": [history.the_order("o-3")]}


@pytest.mark.parametrize("killed", [False, True])
def test_the_history_reads_record_and_archives_as_one(database: Database, tmp_path: Path, killed: bool) -> None:
    before = as_one(History(database, Settings()))
    if killed:
        with pytest.raises(KeyboardInterrupt), watched(_interrupt_at("archive_deleted")):
            run(database, tmp_path)
    else:
        run(database, tmp_path)
    both = History(database, Settings(), tmp_path)
    assert as_one(both) == before
    assert both.count(v_orders) == len(before["v_orders"]) == 14
    newest = both.rows(v_orders, limit=5)
    assert [row["client_order_id"] for row in newest] == ["new-2", "new-1", "new-0", "o-9", "o-8"]
    assert [row["client_order_id"] for row in both.rows(v_orders, client_order_id=["o-1", "new-1"])] == ["new-1", "o-1"]
    with pytest.raises(NotFound, match="no archive in"):
        History(database, Settings(), tmp_path / "elsewhere")


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_what_archives_do_not_suffice_for_is_refused_and_a_page_says_what_is_archived(
    database: Database, tmp_path: Path
) -> None:
    alone = History(database, Settings())
    said = r"What follows is of the record alone: (\d+) orders of these days are archived"
    assert re.search(said, alone.report()) is None
    run(database, tmp_path)
    both = History(database, Settings(), tmp_path)
    for ask in (both.report, lambda: both.rows(v_groups), lambda: both.count(v_groups)):
        with pytest.raises(InvalidRequest, match="is made of the record alone"):
            ask()
    assert re.findall(said, alone.report()) == ["10"]
    assert re.findall(said, alone.report(until=OLD + timedelta(days=3))) == ["3"]
    assert re.search(said, alone.report(since=CUT)) is None


def test_an_order_that_changed_meanwhile_stays(database: Database, tmp_path: Path) -> None:
    def late_word(what: str, done: int, _: int) -> None:
        if what == "written" and done == 10:
            with database.write() as connection:
                changed = orders.c.client_order_id == "o-7"
                connection.execute(update(orders).where(changed).values(updated_at=NOW, filled_quantity=11))

    done = run(database, tmp_path, tell=late_word)
    assert (done["left"], counts(database)["orders"]) == (1, 5)


@pytest.mark.parametrize("name", ["orders.parquet", "order_events.parquet", "manifest.json"])
def test_a_file_that_was_changed_is_seen_and_nothing_is_deleted_by_it(
    database: Database, tmp_path: Path, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt), watched(_interrupt_at("archive_renamed")):
        run(database, tmp_path)
    done = run(database, tmp_path)
    path = tmp_path / done["name"] / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [words for words in objections(database, tmp_path) if str(path.parent) in words]


def _interrupt_at(point: str) -> Any:
    def strike(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    return strike


def test_what_an_archive_left_in_the_journal_is_watched_on(database: Database, tmp_path: Path) -> None:
    done = run(database, tmp_path)
    with database.write() as connection:
        mine = order_events.c.client_order_id == "o-open"
        connection.execute(update(order_events).where(mine).values(detail="nothing happened"))
    assert objections(database) == [f"order_events 1 to {done['last_id']}: what the archive 1 left there has changed"]


def test_a_journal_that_does_not_agree_with_its_chain_is_not_archived(database: Database, tmp_path: Path) -> None:
    archiving.settle(database, NOW, CUT)
    with database.write() as connection:
        connection.execute(update(order_events).where(order_events.c.id == 2).values(detail="nothing happened"))
    with pytest.raises(ConfigurationError, match="db verify"):
        run(database, tmp_path)
    assert counts(database)["orders"] == 14


def test_the_command_asks_a_terminal_alone_and_goes_on_after_a_kill(url: str, tmp_path: Path) -> None:
    made = Database(url)
    upgrade(made)
    fill_with_trades(made)

    def corro(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", *words], capture_output=True, text=True, cwd=ROOT, timeout=60,
            env={**clean_environment(), "CORRO_DATABASE_URL": url, "CORRO_HOME": str(tmp_path), **more},
        )  # fmt: skip

    words = ("archive", "--before", f"{CUT:%Y-%m-%d}", "--to", str(tmp_path), "--json")
    asked = corro(*words)
    assert (asked.returncode, "--yes" in asked.stderr, counts(made)["orders"]) == (2, True, 14)
    assert corro(*words, "--yes", CORRO_CRASH="archive_emptied").returncode == -signal.SIGKILL
    done = corro(*words, "--yes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["orders"] == 10
    checked = json.loads(corro("db", "verify", "--archive", str(tmp_path), "--json").stdout)
    assert [o for o in checked["objections"] if "no event says so" not in o] == []
    with made.read() as connection:
        assert connection.execute(select(func.count()).select_from(archived_fills)).scalar_one() == 10
        assert connection.execute(select(archives.c.done_at)).scalar_one() is not None
    made.close()
