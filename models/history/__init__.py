"""The order history for analysts: rows and DataFrames over the public views. Works with nothing else running.

Every function takes the same filters and reads one of the views `v_*`, or the event log. In a
DataFrame times are datetime64[ns, UTC] and numbers are Decimal objects; `floats=True` makes them float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table

from models.encoding import to_json as to_json
from models.history.past import TIME_DTYPE as TIME_DTYPE
from models.history.past import History as History
from models.history.past import Row as Row
from models.history.past import Wanted as Wanted
from models.history.past import When as When
from models.history.past import dtype_of as dtype_of
from models.history.past import frame_of as frame_of
from models.history.profit import pnl_columns as pnl_columns
from models.history.views import v_attempts as v_attempts
from models.history.views import v_cash as v_cash
from models.history.views import v_equity as v_equity
from models.history.views import v_events as v_events
from models.history.views import v_external_fills as v_external_fills
from models.history.views import v_external_orders as v_external_orders
from models.history.views import v_fills as v_fills
from models.history.views import v_groups as v_groups
from models.history.views import v_latency as v_latency
from models.history.views import v_orders as v_orders
from models.history.views import v_pnl as v_pnl
from models.history.views import v_position_days as v_position_days
from models.history.views import v_positions as v_positions
from models.history.views import v_tca as v_tca
from models.history.views import v_told_executions as v_told_executions
from models.record.controls import v_controls as v_controls
from models.record.tables import order_events as order_events

if TYPE_CHECKING:
    import pandas as pd


def _frame(table: Table, filters: dict[str, Any]) -> pd.DataFrame:
    history = History(archives=filters.pop("archives", None))
    try:
        return history.frame(table, **filters)
    finally:
        history.database.close()


def orders(**filters: object) -> pd.DataFrame:
    """Return orders, newest first: one row per order, the columns of `v_orders`.

    Args:
        filters: `since`, `until` (aware, text, or a date, which is its midnight in UTC), `status`,
            `symbol`, `strategy`, `broker`, `side`, `limit`, `floats`; `archives`, a folder of `corro archive` whose
            orders are to be among them.
    """
    return _frame(v_orders, filters)


def fills(**filters: object) -> pd.DataFrame:
    """Return executions, newest first: one row per fill, the columns of `v_fills`."""
    return _frame(v_fills, filters)


def attempts(**filters: object) -> pd.DataFrame:
    """Return attempts, newest first: one row per order, broker and try, the columns of `v_attempts`."""
    return _frame(v_attempts, filters)


def events(**filters: object) -> pd.DataFrame:
    """Return the event log, newest first."""
    return _frame(order_events, filters)


def external_orders(**filters: object) -> pd.DataFrame:
    """Return orders that others placed at our brokers, newest first: the columns of `v_external_orders`."""
    return _frame(v_external_orders, filters)


def external_fills(**filters: object) -> pd.DataFrame:
    """Return their executions, newest first: the columns of `v_external_fills`."""
    return _frame(v_external_fills, filters)


def latency(**filters: object) -> pd.DataFrame:
    """Return how long orders took, in milliseconds, newest first: the columns of `v_latency`."""
    return _frame(v_latency, filters)


def positions(
    at: When | None = None, *, method: str | None = None, floats: bool = False, **equal: Wanted
) -> pd.DataFrame:
    """Return what is held, or was held at a moment: the columns of `v_positions`, one row per set of lots.

    Executions of others at our brokers, and what was there before corro, are rows of their own, with the strategies
    `(external)` and `(baseline)`: all rows of a broker and a symbol together are the position that it shows.

    Args:
        at: the moment, as `since` elsewhere, not in the future; None is now. A price, and so `unrealized`, is known
            only of now.
        method: fifo (first in, first out) or average; None as `[history] lots` says.
        floats: numbers as float64.
        equal: `broker`, `account`, `strategy`, `symbol`, `source`, `currency`: one value or a list.
    """
    history = History()
    try:
        return frame_of(v_positions, history.positions(at, method=method, **equal), floats=floats)
    finally:
        history.database.close()


def pnl(
    by: Sequence[str] | str | None = None,
    *,
    since: When | None = None,
    until: When | None = None,
    method: str | None = None,
    in_: str | None = None,
    floats: bool = False,
    **equal: Wanted,
) -> pd.DataFrame:
    """Return profit and loss: realized on the day a lot was closed, before fees; unrealized today.

    Amounts of several currencies are never added up: `currency` is always among the columns. Where `in_` asks for one
    currency, each day's amounts are converted by the newest price of the pair that the record was told by its end, no
    older than a week: `rate` (null where several were used), `rate_at` (of the oldest) and `rate_source` tell it. What
    no rate is known for is null, and counted in `rates_missing`.

    Args:
        by: what to add up by: day, week, month, year, broker, account, strategy, symbol, source, currency; None is each
            row of `v_pnl`, newest first.
        since: first day: a date, or a moment, which counts as its date in New York.
        until: the day after the last one, given as `since`.
        method: fifo (first in, first out) or average; None as `[history] lots` says.
        in_: the currency of all amounts, such as USD; `by` currency is then the column `traded_in`.
        floats: numbers as float64.
        equal: as in `positions`.

    Raises:
        InvalidRequest: of an unknown method, something else to add up by, or no currency.
    """
    history = History()
    try:
        rows = history.pnl(by, since=since, until=until, method=method, in_=in_, **equal)
        return frame_of(pnl_columns(by, in_), rows, floats=floats)
    finally:
        history.database.close()


def tca(**filters: object) -> pd.DataFrame:
    """Return what executions cost against decision, arrival and the interval's VWAP, newest first: as `v_tca`.

    Positive is a cost, in money of the whole execution and in basis points (a hundredth of a percent).
    """
    return _frame(v_tca, filters)


def equity(
    since: When | None = None,
    until: When | None = None,
    *,
    total: bool = False,
    floats: bool = False,
    **equal: Wanted,
) -> pd.DataFrame:
    """Return the curve of equity, oldest first: the columns of `v_equity`, one row per account and day.

    `peak` and `drawdown` count from the first day that is asked for; a drawdown is 0 or negative, in money and in
    percent of the peak. Deposits and withdrawals are in it: see `cash`.

    Args:
        since: first day, as in `pnl`.
        until: the day after the last one.
        total: all accounts of a currency together, one row a day; `broker` and `account` are None.
        floats: numbers as float64.
        equal: `broker`, `account`, `currency`: one value or a list.
    """
    history = History()
    try:
        rows = history.equity(since=since, until=until, total=total, **equal)
        return frame_of(v_equity, rows, floats=floats)
    finally:
        history.database.close()


def cash(**filters: object) -> pd.DataFrame:
    """Return what accounts were paid, charged or given besides their trades, newest first: the columns of `v_cash`.

    Args:
        filters: as in `orders`; and `account`, `currency`, and `kind`: dividend, interest, tax, fee, regulatory_fee,
            transfer, journal, split, corporate_action, exercise, assignment, expiry, other.
    """
    return _frame(v_cash, filters)


def report(since: When | None = None, until: When | None = None, *, method: str | None = None) -> str:
    """Return a page of HTML that opens offline.

    It shows profit by day, strategy, symbol and broker, where orders went, how long they took, what they cost, and what
    brokers refused, in their words.

    Args:
        since: the first day or moment, as in `pnl`.
        until: the day or moment after the last.
        method: fifo or average.

    Raises:
        ConfigurationError: matplotlib is not installed (the extra `report`).
    """
    history = History()
    try:
        return history.report(since, until, method=method)
    finally:
        history.database.close()
