"""Data requests: recorded in `fetches`, answered by one broker, handed to the next when it cannot.

Reads may always be repeated, so there is no unknown outcome here: a fetch whose worker died is simply taken again when
its lease runs out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import and_, or_, select, update

from models.database import Database
from models.errors import CorroError, InvalidOrder
from models.fetches import MAX_SPAN, as_json, insert_fetch, parse_bars, store_bars, text
from models.messages import FetchRequest
from models.reports import Bar
from models.settings import Settings
from models.tables import fetches
from producers.bell import Bell
from worker.brokers.base import BrokerInterface
from worker.clock import utcnow

log = structlog.get_logger()

#: Fetches that one worker answers at a time; orders never wait for them.
LANES = 2


class Fetcher:
    """Answers data requests at one broker."""

    def __init__(
        self, settings: Settings, database: Database, broker: BrokerInterface, worker: str, bell: Bell
    ) -> None:
        self.settings, self.timing = settings, settings.timing
        self.database, self.broker, self.worker, self.bell = database, broker, worker, bell
        self._lanes = ThreadPoolExecutor(LANES, thread_name_prefix="data")
        self._answers: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
            "quote": self._quote,
            "bars": self._bars,
            "account": lambda _id, _request: as_json(self.broker.get_account_info()),
            "positions": lambda _id, _request: [as_json(p) for p in self.broker.get_positions()],
            "orders": self._orders,
        }

    def close(self) -> None:
        """Finish what is under way."""
        self._lanes.shutdown(wait=True, cancel_futures=True)

    def take(self, kind: str, fetch_id: str, request: Mapping[str, Any]) -> None:
        """Record a request that came by message, if it is new, and answer it in the data lane."""
        fetch = FetchRequest(kind=kind, fetch_id=str(fetch_id), request=dict(request))
        route = (self.broker.name, *(b for b in self.settings.route if b != self.broker.name))
        with self.database.write() as connection:
            insert_fetch(connection, fetch, route, utcnow())
        self._lanes.submit(self._run, fetch.fetch_id)

    def sweep(self) -> None:
        """Answer what has waited too long for its message, or whose worker died."""
        now = utcnow()
        f = fetches.c
        late = and_(f.status == "queued", f.updated_at < now - timedelta(seconds=self.timing.sweep_after))
        orphan = and_(f.status == "running", f.lease_until < now)
        with self.database.read() as connection:
            query = select(f.fetch_id).where(f.broker == self.broker.name, or_(late, orphan)).limit(20)
            found = list(connection.execute(query).scalars())
        for fetch_id in found:
            self._lanes.submit(self._run, fetch_id)

    def _run(self, fetch_id: str) -> None:
        try:
            row = self._claim(fetch_id)
            if row is not None:
                self._answer(row)
        except CorroError as error:
            log.warning("fetch_postponed", fetch_id=fetch_id, error=str(error))
        except Exception:
            log.exception("fetch_error", fetch_id=fetch_id)

    def _claim(self, fetch_id: str) -> Mapping[str, Any] | None:
        now, f = utcnow(), fetches.c
        free = or_(f.status == "queued", and_(f.status == "running", f.lease_until < now))
        mine = (f.fetch_id == fetch_id) & (f.broker == self.broker.name)
        values: dict[str, Any] = {
            "status": "running",
            "worker": self.worker,
            "lease_until": now + timedelta(seconds=self.timing.lease),
            "started_at": now,
            "updated_at": now,
            "attempt_no": f.attempt_no + 1,
        }
        with self.database.write() as connection:
            if not connection.execute(update(fetches).where(mine & free).values(**values)).rowcount:
                return None
            return dict(connection.execute(select(fetches).where(mine)).mappings().one())

    def _answer(self, row: Mapping[str, Any]) -> None:
        fetch_id = row["fetch_id"]
        try:
            result = self._answers[row["kind"]](fetch_id, row["request"])
        except InvalidOrder as error:  # no broker could answer this
            self._close(fetch_id, status="failed", error=str(error))
        except CorroError as error:
            self._onward(row, f"{self.broker.name}: {error}")
        except Exception as error:
            log.exception("fetch_error", fetch_id=fetch_id)
            self._onward(row, f"{self.broker.name}: {type(error).__name__}: {error}")
        else:
            self._close(fetch_id, status="done", result=result, progress=1, error=None)

    def _close(self, fetch_id: str, **values: Any) -> None:
        now = utcnow()
        with self.database.write() as connection:
            mine = (fetches.c.fetch_id == fetch_id) & (fetches.c.worker == self.worker)
            connection.execute(update(fetches).where(mine).values(ended_at=now, updated_at=now, **values))

    def _onward(self, row: Mapping[str, Any], error: str) -> None:
        """Hand the request to the next broker on its route; at the end of the route it has failed."""
        route = list(row["route"])
        rest = route[route.index(self.broker.name) + 1 :] if self.broker.name in route else []
        errors = "; ".join(part for part in (row["error"], error) if part)
        log.warning("fetch_failed_here", fetch_id=row["fetch_id"], kind=row["kind"], error=error, next=rest[:1])
        if not rest:
            self._close(row["fetch_id"], status="failed", error=errors)
            return
        with self.database.write() as connection:
            connection.execute(
                update(fetches)
                .where(fetches.c.fetch_id == row["fetch_id"])
                .values(status="queued", broker=rest[0], error=errors, lease_until=None, updated_at=utcnow())
            )
        request = {"fetch_id": row["fetch_id"], **row["request"]}
        self.bell.ring([(f"data.{row['kind']}", f"data.{rest[0]}", request)])

    # -- ANSWERS ---
    def _quote(self, _fetch_id: str, request: Mapping[str, Any]) -> Any:
        return as_json(self.broker.get_market_data(text(request, "symbol").upper()))

    def _orders(self, _fetch_id: str, request: Mapping[str, Any]) -> Any:
        return [as_json(r) for r in self.broker.get_orders(open_only=bool(request.get("open_only", True)))]

    def _bars(self, fetch_id: str, request: Mapping[str, Any]) -> Any:
        wanted = parse_bars(request, utcnow())
        span = MAX_SPAN[wanted.timeframe]
        stored, start = 0, wanted.start
        while start < wanted.end:
            end = min(start + span, wanted.end)
            page = self.broker.get_historical_data(wanted.symbol, wanted.timeframe, start, end)
            stored += self._store(fetch_id, wanted.symbol, wanted.timeframe, page, wanted.share_done(end))
            start = end
        return wanted.summary(self.broker.name, stored)

    def _store(self, fetch_id: str, symbol: str, timeframe: str, page: Sequence[Bar], done: Any) -> int:
        now = utcnow()
        with self.database.write() as connection:
            store_bars(connection, self.broker.name, symbol, timeframe, page)
            connection.execute(
                update(fetches)
                .where(fetches.c.fetch_id == fetch_id)
                .values(progress=done, updated_at=now, lease_until=now + timedelta(seconds=self.timing.lease))
            )
        return len(page)
