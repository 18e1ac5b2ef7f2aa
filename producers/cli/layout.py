"""How rows become a table that fits a terminal: pure, without printing.

A table that is too wide gives way in steps until it fits: headers and times are shortened, then ids down to a prefix
that still tells them apart, or to their start and end where the prefix would be long (every command takes either), then
long names; then columns go, the least important first, and at last the longest texts are cut. The status never goes.
Words that do not fit beside their row stand under it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from rich.cells import cell_len, set_cell_size

from models.encoding import to_json
from models.outward import is_id, outward, printable

Row = Mapping[str, object]

#: Stands where a text was cut.
CUT = "…"
#: Blanks between two columns.
_GAP = 2
#: Characters that a shortened id keeps at least: of a generated one, and of any other, whose start others may share.
_ID_START, _CHOSEN_START = 8, 16
#: Characters of a start after which an id keeps its end instead; then of its start, and the fewest of its end.
_LONG_START, _BESIDE_END, _ID_END = 24, 12, 4
#: Cells that a name keeps, where the others of its table would have no room.
_NAME_CELLS = 18
_GENERATED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-")
#: Texts of any length: beside the row where there is room, else under it.
WORDS = ("reason", "words", "message", "latest", "detail", "why", "stopped", "error", "advice", "meaning", "takes")
#: What an id may be cut down to; every command that takes one takes the start of it.
_IDS = ("client_order_id", "group_id")
_SHORT_HEADERS = {
    "client_order_id": "id", "broker_order_id": "broker's id", "created_at": "created", "filled_at": "filled at",
    "started_at": "started", "ended_at": "ended", "heartbeat_at": "heartbeat", "first_seen_at": "first seen",
    "last_seen_at": "last seen", "quantity": "qty", "filled_quantity": "filled", "avg_fill_price": "price",
    "order_type": "type", "limit_price": "limit", "stop_price": "stop", "attempt_count": "tries", "attempt_no": "no",
    "group_id": "group",
    "positions_at": "last read", "unrealized_pnl": "unrealized", "market_value": "value",
    "day_trade_count": "day trades", "drawdown_percent": "%",
    "bid_size": "bid size", "ask_size": "ask size", "last_size": "last size",
    "size_unit": "unit", "age_s": "age s", "fees_missing": "unknown", "rates_missing": "no rate",
    "decision_price": "decided at", "arrival_mid": "arrived at", "interval_vwap": "vwap",
    "slippage_decision": "to decision", "slippage_arrival": "to arrival", "slippage_vwap": "to vwap",
    "slippage_decision_bps": "bps", "slippage_arrival_bps": "bps", "slippage_vwap_bps": "bps",
}  # fmt: skip
#: Which columns go when there is no room, the first ones first; what is not named here stays.
_GO_FIRST = (
    "interval_vwap", "arrival_mid", "decision_price", "rate_at", "rate_source", "rate",
    "broker_id", "name", "broker_symbol", "listing",
    "cumulative", "number", "volume", "last_size", "bid_size", "ask_size", "size_unit",
    "leader", "positions_at", "queue", "worker", "size", "total_liquidity", "portfolio_value", "day_trade_count",
    "account_id", "read_at", "first_seen_at", "ended_at", "checks", "next_look", "times", "late", "commission",
    "strategy", "attempt_count", "order_type", "started_at", "broker_order_id", "created_at", "last_seen_at",
    "slippage_vwap_bps", "slippage_arrival_bps", "slippage_decision_bps", "cash", "peak", "currency",
    "unrealized_pnl", "market_value", "difference", "limit_price", "stop_price", "attempt_no", "from_status",
    "code", "since",
    "filled_at", "avg_fill_price", "avg_price", "at", "heartbeat_at", "id", "operation", "options", "filled_quantity",
    "account", "broker", "quantity", "notional", "side",
)  # fmt: skip


#: What is cut as no name is.
_WHOLE = ("status", "leg_status", "ok", "state", "outcome", "symbol", *_IDS)
#: What stays beside the first column, however narrow the terminal is; of the rest the rightmost go.
_STAY = (*_WHOLE, "scope")
#: Amounts of several currencies say nothing without it.
_MONEY = "currency"
#: A limit without one of these says nothing; elsewhere a name is no more than that.
_LIMIT = ("name", "value")


@dataclass(slots=True)
class Column:
    """One column as it will stand: its header, its texts, and whether they are numbers."""

    name: str
    header: str
    texts: list[str]
    right: bool
    full: list[Any] = field(repr=False, default_factory=list)

    @property
    def width(self) -> int:
        """Cells it takes."""
        return max(map(cell_len, [self.header, *self.texts]))


@dataclass(slots=True)
class Layout:
    """A table that fits.

    Args:
        columns: side by side.
        under: (name, texts) that stand under their row.
        hidden: names of the columns that found no room.
    """

    columns: list[Column]
    under: list[tuple[str, list[str]]]
    hidden: list[str]


def cell(value: object, name: str = "") -> str:
    """Write one value of a column for a person, on one line."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, Decimal):
        return str(to_json(value))
    if isinstance(value, (list, tuple)):
        return outward(",".join(map(str, value)))
    if isinstance(value, Mapping):
        return outward(json.dumps(to_json(value), default=str))
    text = " ".join(value.split()) if isinstance(value, str) else str(value)
    return printable(text) if is_id(name) else outward(text)


