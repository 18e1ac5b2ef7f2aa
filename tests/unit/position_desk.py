"""Positions over a fresh database, and as much of a broker as their reading asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from models.errors import BrokerError
from models.record.database import Database, upgrade
from models.record.tables import (
    attempts,
    external_fills,
    fills,
    orders,
    position_baselines,
    position_events,
    position_locks,
    position_snapshots,
)
from models.reports import AccountReport, FillReport, PositionReport
from models.settings import Settings, TimingSettings
from models.vocabulary import Side
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.positions.external import External
from worker.positions.reading import PositionReader
from worker.runtime.clock import elapsed, utcnow

BROKER = "alpaca"


class HeldPositions:
    """As much of a broker as a reading of positions asks."""

    name = BROKER
    accounts: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.while_reading: Callable[[], None] = lambda: None
        self.prices: dict[str, str] = {}
        self.account: AccountReport | None = None

    def get_positions(self) -> list[PositionReport]:
        found = [
            PositionReport(
                symbol=s, quantity=Decimal(q), avg_price=Decimal(self.prices[s]) if s in self.prices else None
            )
            for s, q in self.held.items()
            if q
        ]
        self.while_reading()
        return found

    def get_accounts(self) -> list[AccountReport]:
        if self.account is None:
            raise BrokerError("the account cannot be read")
        return [self.account]


class PositionDesk:
    """Positions over a fresh database, led by `me`."""

    def __init__(self, database: Database, timing: TimingSettings) -> None:
        # Three readings one after another decide: how long a difference lasts is a matter of `judge`.
        self.timing = timing.model_copy(update={"lock_after": 0.0, "leader_lease": 600.0})
        self.database, self.paper, self.complete, self.later_s = database, HeldPositions(), True, 0.0
        self.me = Identity(BROKER)
        self.pulse = Heartbeat(database, self.me, self.timing)
        self.pulse.beat()
        self.positions = self.make()
        self.external = External(database, BROKER)
        self._numbers = iter(range(1000))

    def make(self) -> PositionReader:
        paper: Any = self.paper
        return PositionReader(
            self.database, paper, self.me.name, self.timing, self.pulse, lambda: self.complete,
            lambda: elapsed() + self.later_s,
        )  # fmt: skip

    def read(self, times: int = 1, **held: int) -> None:
        self.paper.held.update(held)
        for _ in range(times):
            self.positions.read()

    def fill(
        self, symbol: str, side: str, quantity: int, *, outcome: str = "accepted", age_s: float = 10.0,
        strategy: str | None = None, price: str = "1",
    ) -> str:  # fmt: skip
        """Book a fill of ours, recorded so long ago."""
        name, at = f"o{next(self._numbers)}", utcnow() - timedelta(seconds=age_s)
        with self.database.write() as connection:
            connection.execute(
                insert(orders).values(
                    client_order_id=name, symbol=symbol, side=side, quantity=quantity, filled_quantity=quantity,
                    status="filled", broker=BROKER, body_hash="x", available_at=at, created_at=at, updated_at=at,
                    attempt_no=1, strategy=strategy,
                )
            )  # fmt: skip
            connection.execute(
                insert(attempts).values(
                    client_order_id=name, attempt_no=1, broker=BROKER, broker_client_order_id=name, outcome=outcome,
                    broker_order_id=f"b-{name}", worker="w", started_at=at, lease_until=at,
                )
            )  # fmt: skip
            if outcome == "accepted":
                connection.execute(
                    insert(fills).values(
                        broker=BROKER, execution_id=f"e-{name}", client_order_id=name, attempt_no=1, symbol=symbol,
                        strategy=strategy, quantity=quantity, price=Decimal(price), filled_at=at, recorded_at=at,
                        late=False,
                    )
                )  # fmt: skip
        return name

    def others_fill(self, symbol: str, side: Side, quantity: int, order: str = "x", age_s: float = 10.0) -> None:
        report = FillReport(
            execution_id=f"x{next(self._numbers)}", quantity=Decimal(quantity), price=Decimal(1), filled_at=utcnow(),
            symbol=symbol, side=side, broker_order_id=order,
        )  # fmt: skip
        self.external.note([report])
        with self.database.write() as connection:
            old = utcnow() - timedelta(seconds=age_s)
            mine = external_fills.c.execution_id == report.execution_id
            connection.execute(update(external_fills).where(mine).values(recorded_at=old))

    def _rows(self, query: Any) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(query).all())

    def locks(self) -> dict[str, tuple[int, int]]:
        p = position_locks.c
        return {s: (int(e), int(f)) for s, e, f in self._rows(select(p.symbol, p.expected, p.found))}

    def baselines(self) -> dict[str, int]:
        b = position_baselines.c
        return {s: int(q) for s, q in self._rows(select(b.symbol, b.quantity)) if q}

    def snapshot(self) -> dict[str, int]:
        p = position_snapshots.c
        return {s: int(q) for s, q in self._rows(select(p.symbol, p.quantity))}

    def journal(self) -> list[tuple[str, str]]:
        e = position_events.c
        return [(s, k) for s, k in self._rows(select(e.symbol, e.kind).order_by(e.id))]


def desk_on(request: pytest.FixtureRequest, settings: Settings) -> Iterator[PositionDesk]:
    """Have a desk over the database that a fixture's parameter names: sqlite or postgresql."""
    if request.param == "sqlite":
        yield PositionDesk(request.getfixturevalue("database"), settings.timing)
        return
    database = Database(request.getfixturevalue("postgres").fresh())
    upgrade(database)
    made = PositionDesk(database, settings.timing)
    yield made
    made.pulse.stop()
    database.close()
