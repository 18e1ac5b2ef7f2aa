"""Archived orders that their brokers tell again: each execution counts once, as its broker told it last."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from models.history import History
from models.record.archive_tables import archived_fills, archived_orders
from models.record.executions import held_now
from models.record.holders import holders
from models.record.tables import attempts, external_fills, external_orders, fills, orders
from models.reports import BrokerStatus, FillReport, OrderReport
from models.vocabulary import Side
from tests.unit.position_desk import BROKER, PositionDesk
from tests.unit.test_lot_changes import TODAY, YESTERDAY, kept, lines, moved
from tests.unit.test_lot_changes import desk as desk
from worker.positions.ledger import fold_all
from worker.runtime.clock import utcnow

D = Decimal


def archive(desk: PositionDesk, name: str) -> None:
    """Leave of an order what `corro archive` leaves."""
    old = utcnow() - timedelta(minutes=20)
    with desk.database.write() as connection:
        connection.execute(update(fills).values(recorded_at=old))
    fold_all(desk.database)
    kept(desk)
    with desk.database.write() as connection:
        query = select(fills, orders.c.side.label("way")).join(orders, orders.c.client_order_id == name)
        row = connection.execute(query.where(fills.c.client_order_id == name)).one()._mapping
        same = {column.name: row[column.name] for column in archived_fills.c if column.name != "side"}
        connection.execute(insert(archived_fills).values(**same, side=row["way"]))
        connection.execute(
            insert(archived_orders).values(
                client_order_id=name, body_hash="x", status="filled", archive=1, symbol=row["symbol"], broker=BROKER,
                side=row["way"], quantity=row["quantity"], filled_quantity=row["quantity"], created_at=old,
            )
        )  # fmt: skip
        for table in (fills, attempts, orders):
            connection.execute(delete(table).where(table.c.client_order_id == name))


def report(name: str, quantity: object, price: object, **more: Any) -> FillReport:
    facts = {
        "execution_id": f"e-{name}", "quantity": D(str(quantity)), "price": D(str(price)), "symbol": "KO",
        "filled_at": TODAY - timedelta(hours=1), "side": Side.BUY, "broker_client_order_id": name,
        "broker_order_id": f"b-{name}",
    }  # fmt: skip
    return FillReport(**facts | more)


@pytest.fixture
def traded(desk: PositionDesk) -> str:
    """Return an archived purchase of 10 at 120, after one of 10 at 100: both are held."""
    desk.read()
    desk.fill("KO", "buy", 10, strategy="dip", price="100", age_s=YESTERDAY + 60)
    name = desk.fill("KO", "buy", 10, strategy="dip", price="120", age_s=YESTERDAY)
    desk.fill("F", "buy", 1, strategy="dip", price="9", age_s=YESTERDAY)  # the newest execution is never archived
    desk.read(KO=20, F=1)
    archive(desk, name)
    desk.read()
    assert (lines(desk), moved(desk)) == ({"dip": (20, 2200)}, [])
    return name


@pytest.mark.parametrize("after", [lambda desk: None, kept], ids=["reckoned", "kept"])
def test_an_archived_execution_that_is_taken_back_counts_no_more_and_is_said(
    desk: PositionDesk, traded: str, after: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert desk.external.note([report(traded, 10, 120, busted=True)])
    after(desk)
    desk.read(3, KO=10)
    assert (lines(desk), lines(desk, "average"), desk.locks()) == ({"dip": (10, 1000)}, {"dip": (10, 1000)}, {})
    words = f"alpaca has taken back execution e-{traded} (buy 10 KO), which is archived"
    assert moved(desk) == [words], "told twice, recorded once"
    with desk.database.read() as connection:
        assert holders(connection, BROKER, "KO") == {("dip", "KO"): 10}
        assert held_now(connection, ["dip"], ["KO"]) == {("dip", "KO"): 10}
    assert capsys.readouterr().out.count(words) == 1


def test_an_archived_execution_that_is_corrected_counts_as_it_is_told_last(desk: PositionDesk, traded: str) -> None:
    desk.external.note([report(traded, 10, 120, listed=True)])
    assert moved(desk) == [], "that is what is archived"
    desk.external.note([report(traded, 8, 115, revision=1)])
    desk.external.note([report(traded, 9, 115, revision=0)])
    desk.read(3, KO=18)
    kept(desk)
    assert (lines(desk), desk.locks()) == ({"dip": (18, 1000 + 8 * 115)}, {})
    desk.external.note([report(traded, 8, 110, revision=2)])
    assert lines(desk) == {"dip": (18, 1000 + 8 * 110)}
    desk.external.note([report(traded, 8, 110, revision=3, busted=True)])
    desk.read(3, KO=10)
    assert (lines(desk), desk.locks()) == ({"dip": (10, 1000)}, {})
    early = History(desk.database).positions(TODAY - timedelta(days=4))
    assert early == [], "before either there was nothing, and no baseline"


# -- TOLD AGAIN, WITH MORE ---
def again(name: str, **more: Any) -> FillReport:
    """Return what is archived, and nothing else: 10 at 120."""
    return report(name, 10, 120, **{"cumulative_quantity": D(10)} | more)


def added(name: str, **more: Any) -> FillReport:
    """Return an execution of the same order that nobody had told: 5 at 130."""
    return report(name, 5, 130, **{"cumulative_quantity": D(15), "listed": True} | more)


def whole(name: str, *executions: FillReport, filled: int = 15) -> OrderReport:
    return OrderReport(
        broker_order_id=f"b-{name}", broker_client_order_id=name, status=BrokerStatus.FILLED, symbol="KO",
        side=Side.BUY, quantity=D(15), filled_quantity=D(filled), fills=executions,
    )  # fmt: skip


NEW = "e-new"
WAYS = {
    "an update": lambda n: [again(n), added(n, execution_id=NEW), whole(n)],
    "a listing of orders": lambda n: [whole(n, again(n, listed=True), added(n, execution_id=NEW))],
    "a feed with other names": lambda n: [again(n, execution_id="a-1"), added(n, execution_id=NEW), whole(n)],
    "an order in a feed with other names": lambda n: [
        whole(n, again(n, execution_id="a-1"), added(n, execution_id=NEW))
    ],
    "an order whose last execution is still to come": lambda n: [
        whole(n, again(n)), added(n, execution_id=NEW), whole(n, again(n), added(n, execution_id=NEW))
    ],
}  # fmt: skip


@pytest.mark.parametrize("told", WAYS.values(), ids=WAYS)
def test_an_archived_order_that_is_told_again_with_one_more_execution_counts_each_once(
    desk: PositionDesk, traded: str, told: Any
) -> None:
    for _ in range(2):  # after a reconnect everything is read again
        assert desk.external.note(told(traded))
        desk.read(3, KO=25)
        assert (lines(desk), desk.locks(), moved(desk)) == ({"dip": (20, 2200), "(external)": (5, 650)}, {}, [])
        assert desk._rows(select(external_fills.c.execution_id)) == [(NEW,)]


def test_an_archived_execution_in_a_mixed_order_is_corrected_and_the_new_one_counts(
    desk: PositionDesk, traded: str
) -> None:
    told = whole(traded, report(traded, 8, 120, listed=True), added(traded, execution_id=NEW))
    for _ in range(2):
        assert desk.external.note([told])
        desk.read(3, KO=23)
        assert (lines(desk), desk.locks()) == ({"dip": (18, 1000 + 8 * 120), "(external)": (5, 650)}, {})
        assert len(moved(desk)) == 1


def test_an_archived_order_that_is_told_again_under_other_names_alone_is_nobody_elses(
    desk: PositionDesk, traded: str
) -> None:
    assert desk.external.note([whole(traded, again(traded, execution_id="a-1"), filled=10)])
    desk.read(3, KO=20)
    assert (lines(desk), desk.locks()) == ({"dip": (20, 2200)}, {})
    assert desk._rows(select(external_orders.c.broker_order_id)) == []
