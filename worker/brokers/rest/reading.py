"""Reads over HTTP, the same for every REST broker: repeated if they fail on their way, and never half understood."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

from models.errors import CorroError, UnreadableReply
from models.troubles import trouble
from worker.brokers.rest.http import CONNECT_S, READ_S, as_data_error
from worker.brokers.values import UNREADABLE, Raw
from worker.pacing.budget import Use, using

T = TypeVar("T")
V = TypeVar("V")
#: What stands behind the question mark of a URL, and a JSON object to be sent.
Query = Mapping[str, str | int | None]
Body = dict[str, object]

#: A read ends within this time.
READ_WITHIN_S = CONNECT_S + READ_S
#: Seconds between looks at the account because prices were refused.
LOOK_EVERY_S = 5.0


class Looks:
    """Counts looks at an account: prices may be refused for good, and each refusal would cost one."""

    def __init__(self) -> None:
        self._looked_at = -math.inf

    def is_due(self) -> bool:
        """Tell whether the account may be looked at; the look is taken for done."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = now
        return True


class Paging:
    """The pages of one listing: none comes twice, and there is an end to them.

    Args:
        broker: name from the settings.
        what: is listed, for words.
        most: pages that are read at all.
    """

    def __init__(self, broker: str, what: str, most: int = 1000) -> None:
        self._broker, self._what, self._most = broker, what, most
        self._turned: set[str] = set()

    def turn(self, token: object) -> str:
        """Return the token of the next page.

        Raises:
            UnreadableReply: it is no token, leads back to a page that was read, or there are too many.
        """
        if not isinstance(token, str) or not token or token in self._turned or len(self._turned) >= self._most:
            words = f"after {len(self._turned)} pages comes {str(token)[:80]!r}"
            raise UnreadableReply(
                f"{self._broker}: the listing of {self._what} has no end: {words}", broker=self._broker
            )
        self._turned.add(token)
        return token


class JsonReads(ABC):
    """What a REST client of a broker offers besides orders; `_get` is the broker's own."""

    _broker: str

    @abstractmethod
    def _get(self, path: str, query: Query | None) -> object:
        """Read a path, patiently; returns the decoded JSON. Raises BrokerError."""

    def read(self, path: str, query: Query | None, kind: type[T]) -> T:
        """Read one JSON value of a kind, dict or list; repeated if it fails on its way.

        Raises:
            BrokerError: it could not be read.
        """
        answer = self._get(path, query)
        if not isinstance(answer, kind):
            raise UnreadableReply(f"{self._broker}: {path} answered {type(answer).__name__}", broker=self._broker)
        return answer

    def read_data(self, path: str, query: Query) -> Raw:
        """Read market data: as `read`, but a failure is a DataError."""
        try:
            with using(Use.DATA):
                return self.read(path, query, dict)
        except CorroError as error:
            raise as_data_error(error) from error

    def parse(self, reader: Callable[[V], T], raw: V) -> T:
        """Read an answer, or say that it is unreadable."""
        try:
            return reader(raw)
        except UNREADABLE as error:
            raise UnreadableReply(
                f"{self._broker}: unreadable answer: {trouble(error)}", broker=self._broker
            ) from error

    def parse_data(self, reader: Callable[[V], T], raw: V) -> T:
        """Read market data: as `parse`, but a failure is a DataError."""
        try:
            return self.parse(reader, raw)
        except CorroError as error:
            raise as_data_error(error) from error
