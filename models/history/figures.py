"""What the report tells of orders, added up by the database: a year of a million orders is a few rows by then.

A date bounds days in New York here, of orders as of profit, so that all parts of a page are about the same days.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from math import fsum
from statistics import median
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Float, Table, case, cast, exists, func, select

from models.history.views import QueryOf, Row, v_attempts, v_latency, v_orders, v_tca
from models.record.archive_tables import archived_orders
from models.record.one_look import one_look
from models.record.tables import bars
from models.record.trading_days import begin_of

if TYPE_CHECKING:
    from models.history.past import History, When

#: Answers by which an order did not get through.
_NO = ("refused", "not_sent", "unknown")
#: What slippage is held against.
AGAINST = ("decision", "arrival", "vwap")
#: Rows that are fetched at once.
_AT_ONCE = 20_000


def begin(day: When | None) -> When | None:
    """Return when a day begins in New York; a moment stays one, and a text that is no date is for others to read."""
    if isinstance(day, str):
        with suppress(ValueError):
            day = date.fromisoformat(day)
    return begin_of(day) if isinstance(day, date) and not isinstance(day, datetime) else day


class Figures:
    """The orders, attempts and executions of some days.

    Args:
        history: over the record.
        since: first day, or moment.
        until: the first that is left out.
    """

    def __init__(self, history: History, since: When | None, until: When | None) -> None:
        self._history, self._since, self._until = history, begin(since), begin(until)

    def _query(self, view: Table) -> QueryOf:
        return self._history.query(view, since=self._since, until=self._until)

    def _rows(self, query: QueryOf) -> list[Row]:
        with one_look(self._history.database) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def archived(self) -> int:
        """Return how many orders are in archives, and in none of the other figures."""
        return self._history.count(archived_orders, since=self._since, until=self._until)

    def by_broker(self) -> list[Row]:
        """Return how many orders ended where: `broker`, `account`, `orders` and how many of them ended how."""
        o = v_orders.c

        def those(condition: ColumnElement[bool]) -> ColumnElement[int]:
            return func.sum(case((condition, 1), else_=0))

        counts = (
            func.count().label("orders"),
            those(o.status == "filled").label("filled"),
            those(o.status.in_(["rejected", "denied"])).label("rejected or denied"),
            # Of an order with one attempt nobody need look at the attempts.
            those(case((o.attempt_count > 1, o.fell_back), else_=False)).label("came by fallback"),
        )
        query = self._query(v_orders).with_only_columns(o.broker, o.account, *counts)
        return self._rows(query.group_by(o.broker, o.account).order_by(o.broker, o.account))

    def latency(self) -> dict[str, array[float]]:
        """Return by broker how many milliseconds it took from asked for to filled, of each order that was."""
        ms = cast(v_latency.c.fill_ms, Float)
        query = self._query(v_latency).with_only_columns(v_latency.c.broker, ms)
        found: dict[str, array[float]] = {}
        with one_look(self._history.database) as connection:
            # A condition on the time would have SQLite look for the executions twice.
            for broker, took in connection.execute(query.execution_options(yield_per=_AT_ONCE)):
                if took is not None:
                    found.setdefault(broker or "", array("d")).append(took)
        return dict(sorted(found.items()))

    def slippage(self) -> list[Row]:
        """Return what executions cost in sum, and the median in basis points: by what, broker and currency."""
        against = [name for name in AGAINST if name != "vwap" or self._has_bars()]
        columns = [v_tca.c[f"slippage_{name}{unit}"] for name in against for unit in ("", "_bps")]
        query = self._query(v_tca).with_only_columns(
            v_tca.c.broker, v_tca.c.currency, *(cast(column, Float) for column in columns)
        )
        found: dict[tuple[str, str], list[array[float]]] = {}
        with one_look(self._history.database) as connection:  # one pass: what is dear is to find an execution's order
            for broker, currency, *told in connection.execute(query.execution_options(yield_per=_AT_ONCE)):
                whose = broker, currency or ""
                if whose not in found:
                    found[whose] = [array("d") for _ in columns]
                for values, value in zip(found[whose], told, strict=True):
                    if value is not None:
                        values.append(value)
        return [
            {
                "against": name, "broker": whose[0], "currency": whose[1] or None, "executions": len(costs),
                "cost": round(Decimal(fsum(costs)), 9), "median bps": round(median(points), 2) if points else None,
            }
            for place, name in enumerate(against) for whose in sorted(found)
            for costs, points in [found[whose][2 * place : 2 * place + 2]] if costs
        ]  # fmt: skip

    def refused(self, most: int) -> tuple[list[Row], int]:
        """Return the answers by which orders did not get through, the most frequent first, and how many there are."""
        a = v_attempts.c
        times, whose = func.count().label("times"), (a.broker, a.outcome, a.code, a.message)
        said = (a.broker, a.outcome, a.code, times, a.message.label("words"))
        query = self._query(v_attempts).where(a.outcome.in_(_NO)).with_only_columns(*said).group_by(*whose)
        (whole,) = self._rows(select(func.count().label("all")).select_from(query.subquery()))
        return self._rows(query.order_by(times.desc(), *whose).limit(most)), whole["all"]

    def _has_bars(self) -> bool:
        with one_look(self._history.database) as connection:
            return bool(connection.execute(select(exists().where(bars.c.timeframe == "1Min"))).scalar())
