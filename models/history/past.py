"""Rows and DataFrames over the public views and the event log, with the filters that all of them take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Boolean, Column, ColumnElement, Date, Integer, Subquery, Table, func, select

from models.encoding import to_json as to_json
from models.errors import InvalidRequest
from models.history import curves, positions, profit
from models.history.archived import BEYOND, VIEWS, Archives
from models.history.views import QueryOf, v_attempts, v_equity, v_fills, v_orders
from models.history.views import Row as Row
from models.record.archive_tables import archived_orders
from models.record.columns import Money, UtcTime
from models.record.database import Database, open_database
from models.record.group_tables import order_groups
from models.record.tables import order_events
from models.record.tombstones import not_there
from models.record.trading_days import day_of
from models.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd

#: A column of a view, of whatever type.
_AnyColumn = Column[Any]
#: What a column has to be: one value, or one of several; None is anything.
Wanted = str | Sequence[str] | None
#: How times may be given.
When = datetime | date | str

#: In a DataFrame. The time's unit is named: pandas infers another one from no rows than from some.
TIME_DTYPE = "datetime64[ns, UTC]"
#: A date, which has no zone.
DAY_DTYPE = "datetime64[ns]"
_DTYPES = ((UtcTime, TIME_DTYPE), (Date, DAY_DTYPE), (Boolean, "boolean"), (Integer, "Int64"))
#: What a row is dated by, for `since` and `until`, and for the order of rows.
_DATED = {"v_orders": "created_at", "v_fills": "filled_at", "v_attempts": "started_at", "v_latency": "created_at",
          "v_groups": "created_at", "order_events": "at", "v_external_orders": "first_seen_at",
          "v_external_fills": "filled_at", "position_events": "at", "control_events": "at", "v_controls": "at",
          "v_pnl": "day", "v_position_days": "day", "v_positions": "price_at", "v_tca": "filled_at",
          "v_equity": "day", "v_cash": "at", "v_told_executions": "filled_at",
          "archived_orders": "created_at"}  # fmt: skip
_FILTERS = ("client_order_id", "status", "symbol", "strategy", "broker", "side", "outcome", "account", "currency",
            "source", "order_type", "kind")  # fmt: skip


class History:
    """The history in one database.

    Args:
        database: the database; None opens the one of the settings.
        settings: None reads them.
        archives: a folder of `corro archive`, whose orders are then among the rows; None: the record alone.

    Raises:
        NotFound: there is no archive in that folder.
        ConfigurationError: archives cannot be read without pyarrow.
    """

    def __init__(
        self, database: Database | None = None, settings: Settings | None = None, archives: Path | str | None = None
    ) -> None:
        self.settings = settings
        self.database = database or open_database(settings or load_settings())
        self._archives = None if archives is None else Archives(archives, self.database)

    def rows(
        self,
        table: Table,
        *,
        since: When | None = None,
        until: When | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        **equal: Wanted,
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
            InvalidRequest: archives do not suffice for that view.
        """
        self._must_suffice(table.name)
        query = _filtered(table, equal, since, until)
        dated = table.c[_DATED[table.name]]
        query = query.order_by(dated.desc() if newest_first else dated.asc())
        with self.database.read() as connection:
            rows = [dict(row) for row in connection.execute(query.limit(limit)).mappings()]
        if self._archives is None or table.name not in VIEWS:
            return rows
        with self._archives.database.read() as connection:
            archived = [dict(row) for row in connection.execute(query.limit(limit)).mappings()]
        here = {row["client_order_id"] for row in rows}  # what was archived between the two questions is here as well
        rows += [row for row in archived if row["client_order_id"] not in here]
        return sorted(rows, key=lambda row: row[dated.name], reverse=newest_first)[:limit]

    def query(self, table: Table, *, since: When | None = None, until: When | None = None) -> QueryOf:
        """Return the query of the rows that `rows` has of the record, for sums that the database does."""
        return _filtered(table, {}, since, until)

    def _must_suffice(self, what: str) -> None:
        """See that nothing is told by half: where archives are read, they have to have all that is asked for.

        Raises:
            InvalidRequest: what is made of the record alone.
        """
        if self._archives is not None and what in BEYOND:
            raise InvalidRequest(f"archives: {what} is made of the record alone: ask for it without them")

    def count(self, table: Table, **filters: Any) -> int:
        """Return how many rows `rows` has without a limit."""
        self._must_suffice(table.name)
        since, until = (filters.pop(name, None) for name in ("since", "until"))
        with self.database.read() as connection:
            query = select(func.count()).select_from(_filtered(table, filters, since, until).subquery())
            found = int(connection.execute(query).scalar_one())
        if self._archives is not None and table.name in VIEWS:
            with self._archives.database.read() as connection:
                found += int(connection.execute(query).scalar_one())
        return found

    def ids(self, start: str, limit: int = 6, end: str = "") -> list[str]:
        """Return client_order_ids that begin and end so, of archived orders too, in their order: an exact first."""
        return self._alike((v_orders.c.client_order_id, archived_orders.c.client_order_id), start, limit, end)

    def group_ids(self, start: str, limit: int = 6, end: str = "") -> list[str]:
        """Return ids of linked orders that begin and end so, in their order: an exact first."""
        return self._alike((order_groups.c.group_id,), start, limit, end)

    def _alike(self, columns: Sequence[_AnyColumn], start: str, limit: int, end: str) -> list[str]:
        found = list[str]()
        with self.database.read() as connection:
            for ids in columns:
                query = select(ids).where(ids >= start, ids.startswith(start, autoescape=True))
                # SQLite's LIKE takes large letters for small ones, and ids differ by them.
                query = query.where(func.substr(ids, 1, len(start)) == start)
                if end:
                    least = len(start) + len(end)
                    query = query.where(
                        func.length(ids) > least, func.substr(ids, func.length(ids) - len(end) + 1) == end
                    )
                found += connection.execute(query.order_by(ids).limit(limit)).scalars()
        return sorted(found)[:limit]

    def the_order(self, client_order_id: str) -> Row:
        """Return one order as `order` does.

        Raises:
            NotFound: there is none under this id, or it is archived.
        """
        found = self.order(client_order_id)
        if found is None:
            with self.database.read() as connection:
                raise not_there(connection, client_order_id)
        return found

    def order(self, client_order_id: str) -> Row | None:
        """Return one order with its `attempts`, `fills` and `events`, oldest first; None where there is none."""
        found = self.rows(v_orders, client_order_id=client_order_id)
        if not found:
            return None
        parts = {"attempts": v_attempts, "fills": v_fills, "events": order_events}
        return found[0] | {name: self._of_order(table, client_order_id) for name, table in parts.items()}

    def of_order(self, table: Table, client_order_id: str) -> list[Row]:
        """Return the rows of a view, or events, that belong to one order, oldest first.

        Raises:
            NotFound: there is no such order, or it is archived.
        """
        rows = self._of_order(table, client_order_id)
        if not rows and not self.count(v_orders, client_order_id=client_order_id):
            with self.database.read() as connection:
                raise not_there(connection, client_order_id)
        return rows

    def _of_order(self, table: Table, client_order_id: str) -> list[Row]:
        rows = self.rows(table, client_order_id=client_order_id, newest_first=False)
        return sorted(rows, key=lambda row: int(row.get("id") or row.get("attempt_no") or 0))

    def positions(self, at: When | None = None, *, method: str | None = None, **equal: Wanted) -> list[Row]:
        """Return positions by broker, account, strategy and symbol: see `models.history.positions`."""
        return positions.positions(self.database, _moment("at", at), self.lots(method), equal)

    def pnl(
        self,
        by: Sequence[str] | str | None = None,
        *,
        since: When | None = None,
        until: When | None = None,
        method: str | None = None,
        in_: str | None = None,
        **equal: Wanted,
    ) -> list[Row]:
        """Return what was earned, and what it cost: see `models.history.pnl`."""
        if by is None:
            chosen = partial(_filtered, equal=equal, since=since, until=until)
            return profit.pnl(self.database, chosen, self.lots(method), in_)
        return self.pnl_by([by], since=since, until=until, method=method, in_=in_, **equal)[0]

    def pnl_by(
        self,
        groups: Sequence[Sequence[str] | str],
        *,
        since: When | None = None,
        until: When | None = None,
        method: str | None = None,
        in_: str | None = None,
        **equal: Wanted,
    ) -> list[list[Row]]:
        """Return what `pnl` does by each of several groups: the record is read for all of them at once."""
        chosen = partial(_filtered, equal=equal, since=since, until=until)
        return profit.sums(self.database, chosen, groups, self.lots(method), in_)

    def equity(
        self, *, since: When | None = None, until: When | None = None, total: bool = False, **equal: Wanted
    ) -> list[Row]:
        """Return the curve of equity, oldest first: see `models.history.equity`."""
        first = _bound("since", since, v_equity.c.day)
        query = _filtered(v_equity, equal, None, until).order_by(v_equity.c.day)
        with self.database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return curves.with_drawdown(curves.together(rows) if total else rows, first)

    def report(self, since: When | None = None, until: When | None = None, *, method: str | None = None) -> str:
        """Return one page of HTML about some days: see `models.history.report`.

        Raises:
            InvalidRequest: archives are to be read, too.
        """
        self._must_suffice("report")
        from models.history.page import page  # only who wants pictures loads what draws them

        return page(self, since, until, method)

    def lots(self, given: str | None) -> str:
        """Return how lots are closed: as asked for, else as the settings say."""
        return given or (self.settings or load_settings()).history.lots

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


