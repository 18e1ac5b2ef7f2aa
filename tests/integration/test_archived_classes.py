"""What an archived order was in stays known, where its symbol alone does not say it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import update

from models.history import History
from models.record.database import Database
from models.record.holders import class_terms
from models.record.tables import fills, orders
from models.settings import Settings
from tests.integration.test_archive import OLD, database, run, url

__all__ = ["database", "url"]  # fixtures

#: Symbols that do not say what they are in, with what an order in them was recorded as.
CLASSES = {
    "SHOP@TSE": {"asset_class": "equity", "currency": "CAD"}, "ESZ26@CME": {"asset_class": "future"},
    "EUR/USD": {"asset_class": "forex", "currency": "USD"},
}  # fmt: skip


def test_what_an_archived_order_was_in_is_known_to_whoever_closes_it(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        for number, (symbol, terms) in enumerate(CLASSES.items()):
            mine = orders.c.client_order_id == f"o-{number}"
            connection.execute(update(orders).where(mine).values(symbol=symbol, **terms))
    with database.read() as connection:
        before = {symbol: class_terms(connection, "ibkr", symbol) for symbol in CLASSES}
    done = run(database, tmp_path)
    with database.read() as connection:
        after = {symbol: class_terms(connection, "ibkr", symbol) for symbol in CLASSES}
        elsewhere = class_terms(connection, "alpaca", "SHOP@TSE")
    assert (done["counts"]["orders"], before, after, elsewhere) == (10, CLASSES, CLASSES, {})


def test_an_open_position_keeps_the_price_of_its_last_execution(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        for table in (orders, fills):
            mine = table.c.client_order_id.in_(["o-8", "o-9"])
            connection.execute(update(table).where(mine).values(symbol="PEP"))
    history = History(database, Settings())
    before = [history.positions(symbol="PEP"), history.pnl("symbol")]
    run(database, tmp_path)
    assert [history.positions(symbol="PEP"), history.pnl("symbol")] == before
    told = {row["strategy"]: (row["price"], row["price_source"], row["price_at"]) for row in before[0]}
    assert told == {"dip": (19, "fill", OLD + timedelta(days=9))}
