"""What tests of data through the queue share: bars as plain rows, and a story of look-ups and previews."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
from sqlalchemy import func, select

from models.messages import OrderRequest
from models.record.tables import orders
from models.vocabulary import OrderType
from tests.kit import World
from worker.sandbox.market.chains import expiries
from worker.sandbox.market.prices import NEW_YORK


def as_rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [(at.to_pydatetime(), *values) for at, *values in frame.reset_index().itertuples(index=False, name=None)]


def finished(timeframe: str = "1Day") -> datetime:
    """Return the last midnight in New York, of the week or month for those bars: none before it changes any more."""
    midnight = datetime.now(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"1Week": midnight.weekday(), "1Month": midnight.day - 1}.get(timeframe, 0)
    return (midnight - timedelta(days=days)).astimezone(UTC)


def look_up_and_preview(world: World, brokers: Sequence[str]) -> None:
    """Look the same chain up everywhere, refuse an order by what was told, and preview one that is sent then."""
    day = expiries(datetime.now(UTC).date())[0]
    chains = {b: world.client.instruments("AAPL", "option", expiry=day, route=[b]).result(30) for b in brokers}
    assert len({tuple(one.symbol for one in chain) for chain in chains.values()}) == 1
    kept = world.client.kept_instruments("AAPL", "option", expiry=day)
    assert {row["broker"] for row in kept} == set(brokers)
    assert len(kept) == sum(map(len, chains.values()))
    future = world.client.instruments("ES", "future", route=["alpaca", "ibkr"])
    assert future.result(30)[0].multiplier == 50
    assert future.broker == "ibkr"

    off = OrderRequest(symbol="EUR/USD", asset_class="forex", side="buy", quantity=1000, route=["ibkr"])
    step = world.client.instruments("EUR/USD", "forex").result(30)[0].price_increment
    assert step is not None
    wrong = off.model_copy(update={"order_type": OrderType.LIMIT, "limit_price": Decimal("1.05") + step / 2})
    order = world.client.submit(wrong).wait(20)
    assert (order.status, "go in steps of" in str(order.reason)) == ("denied", True)

    wanted = OrderRequest(symbol="KO", side="buy", quantity=5, order_type="limit", limit_price=40, route=brokers)
    told = world.client.preview(wanted, 30)
    assert [(row["broker"], row["supported"], row["refused"]) for row in told] == [(b, True, None) for b in brokers]
    assert told[0]["margin_after"] == 50
    assert world.control.orders() == []
    with world.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(orders)) == 1
    with_digest = OrderRequest(**{**wanted.model_dump(), "version": 2, "preview": told[0]["digest"]})
    assert world.client.submit(with_digest).client_order_id == wanted.client_order_id