def dtype_of(column: _AnyColumn, *, floats: bool = False) -> str:
    """Return the dtype of a column in a DataFrame: integers and booleans nullable, text and Decimals as objects."""
    if floats and isinstance(column.type, Money):
        return "float64"
    return next((dtype for kind, dtype in _DTYPES if isinstance(column.type, kind)), "object")


def _column(values: list[object], dtype: str) -> pd.Series[Any]:
    """Make a column of a DataFrame of its own type; an empty one has it as well."""
    import pandas as pd

    series = pd.Series(values, dtype="object")
    is_time = dtype in (TIME_DTYPE, DAY_DTYPE)
    found: Any = pd.to_datetime(series, utc=dtype == TIME_DTYPE) if is_time else series
    return cast("pd.Series[Any]", found.astype(dtype))


def _bound(name: str, value: When | None, column: ColumnElement[Any]) -> datetime | date | None:
    """Read a bound of a column: of a day it is the date itself, or the date in New York of a moment."""
    if not isinstance(column.type, Date) or value is None:
        return _moment(name, value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and len(value) == len("2026-01-01"):
        return cast(datetime, _moment(name, value)).date()
    return day_of(cast(datetime, _moment(name, value)))


def _filtered(
    table: Table | Subquery,
    equal: Mapping[str, Wanted],
    since: When | None,
    until: When | None,
) -> QueryOf:
    """Return the rows of a view that have these values and fall between two times, newest first."""
    query, dated = select(table), table.c[_DATED[table.name]]
    first, end = _bound("since", since, dated), _bound("until", until, dated)
    for name, value in equal.items():
        if value is None:
            continue
        if name not in table.c or name not in _FILTERS:
            raise ValueError(f"{table.name} cannot be filtered by {name!r}")
        query = query.where(table.c[name].in_([value] if isinstance(value, str) else list(value)))
    if first is not None and end is not None and first > end:
        raise InvalidRequest(f"since {first.isoformat()} is later than until {end.isoformat()}")
    if first is not None:
        query = query.where(dated >= first)
    if end is not None:
        query = query.where(dated < end)
    return query