def with_account(found: Sequence[Row], names: Sequence[str]) -> Sequence[str]:
    """Put the account beside the broker where some row is of one of several behind a login."""
    if "broker" not in names or "account" in names or not any(row.get("account") for row in found):
        return names
    at = list(names).index("broker") + 1
    return (*names[:at], "account", *names[at:])


def layout(found: Sequence[Row], names: Sequence[str], width: int | None, keys: Collection[str] = ()) -> Layout:
    """Fit rows into a width.

    Args:
        found: the rows, at least one.
        names: the columns asked for, in order; those without any value are left out.
        width: cells of the terminal; None is as wide as it takes.
        keys: columns that say which row is which: none of them goes in which rows differ; nor does the currency then.
    """
    columns = [_column(name, [row.get(name) for row in found]) for name in names]
    columns = [column for column in columns if any(column.texts) or column.name == names[0]]
    if width is None or _total(columns) <= width:
        return Layout(columns, [], [])
    under = [(column.name, column.texts) for column in columns if column.name in WORDS]
    columns = [column for column in columns if column.name not in WORDS] or columns[:1]
    for step in (_short_headers, _short_times, _short_ids, _short_names):
        if _total(columns) > width:
            step(columns)
    hidden: list[str] = []
    apart = {column.name for column in columns if column.name in {*keys, _MONEY} and len(set(column.texts)) > 1}
    stay = {*_STAY, *apart, *(_LIMIT if set(_LIMIT) <= set(names) else ())}
    for name in _GO_FIRST:
        if _total(columns) <= width:
            break
        if name in stay or (name == names[0] and is_id(name)):  # what a row is called
            continue
        left = [column for column in columns if column.name != name]
        if left and len(left) < len(columns):
            hidden.append(name)
            columns = left
    while _total(columns) > width and (spare := [column for column in columns[1:] if column.name not in stay]):
        hidden.append(spare[-1].name)
        columns = [column for column in columns if column is not spare[-1]]
    _cut(columns, width)
    return Layout(columns, under, hidden)


def _column(name: str, values: list[object]) -> Column:
    right = any(isinstance(value, (Decimal, int, float)) and not isinstance(value, bool) for value in values)
    return Column(name, name, [_for_a_person(value, name) for value in values], right, values)


def _for_a_person(value: object, name: str) -> str:
    """A yes stands out where a no is blank; a column of nos goes."""
    return ("yes" if value else "") if isinstance(value, bool) else cell(value, name)


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _short_headers(columns: Sequence[Column]) -> None:
    for column in columns:
        column.header = _SHORT_HEADERS.get(column.name, column.name)


def _short_times(columns: Sequence[Column]) -> None:
    """Today's times lose their date, the others their seconds."""
    for column in columns:
        times = [value for value in column.full if isinstance(value, datetime)]
        if times:
            today = {at.date() for at in times} == {datetime.now(UTC).date()}
            form = "%H:%M:%S" if today else "%m-%d %H:%M"
            column.texts = [at.strftime(form) if isinstance(at, datetime) else cell(at) for at in column.full]


def _short_ids(columns: Sequence[Column]) -> None:
    for column in columns:
        if column.name in _IDS:
            column.texts = short_ids(column.texts)


def _short_names(columns: Sequence[Column]) -> None:
    """One long name of a strategy, an account or a scope takes the room of no other column."""
    for column in columns:
        if not column.right and column.name not in _WHOLE:
            column.texts = [_shortened(text, _NAME_CELLS) for text in column.texts]


def _cut(columns: Sequence[Column], width: int) -> None:
    """Cut the longest texts of columns that have to stay: a line that the terminal breaks is no row any more."""
    widths = [column.width for column in columns]
    room = width - _GAP * (len(columns) - 1)
    longest = max(widths)
    while longest > 1 and sum(min(each, longest) for each in widths) > room:
        longest -= 1
    for column in columns:
        if column.width > longest:
            column.header, *column.texts = (_shortened(text, longest) for text in (column.header, *column.texts))


def _shortened(text: str, cells: int) -> str:
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + CUT


def short_ids(ids: Sequence[str]) -> list[str]:
    """Return ids cut so far that these still differ, and not too short to tell them from ids elsewhere.

    What is cut is a start, or start and end where the start that tells it from the others would be long.
    """
    starts, ends = _starts(ids), _starts([text[::-1] for text in ids])
    short = dict[str, str]()
    for text in set(ids):
        start, end = starts[text], max(ends[text[::-1]], _ID_END)
        least = _ID_START if _GENERATED.match(text) else _CHOSEN_START
        if max(start, least) <= _LONG_START or _BESIDE_END + end >= start:
            cut = text[: max(start, least)] + CUT
        else:
            cut = text[:_BESIDE_END] + CUT + text[-end:]
        short[text] = text if len(text) <= len(cut) + 1 else cut
    return [short[text] for text in ids]


def _starts(ids: Sequence[str]) -> dict[str, int]:
    """Return of each text how long a start tells it from the others."""
    different = sorted(set(ids))
    shared = [0, *map(_shared, different, different[1:]), 0]
    return {text: max(pair) + 1 for text, pair in zip(different, pairwise(shared), strict=True)}


def _shared(one: str, other: str) -> int:
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
