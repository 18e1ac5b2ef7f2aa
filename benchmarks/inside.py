"""corro in this process, without queue and Celery: the client's code and the worker's, to be counted and profiled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.house import BenchHouse
from models.messages import OrderRequest
from models.record.database import Database
from models.settings import load_settings
from producers.bell import Bell
from producers.client import OrderClient
from worker import brokers
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.orders.desk import BrokerDesk


class Inside:
    """A client and a desk over one database.

    Args:
        client: the strategy's.
        desk: the worker's.
    """

    def __init__(self, client: OrderClient, desk: BrokerDesk) -> None:
        self.database: Database = client.database
        self._client, self._desk = client, desk
        self._ids: list[str] = []

    def submit(self, count: int, at_once: int = 1) -> None:
        """Submit so many, at once or one after the other, as a strategy does."""
        for _ in range(0, count, at_once):
            asked = [self._request() for _ in range(at_once)]
            self._ids.extend(order.client_order_id for order in self._client.submit_many(asked))

    def work(self, count: int, at_once: int = 1) -> None:
        """Claim, send and record so many of those that were submitted."""
        for _ in range(0, count, at_once):
            self._desk.place.work([self._ids.pop() for _ in range(at_once)])

    def _request(self) -> OrderRequest:
        return OrderRequest(
            symbol="AAPL", side="buy", quantity=10, order_type="limit", limit_price="1.00", strategy="bench",
            route=["desk"],
        )  # fmt: skip


@contextmanager
def inside(house: BenchHouse, database: str = "sqlite", more: dict[str, object] | None = None) -> Iterator[Inside]:
    """Open both, over a database of this kind; `more` is added to the settings."""
    folder = house.folder("inside")
    (folder / "stamps").touch()
    sys.path.insert(0, str(house.site))
    settings = load_settings(
        home=folder,
        database_url=house.database(database, folder, ours=True),
        redis_url=f"redis+socket://{house.socket}",
        brokers={"desk": {"adapter": "null", "stamps": str(folder / "stamps")}},
        **(more or {}),
    )
    broker = brokers.load(settings, "desk")
    broker.connect()
    bell = Bell(settings)
    try:
        with OrderClient(settings) as client:
            me = Identity(broker.name)
            members = Heartbeat(client.database, me, settings.timing)
            desk = BrokerDesk(settings, client.database, broker, me, bell, members)
            desk.gate.open()
            yield Inside(client, desk)
            desk.close()
    finally:
        bell.close()
        sys.path.remove(str(house.site))
