"""What brokers have told of instruments, as rows: written by their workers, read by whoever looks one up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import TypedDict

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, or_, select

from models.lookups import InstrumentReport
from models.record.instrument_tables import instruments
from models.record.statements import fetch, upsert
from models.trading_hours import TradingHours

_HOURS = TypeAdapter(TradingHours)
_KEYS = ("symbol", "asset_class", "broker", "currency")


class InstrumentRow(TypedDict):
    """A row of `instruments`."""

    symbol: str
    asset_class: str
    broker: str
    currency: str
    underlying: str
    expiry: date | None
    right: str | None
    strike: Decimal | None
    multiplier: Decimal | None
    listing: str | None
    price_increment: Decimal | None
    lot_size: Decimal | None
    broker_symbol: str | None
    broker_id: str | None
    name: str | None
    tradable: bool | None
    price_bands: list[dict[str, str]] | None
    hours: dict[str, object] | None
    detail: dict[str, str] | None
    resolved_at: datetime


def keep_instruments(connection: Connection, broker: str, found: Iterable[InstrumentReport], now: datetime) -> None:
    """Write what a broker tells; it takes the place of what it told before."""
    # Locked in one order, so that two workers that keep the same never wait for each other in a circle.
    rows = sorted((row_of(one, broker, now) for one in found), key=lambda row: [row[name] for name in _KEYS])  # type: ignore[literal-required]
    if not rows:
        return
    statement = upsert(connection, instruments)
    told = {c.name: statement.excluded[c.name] for c in instruments.c if c.name not in _KEYS}
    connection.execute(
        statement.on_conflict_do_update(index_elements=[instruments.c[name] for name in _KEYS], set_=told), rows
    )


def row_of(one: InstrumentReport, broker: str, at: datetime) -> InstrumentRow:
    """Return the row of what a broker tells of an instrument."""
    return InstrumentRow(**{**asdict(one), "asset_class": str(one.asset_class), "broker": broker, "resolved_at": at})  # type: ignore[typeddict-item]


def told_hours(connection: Connection, symbols: Iterable[str]) -> dict[tuple[str, str], TradingHours]:
    """Return when instruments trade, as a broker has told last, by symbol and class; nothing of others.

    Hours that cannot be read tell nothing: they stop no order, and those of before still hold.
    """
    i = instruments.c
    chosen = select(i.symbol, i.asset_class, i.hours).where(i.symbol.in_(sorted(set(symbols))), i.hours.is_not(None))
    found: dict[tuple[str, str], TradingHours] = {}
    for row in connection.execute(chosen.order_by(i.resolved_at)):
        with suppress(ValidationError):
            found[row.symbol, row.asset_class] = _HOURS.validate_python(row.hours)
    return found


def kept_instruments(
    connection: Connection,
    *,
    query: str | None = None,
    asset_class: str | None = None,
    brokers: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    limit: int | None = None,
    detail: bool = False,
) -> list[InstrumentRow]:
    """Return what was told, by underlying, expiry, strike and right.

    Args:
        connection: of the record.
        query: a symbol, or an underlying.
        asset_class: only this one.
        brokers: only theirs.
        first: it expires on this day or later.
        last: it expires on this day or earlier.
        limit: how many at most.
        detail: with what their adapter alone can read.
    """
    i = instruments.c
    chosen = select(*(column for column in i if detail or column is not i.detail))
    if query is not None:
        chosen = chosen.where(or_(i.symbol == query, i.underlying == query))
    if asset_class is not None:
        chosen = chosen.where(i.asset_class == asset_class)
    if brokers is not None:
        chosen = chosen.where(i.broker.in_(brokers))
    if first is not None:
        chosen = chosen.where(i.expiry >= first)
    if last is not None:
        chosen = chosen.where(i.expiry <= last)
    order = (i.underlying, i.asset_class, i.expiry, i.strike, i.right, i.symbol, i.broker)
    return fetch(connection, chosen.order_by(*order).limit(limit), InstrumentRow)
