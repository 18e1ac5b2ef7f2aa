"""Reference prices are in the currency of what they are prices of: of a quote, a reading, a fill, and never a guess."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert

from models.legs import PackageLeg
from models.messages import utcnow
from models.record.database import Database
from models.record.tables import fills, position_snapshots
from models.reports import QuoteReport
from models.risk.facts import ReferencePrice
from models.vocabulary import Side
from tests.unit.words import Put
from worker.brokers.fake import FakeBroker
from worker.risk.prices import ask_for_quotes, known_prices, price_of_package

#: A symbol, what its broker says of the currency, and the currency of its prices.
TOLD = [
    ("KO", None, "USD"),
    ("AAPL261218C00200000", None, "USD"),
    ("EUR/USD", None, "USD"),
    ("USD/JPY", None, "JPY"),
    ("BTC/EUR", None, "EUR"),
    ("SHOP@TSE", "CAD", "CAD"),
    ("SHOP@TSE", None, None),
    ("ESZ26@CME", None, None),
]


class Quoting(FakeBroker):
    """A broker that says the currency of its quotes, or does not."""

    told: str | None = None

    def get_market_data(self, symbol: str) -> QuoteReport:
        return replace(super().get_market_data(symbol), currency=self.told)


def prices(database: Database, symbol: str) -> dict[str, str]:
    with database.write() as connection:
        return {name: price.currency for name, price in known_prices(connection, [symbol], utcnow(), 60.0).items()}


@pytest.mark.parametrize(("symbol", "told", "expected"), TOLD)
def test_a_quote_is_in_the_currency_of_its_instrument(
    symbol: str, told: str | None, expected: str | None, database: Database
) -> None:
    broker = Quoting("ibkr")
    broker.told, broker.account.prices[symbol] = told, Decimal(5)
    broker.connect()
    ask_for_quotes(database, broker, [symbol])
    assert prices(database, symbol) == ({symbol: expected} if expected else {})


@pytest.mark.parametrize("source", ["position", "fill"])
@pytest.mark.parametrize(("symbol", "told", "expected"), [one for one in TOLD if one[0] != "ESZ26@CME"])
def test_so_is_what_a_position_and_a_fill_tell(
    symbol: str, told: str | None, expected: str | None, source: str, database: Database, put: Put
) -> None:
    row: dict[str, Any] = {"broker": "a", "symbol": symbol, "quantity": Decimal(10), "currency": told}
    put(symbol=symbol)
    with database.write() as connection:
        if source == "position":
            connection.execute(insert(position_snapshots).values(market_value=Decimal(50), taken_at=utcnow(), **row))
        else:
            row |= {"client_order_id": "o-1", "attempt_no": 1, "execution_id": "e", "side": "buy", "price": Decimal(5)}
            connection.execute(insert(fills).values(filled_at=utcnow(), recorded_at=utcnow(), **row))
    assert prices(database, symbol) == ({symbol: expected} if expected else {})


def test_a_package_has_no_price_in_two_currencies() -> None:
    legs = [PackageLeg(symbol=name, side=Side.BUY, ratio=1) for name in ("A", "B")]
    one = ReferencePrice(Decimal(5), utcnow(), "quote a")
    assert price_of_package(legs, {"A": one, "B": one}) is not None
    assert price_of_package(legs, {"A": one, "B": replace(one, currency="CAD")}) is None
