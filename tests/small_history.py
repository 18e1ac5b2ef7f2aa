"""A month of a small desk, written into a database: every figure of it can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, insert

from models.record.database import Database
from models.record.history_tables import account_history
from models.record.tables import attempts, bars, fills, orders

D = Decimal
#: Id, when, strategy, symbol, side, quantity, broker, price, fee, decision price, arrival bid and ask.
TRADES = [
    ("dip-1", "2026-10-30T14:30", "dip", "KO", "buy", 100, "ibkr", "60.00", "1.00", "59.98", ("59.98", "60.00")),
    ("dip-2", "2026-11-23T15:31", "dip", "KO", "sell", 40, "ibkr", "61.00", "1.00", "61.05", ("61.00", "61.02")),
    ("mom-1", "2026-11-23T18:05", "mom", "AAPL", "buy", 10, "alpaca", "230.10", "0", "230.00", ("230.06", "230.10")),
    ("mom-2", "2026-11-24T15:00", "mom", "KO", "sell_short", 50, "alpaca", "61.20", None, None, None),
    ("mom-3", "2026-11-24T15:40", "mom", "AAPL", "buy", 900, "alpaca", None, None, "229.90", None),
    ("mom-4", "2026-11-24T20:45", "mom", "AAPL", "sell", 10, "alpaca", "229.10", "0.02", "229.20", None),
    ("dip-3", "2026-11-25T16:00", "dip", "SHOP@TSE", "buy", 20, "ibkr", "150.00", "1.50", None, None),
]
#: What the account was worth in the evening.
EQUITY = [("2026-11-23", "100000"), ("2026-11-24", "100450"), ("2026-11-25", "99800"), ("2026-11-27", "100900")]
NO = {"outcome": "refused", "code": "40310000", "message": "insufficient buying power"}


def write_small_history(database: Database) -> None:
    """Put it into an empty database."""
    with database.write() as connection:
        for number, trade in enumerate(TRADES):
            _trade(connection, number, *trade)
        for day, worth in EQUITY:
            at = datetime.fromisoformat(f"{day}T21:00+00:00")
            told = {"broker": "ibkr", "account_id": "U1", "currency": "USD", "equity": D(worth), "cash": D(50000)}
            connection.execute(insert(account_history).values(**told, day=at.date(), at=at))
        connection.execute(
            insert(bars).values(
                broker="alpaca", symbol="AAPL", timeframe="1Min", start=datetime(2026, 11, 23, 18, 5, tzinfo=UTC),
                open=D("229.90"), high=D("230.20"), low=D("229.80"), close=D("230.00"), volume=D(1000),
                complete=True,
            )
        )  # fmt: skip


def _trade(
    connection: Connection, number: int, id_: str, when: str, strategy: str, symbol: str, side: str, quantity: int,
    broker: str, price: str | None, fee: str | None, decision: str | None, quote: tuple[str, str] | None,
) -> None:  # fmt: skip
    at = datetime.fromisoformat(f"{when}:00+00:00")
    done = at + timedelta(milliseconds=200 + 100 * number)
    currency = "CAD" if "@" in symbol else "USD"
    filled = price is not None
    connection.execute(
        insert(orders).values(
            client_order_id=id_, version=2, strategy=strategy, symbol=symbol, side=side, quantity=quantity,
            order_type="market", time_in_force="day", status="filled" if filled else "rejected", route=[broker],
            broker=broker, attempt_no=1, filled_quantity=quantity if filled else 0, avg_fill_price=price and D(price),
            body_hash="", available_at=at, created_at=at, submitted_at=at, updated_at=done, closed_at=done,
        )
    )  # fmt: skip
    answer: dict[str, Any] = {"outcome": "accepted", "code": None, "message": None} if filled else NO
    bid, ask = (D(one) for one in quote) if quote else (None, None)
    connection.execute(
        insert(attempts).values(
            client_order_id=id_, attempt_no=1, broker=broker, broker_client_order_id=id_, worker="w", started_at=at,
            ended_at=done, lease_until=at, decision_price=decision and D(decision), arrival_bid=bid, arrival_ask=ask,
            arrival_at=at if quote else None, **answer,
        )
    )  # fmt: skip
    if price is not None:
        connection.execute(
            insert(fills).values(
                broker=broker, execution_id=f"e{number}", client_order_id=id_, attempt_no=1, symbol=symbol,
                strategy=strategy, quantity=quantity, price=D(price), currency=currency, commission=fee and D(fee),
                commission_currency=fee and currency, filled_at=at, recorded_at=done,
            )
        )  # fmt: skip
