"""In which session the instruments of orders are: as brokers have told it, else by the calendars; brokers are asked.

An order with legs is in the strictest session of what it trades: shares may trade after hours, their options do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection

from models.instruments import Instrument, read_instrument
from models.legs import PackageLeg
from models.messages import FetchRequest
from models.record.fetches import insert_fetch
from models.record.instruments import told_hours
from models.trading_hours import Session
from worker.runtime.sessions import opens_after, session_of

#: The strictest first: beside a leg that is closed it does not matter when another one trades.
_STRICTEST: Sequence[Session | None] = ("closed", None, "extended", "regular")


def traded(symbol: str, asset_class: str | None, legs: Iterable[PackageLeg]) -> tuple[Instrument, ...]:
    """Return what an order trades: with legs, theirs alone."""
    return tuple(leg.instrument for leg in legs) or (read_instrument(symbol, asset_class),)


class OrderHours:
    """The sessions of what some orders trade, at one moment: each instrument is looked up once.

    Args:
        connection: of a transaction; `ask` writes.
        instruments: all that will be asked about.
        now: the moment.
    """

    def __init__(self, connection: Connection, instruments: Iterable[Instrument], now: datetime) -> None:
        self.connection, self.now = connection, now
        symbols = {one.symbol for one in instruments}
        self._told = told_hours(connection, symbols) if symbols else {}
        self._sessions: dict[Instrument, Session | None] = {}

    def session(self, instruments: Iterable[Instrument]) -> Session | None:
        """Return the session of an order; None where nobody knows."""
        return min(map(self._session, instruments), key=_STRICTEST.index, default="regular")

    def opens(self, instruments: Iterable[Instrument]) -> datetime | None:
        """Return when the last of those opens that are not in their regular session; None where nobody knows."""
        shut = [one for one in instruments if self._session(one) != "regular"]
        opening = [opens_after(one, self.now, self._told.get((one.symbol, str(one.asset_class)))) for one in shut]
        known = [moment for moment in opening if moment is not None]
        return max(known) if known and len(known) == len(opening) else None

    def ask(self, broker: str, instruments: Iterable[Instrument]) -> None:
        """Have a broker asked when instruments trade, each once an hour: a request for data, and its row."""
        for one in instruments:
            asked = {"query": one.symbol, "asset_class": str(one.asset_class)}
            whose = sha256(f"{broker} {one.asset_class}".encode()).hexdigest()[:12]
            fetch = FetchRequest(
                kind="instruments", fetch_id=f"hours-{self.now:%Y%m%d%H}-{one.symbol}-{whose}", request=asked
            )
            insert_fetch(self.connection, fetch, [broker], self.now)

    def _session(self, one: Instrument) -> Session | None:
        if one not in self._sessions:
            self._sessions[one] = session_of(one, self.now, self._told.get((one.symbol, str(one.asset_class))))
        return self._sessions[one]
