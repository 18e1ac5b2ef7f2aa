"""Messages of TWS that are read before the SDK sees them, because it would lose something or stumble.

| message                    | why                                                                            |
|----------------------------|--------------------------------------------------------------------------------|
| historicalData             | one bar that is no bar makes the SDK drop all, and the request waits in vain   |
| execDetails                | a zone that Python does not know is an exception, another is taken for its namesake |
| commissionReport, position | an empty amount or size becomes 0                                              |
| errMsg                     | codes after which ticks still come end the SDK's request                       |

Both SDKs keep a table of handlers by message id; these stand before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from models.errors import DataError
from worker.brokers.ibkr.times import Zones, parse

_log = structlog.get_logger()

Handler = Callable[[list[str]], None]

_ERROR, _EXECUTION, _HISTORY = 4, 11, 17
#: Numbers of which an empty field says nothing, and the SDKs say 0: message id -> place.
_NOT_ZERO = {11: 19, 59: 3, 61: 14}
_UNSET = "1.7976931348623157E308"
#: Where execDetails has its execId and its time.
_EXEC_ID, _TIME = 14, 15
#: Ticks come all the same: part of the data is not subscribed, or delayed data is shown. IB's list of message codes:
#: "Subscription-independent ticks are still active", "Displaying delayed market data"; 10167 with delayed ticks after
#: it was recorded live (server 200).
TICKS_GO_ON = frozenset({10090, 10091, 10167})
#: Farms by the codes that say they are broken or well again; without the one for definitions of securities, "no
#: security definition" (200) says nothing about the security.
_DEFINITIONS_BROKEN, _DEFINITIONS_OK = 2157, 2158


@dataclass(frozen=True, slots=True)
class RawBar:
    """One bar as it was sent, all of it text."""

    date: str
    open: str
    high: str
    low: str
    close: str
    volume: str


class Frames:
    """Reads some messages of one connection before its SDK.

    Args:
        client, wrapper: of the SDK.
        zones: of this gateway.

    Attributes:
        broken: farms for definitions of securities that IB has called broken, by name.
    """

    def __init__(self, client: Any, wrapper: Any, zones: Zones) -> None:
        self._wrapper, self.zones = wrapper, zones
        self._handlers: dict[int, Handler] = client.decoder.handlers
        self.broken: set[str] = set()
        self._notices: dict[int, str] = {}
        #: By execId: when an execution was first heard of whose own time cannot be known.
        self._heard: dict[str, datetime] = {}
        self._on_error, self._on_execution = self._handlers[_ERROR], self._handlers[_EXECUTION]
        self._handlers[_EXECUTION] = self._execution
        self._handlers[_ERROR] = self._error
        self._handlers[_HISTORY] = self._history
        for kind, place in _NOT_ZERO.items():
            self._handlers[kind] = _unset_if_empty(self._handlers[kind], place)

    def notice(self, number: int) -> str | None:
        """Return, once, IB's notice about a request for ticks that went on."""
        return self._notices.pop(number, None)

    def is_timed(self, exec_id: str) -> bool:
        """Tell whether the time of an execution is the broker's."""
        return exec_id not in self._heard

    # -- MESSAGES ---
    def _execution(self, fields: list[str]) -> None:
        """Give the SDK the time in seconds since 1970, which it reads without a zone."""
        if len(fields) > _TIME:
            exec_id, text = fields[_EXEC_ID], fields[_TIME]
            at = parse(text, self.zones)
            if at is None:
                if exec_id not in self._heard:
                    _log.warning("ibkr.time_not_known", execution_id=exec_id, time=text)
                at = self._heard.setdefault(exec_id, datetime.now(UTC))
            fields = [*fields[:_TIME], str(int(at.timestamp())), *fields[_TIME + 1 :]]
        self._on_execution(fields)

    def _error(self, fields: list[str]) -> None:
        """Read an error before the SDK does, which would end subscriptions over some that mean nothing."""
        number, code, text = int(fields[2]), int(fields[3]), fields[4]
        farm = text.rpartition(":")[2].strip()
        if code == _DEFINITIONS_BROKEN:
            self.broken.add(farm)
        elif code == _DEFINITIONS_OK:
            self.broken.discard(farm)
        if code in TICKS_GO_ON and number in self._wrapper.reqId2Ticker:
            self._notices[number] = f"{code} {text}"
            return
        self._on_error(fields)

    def _history(self, fields: list[str]) -> None:
        """Read the bars of one answer; where one is no bar the request fails, and does not wait in vain."""
        number = int(fields[1])
        found = self._wrapper._results.get(number)
        try:
            rows = list(raw_bars(fields))
        except ValueError as error:
            self._wrapper._endReq(number, DataError(f"unreadable bars: {error}"), success=False)
            return
        if found is not None:
            found.extend(rows)
        self._wrapper._endReq(number)


def _unset_if_empty(handler: Handler, place: int) -> Handler:
    def read(fields: list[str]) -> None:
        if len(fields) > place and not fields[place]:
            fields = [*fields[:place], _UNSET, *fields[place + 1 :]]
        handler(fields)

    return read


def raw_bars(fields: Sequence[str]) -> Iterator[RawBar]:
    """Read historicalData up to server version 195: id, request, start, end, how many, and eight fields a bar.

    Raises:
        ValueError: there are fewer or more bars than it says.
    """
    count, rest = int(fields[4]), fields[5:]
    if len(rest) != 8 * count:
        raise ValueError(f"{count} bars in {len(rest)} fields")
    for at in range(0, len(rest), 8):
        yield RawBar(*rest[at : at + 6])
