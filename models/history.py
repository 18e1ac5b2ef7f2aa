"""The order history for analysts: rows and DataFrames over the public views. Works with nothing else running.

Every function takes the same filters and reads one of the views `v_*`, or the event log. In a
DataFrame times are datetime64[ns, UTC] and numbers are Decimal objects; `floats=True` makes them float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Column, Integer, MetaData, String, Table, func, select
from sqlalchemy import Select as SelectOf

from models.encoding import to_json as to_json
from models.errors import InvalidRequest
from models.record.columns import Money, UtcTime
from models.record.controls import v_controls as v_controls
from models.record.database import Database, open_database
from models.record.tables import order_events
from models.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
#: How times may be given.
When = datetime | date | str

_views = MetaData()


def _view(name: str, **columns: Any) -> Table:
    return Table(name, _views, *(Column(key, kind) for key, kind in columns.items()))


v_orders = _view(
    "v_orders", client_order_id=String, strategy=String, symbol=String, side=String, quantity=Money, order_type=String,
    limit_price=Money, stop_price=Money, trail_amount=Money, trail_percent=Money, time_in_force=String,
    extended_hours=Boolean, tags=JSON, status=String, route=JSON, broker=String, broker_order_id=String,
    attempt_count=Integer, brokers_tried=Integer, fell_back=Boolean, filled_quantity=Money, remaining_quantity=Money,
    avg_fill_price=Money, filled_notional=Money, reason=String, reason_code=String, created_at=UtcTime,
    expires_at=UtcTime, submitted_at=UtcTime, accepted_at=UtcTime, closed_at=UtcTime, updated_at=UtcTime,
)  # fmt: skip
v_fills = _view(
    "v_fills", broker=String, execution_id=String, client_order_id=String, attempt_no=Integer, strategy=String,
    symbol=String, side=String, quantity=Money, price=Money, notional=Money, currency=String, commission=Money,
    commission_currency=String, late=Boolean, inferred=Boolean, filled_at=UtcTime, recorded_at=UtcTime,
)  # fmt: skip
v_attempts = _view(
    "v_attempts", client_order_id=String, attempt_no=Integer, strategy=String, symbol=String, side=String,
    quantity=Money, broker=String, broker_client_order_id=String, broker_order_id=String, outcome=String, code=String,
    message=String, worker=String, session=String, started_at=UtcTime, ended_at=UtcTime, checks=Integer,
    sent_at=UtcTime, next_check_at=UtcTime, evidence=JSON,
)  # fmt: skip
v_latency = _view(
    "v_latency", client_order_id=String, strategy=String, symbol=String, broker=String, attempt_count=Integer,
    created_at=UtcTime, queue_ms=Money, send_ms=Money, accept_ms=Money, fill_ms=Money,
)  # fmt: skip
#: The journal as `corro events` shows it; the rest of this module reads the table itself.
v_events = _view(
    "order_events", id=Integer, client_order_id=String, at=UtcTime, kind=String, from_status=String, to_status=String,
    detail=String, strategy=String,
)  # fmt: skip
v_external_orders = _view(
    "v_external_orders", broker=String, broker_order_id=String, broker_client_order_id=String, symbol=String,
    side=String, order_type=String, time_in_force=String, quantity=Money, limit_price=Money, stop_price=Money,
    filled_quantity=Money, avg_fill_price=Money, status=String, raw_status=String, submitted_at=UtcTime,
    first_seen_at=UtcTime, last_seen_at=UtcTime,
)  # fmt: skip
v_external_fills = _view(
    "v_external_fills", broker=String, execution_id=String, broker_order_id=String, symbol=String, side=String,
    quantity=Money, price=Money, notional=Money, currency=String, commission=Money, commission_currency=String,
    filled_at=UtcTime, recorded_at=UtcTime,
)  # fmt: skip

#: In a DataFrame. The time's unit is named: pandas infers another one from no rows than from some.
TIME_DTYPE = "datetime64[ns, UTC]"
_DTYPES = ((UtcTime, TIME_DTYPE), (Boolean, "boolean"), (Integer, "Int64"))
#: What a row is dated by, for `since` and `until`, and for the order of rows.
_DATED = {"v_orders": "created_at", "v_fills": "filled_at", "v_attempts": "started_at", "v_latency": "created_at",
          "order_events": "at", "v_external_orders": "first_seen_at", "v_external_fills": "filled_at",
          "position_events": "at", "control_events": "at", "v_controls": "at"}  # fmt: skip
_FILTERS = ("client_order_id", "status", "symbol", "strategy", "broker", "side", "outcome")


class History:
    """The history in one database.

    Args:
        database: the database; None opens the one of the settings.
        settings: None reads them.
    """

    def __init__(self, database: Database | None = None, settings: Settings | None = None) -> None:
        self.database = database or open_database(settings or load_settings())

    def rows(
        self,
        table: Table,
        *,
        since: When | None = None,
        until: When | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        **equal: str | Sequence[str] | None,
    ) -> list[Row]:
        """Return rows of a view as dictionaries.

        Args:
            table: one of the views, or `order_events`.
            since: earliest time, inclusive: aware, ISO 8601 text, or a date; without a zone the text is UTC.
            until: latest time, exclusive, given as `since`.
            limit: at most so many.
            newest_first: the order.
            equal: columns that have to have a value, or one of several.

        Raises:
            ValueError: a naive datetime, a text that is no time, or a column that the view does not have.
        """
        query = _filtered(table, equal, _moment("since", since), _moment("until", until))
        dated = table.c[_DATED[table.name]]
        query = query.order_by(dated.desc() if newest_first else dated.asc())
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]

    def count(self, table: Table, **filters: Any) -> int:
        """Return how many rows `rows` has without a limit."""
        since, until = (_moment(name, filters.pop(name, None)) for name in ("since", "until"))
        with self.database.read() as connection:
            query = select(func.count()).select_from(_filtered(table, filters, since, until).subquery())
            return int(connection.execute(query).scalar_one())

    def ids(self, start: str, limit: int = 6) -> list[str]:
        """Return client_order_ids that begin with a text, in their order, so that an exact one is the first."""
        ids = v_orders.c.client_order_id
        with self.database.read() as connection:
            query = select(ids).where(ids >= start, ids.startswith(start, autoescape=True)).order_by(ids).limit(limit)
            return list(connection.execute(query).scalars())

    def order(self, client_order_id: str) -> Row | None:
        """Return one order with its `attempts`, `fills` and `events`, oldest first; None where there is none."""
        found = self.rows(v_orders, client_order_id=client_order_id)
        if not found:
            return None
        parts = {"attempts": v_attempts, "fills": v_fills, "events": order_events}
        return found[0] | {name: self.of_order(table, client_order_id) for name, table in parts.items()}

    def of_order(self, table: Table, client_order_id: str) -> list[Row]:
        """Return the rows of a view, or events, that belong to one order, oldest first."""
        rows = self.rows(table, client_order_id=client_order_id, newest_first=False)
        return sorted(rows, key=lambda row: int(row.get("id") or row.get("attempt_no") or 0))

    def frame(self, table: Table, *, floats: bool = False, **filters: Any) -> pd.DataFrame:
        """Return rows of a view as a DataFrame; columns and dtypes are those of the view, whatever its rows hold."""
        return frame_of(table, self.rows(table, **filters), floats=floats)


def frame_of(table: Table, rows: Sequence[Row], *, floats: bool = False) -> pd.DataFrame:
    """Return rows as a DataFrame with the columns of their table, and the dtypes that those have."""
    import pandas as pd

    names = [column.name for column in table.c]
    series = [_column([row[c.name] for row in rows], dtype_of(c, floats=floats)) for c in table.c]
    return pd.DataFrame(dict(zip(names, series, strict=True)), columns=names)


def _moment(name: str, value: When | None) -> datetime | None:
    """Read a time as an analyst writes it; the records are in UTC, and so is a date."""
    if value is None:
        return None
    try:
        when = datetime.fromisoformat(value if isinstance(value, str) else value.isoformat())
    except ValueError:
        raise ValueError(f"{name}: must be an ISO 8601 time or a date such as 2026-11-01, was {value!r}") from None
    if when.tzinfo is None and isinstance(value, datetime):
        raise ValueError(f"{name}: needs a zone, was {value!r}")
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def dtype_of(column: Column[Any], *, floats: bool = False) -> str:
    """Return the dtype of a column in a DataFrame: integers and booleans nullable, text and Decimals as objects."""
    if floats and isinstance(column.type, Money):
        return "float64"
    return next((dtype for kind, dtype in _DTYPES if isinstance(column.type, kind)), "object")


def _column(values: list[object], dtype: str) -> pd.Series[Any]:
    """Make a column of a DataFrame of its own type; an empty one has it as well."""
    import pandas as pd

    series: pd.Series[Any] = pd.Series(values, dtype="object")
    found: Any = pd.to_datetime(series, utc=True) if dtype == TIME_DTYPE else series
    converted: pd.Series[Any] = found.astype(dtype)
    return converted


def _filtered(
    table: Table,
    equal: Mapping[str, str | Sequence[str] | None],
    since: datetime | None,
    until: datetime | None,
) -> SelectOf[Any]:
    """Return the rows of a view that have these values and fall between two times, newest first."""
    query, dated = select(table), table.c[_DATED[table.name]]
    for name, value in equal.items():
        if value is None:
            continue
        if name not in table.c or name not in _FILTERS:
            raise ValueError(f"{table.name} cannot be filtered by {name!r}")
        query = query.where(table.c[name].in_([value] if isinstance(value, str) else list(value)))
    if since is not None and until is not None and since > until:
        raise InvalidRequest(f"since {since.isoformat()} is later than until {until.isoformat()}")
    if since is not None:
        query = query.where(dated >= since)
    if until is not None:
        query = query.where(dated < until)
    return query


def _frame(table: Table, filters: dict[str, Any]) -> pd.DataFrame:
    history = History()
    try:
        return history.frame(table, **filters)
    finally:
        history.database.close()


def orders(**filters: object) -> pd.DataFrame:
    """Return orders, newest first: one row per order, the columns of `v_orders`.

    Args:
        filters: `since`, `until` (aware, text, or a date, which is its midnight in UTC), `status`,
            `symbol`, `strategy`, `broker`, `side`, `limit`, `floats`.
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
