"""Requests to TDA or Schwab: signed with a fresh token, refusals classified, answers decoded with exact numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from models.errors import (
    AccessLost,
    BrokerError,
    ConfigurationError,
    InstrumentUnknown,
    InsufficientFunds,
    NotConnected,
    NotPermitted,
    OrderRejected,
    Refused,
    UnreadableReply,
)
from models.messages import utcnow
from worker.brokers.broker_clock import BrokerClock
from worker.brokers.rest.http import (
    Wire,
    classify,
    exchange,
    passing,
    patiently,
)
from worker.brokers.rest.reading import READ_WITHIN_S, Body, JsonReads, Looks, Query
from worker.brokers.rest.veil import Veil
from worker.brokers.tda.codes import ACCOUNT_WORDS, ORDER_WORDS, refusal
from worker.brokers.tda.tokens import GrantRefused, TokenKeeper
from worker.brokers.values import Raw
from worker.pacing.budget import Budget, Use, using

T = TypeVar("T")
V = TypeVar("V")
#: Requests per minute, account and app; above 120 both brokers answer 429.
PER_MINUTE = 115


class _Bearer(AuthBase):
    """Signs a request; as `auth`, so that a .netrc entry cannot replace the header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class TdaRest(JsonReads):
    """One root URL; every exception that leaves it is corro's, and clean of secrets.

    Args:
        broker: name from the settings.
        root: scheme and host.
        market: prefix of the paths of market data, which have permissions of their own.
        on_down: called when a connection could not even be opened, no token could be had, or our access is lost.
        on_answer: called when a question about the account was answered.
    """

    def __init__(
        self, broker: str, root: str, market: str, on_down: Callable[[], None], on_answer: Callable[[], None] = passing
    ) -> None:
        self._broker, self.root, self._market, self._on_down = broker, root, market, on_down
        self._on_answer = on_answer
        # A connection that dies under an order leaves it unknown, and here unknown may need a person: keep few alive.
        self._wire = Wire(idle_s=5.0)
        self.keeper: TokenKeeper | None = None
        self.veil = Veil()
        self.clock = BrokerClock()
        #: Path of the account: a read of it tells a refusal of everything from a refusal of one request.
        self.account_path: str | None = None
        self._looks = Looks()

    def close(self) -> None:
        """Close idle connections."""
        self._wire.close()

    def pay_from(self, budget: Budget | None) -> None:
        """Have every request pay from a budget; None is no limit."""
        self._wire.budget = budget

    # -- REQUESTS ---
    def send(
        self, method: str, path: str, body: Body | None = None, *, deadline_s: float, gate: Callable[[], None] = passing
    ) -> requests.Response:
        """Send once, and once more only after a 401, which comes before any order is taken.

        Raises:
            NotSent, Refused, OutcomeUnknown: as for place_order; AccessLost if it is refused like everything else.
        """
        return self._permitted(
            path, lambda token: self._once(method, path, deadline_s, gate, json=body, auth=_Bearer(token))
        )

    def read(self, path: str, query: Query | None, kind: type[T]) -> T:
        """Read one JSON value of a kind, as `JsonReads.read`."""
        try:
            return super().read(path, query, kind)
        except BrokerError as error:
            raise self.veil.over(error) from None

    def parse(self, reader: Callable[[V], T], raw: V) -> T:
        """Read an answer, as `JsonReads.parse`."""
        try:
            return super().parse(reader, raw)
        except BrokerError as error:
            raise self.veil.over(error) from None

    def _get(self, path: str, query: Query | None) -> object:
        return decoded(patiently(lambda: self._read_once(path, query)), self._broker)

    def _read_once(self, path: str, query: Query | None) -> requests.Response:
        return self._permitted(
            path, lambda token: self._once("GET", path, READ_WITHIN_S, passing, params=query, auth=_Bearer(token))
        )

    def _once(
        self, method: str, path: str, deadline_s: float, gate: Callable[[], None], **options: Any
    ) -> requests.Response:
        """Send once, with a deadline, through the gate; the answer also tells the server's clock."""
        with exchange(deadline_s, gate) as watched:
            asked_at = utcnow()
            try:
                response = self._wire.request(method, self.root + path, **options)
            except Exception as error:
                found = self.veil.over(classify(error, watched, self._broker))
                if isinstance(found, NotConnected):
                    self._on_down()
                raise found from None  # the library's own error holds the URL, and that the account
        self.clock.hear(response.headers.get("Date"), asked_at, utcnow())
        if response.status_code >= 400:
            raise self.veil.over(refusal(response, self._broker))
        if self.account_path is not None and path.startswith(self.account_path):
            self._on_answer()
        return response

    # -- ACCESS ---
    def _permitted(self, path: str, call: Callable[[str], requests.Response]) -> requests.Response:
        """Make a request; a refusal of everything about trading is AccessLost."""
        try:
            return self._signed(call)
        except Refused as error:
            if not self._is_shut_out(error, path):
                raise
            self._on_down()
            words = f"{error}: our keys or our account are refused, whatever is asked"
            raise AccessLost(words, broker=self._broker, code=error.code) from error

    def _is_shut_out(self, error: Refused, path: str) -> bool:
        """Tell a refusal of our keys, or of our account, from one that is about a single request."""
        if path.startswith(self._market):
            return error.code in ("401", "403") and self._shuts_out_prices()
        if error.code not in ("400", "401", "403", "404"):
            return False
        if error.code == "401" or path == self.account_path:
            return True
        if error.code == "400":
            return ACCOUNT_WORDS.search(str(error)) is not None
        if error.code == "404" and ORDER_WORDS.search(str(error)):
            return False
        return self._refused_account() is not None

    def _shuts_out_prices(self) -> bool:
        """Tell whether the account is refused like prices; an app without market data is refused them for good."""
        if not self._looks.is_due():
            return False
        why = self._refused_account()
        return isinstance(why, AccessLost) or (why is not None and why.code in ("401", "403", "404"))

    def _refused_account(self) -> BrokerError | None:
        """Ask for the account; returns why it cannot be read, or None: whoever can read it is not shut out."""
        path = self.account_path
        if path is None:
            return NotConnected(f"{self._broker}: not connected; connect first", broker=self._broker)
        try:
            with using(Use.URGENT):
                self._signed(lambda token: self._once("GET", path, READ_WITHIN_S, passing, auth=_Bearer(token)))
        except BrokerError as error:
            return error
        return None

    def _signed(self, call: Callable[[str], requests.Response]) -> requests.Response:
        token = self._token(None)
        try:
            return call(token)
        except NotPermitted as error:
            if error.code != "401":
                raise
        return call(self._token(token))

    def _token(self, refused: str | None) -> str:
        """Return a token that is good, or a newer one than the one that was refused.

        Raises:
            AccessLost: a person has to log in anew.
            NotConnected: none can be had now.
        """
        if self.keeper is None:
            raise NotConnected(f"{self._broker}: not connected; connect first", broker=self._broker)
        try:
            return self.keeper.token() if refused is None else self.keeper.after_refusal(refused)
        except (ConfigurationError, NotConnected) as error:
            self._on_down()
            kind = AccessLost if isinstance(error, ConfigurationError) else NotConnected
            words = self.veil.clean(f"{self._broker}: no access token, nothing was sent: {error}")
            raise kind(words, broker=self._broker) from error

    def buy_token(self, path: str, form: Mapping[str, str], basic: tuple[str, str] | None) -> Raw:
        """Exchange a refresh token for new tokens.

        Raises:
            GrantRefused: the broker says no.
            NotConnected: it said nothing usable; try again.
        """
        auth = HTTPBasicAuth(*basic) if basic else None
        self.veil.hide(form.get("refresh_token"))
        try:
            with using(Use.URGENT):
                response = self._once("POST", path, READ_WITHIN_S, passing, data=form, auth=auth)
            answer = decoded(response, self._broker, show=False)
        except (OrderRejected, NotPermitted, InsufficientFunds, InstrumentUnknown) as error:
            raise GrantRefused(str(error)) from error
        except BrokerError as error:
            raise NotConnected(f"{self._broker}: no token: {error}", broker=self._broker) from error
        answer = answer if isinstance(answer, dict) else {}
        names = ("access_token", "refresh_token", "id_token")
        self.veil.hide(*(found for name in names if isinstance(found := answer.get(name), str)))
        return answer


def decoded(response: requests.Response, broker: str, *, show: bool = True) -> object:
    """Return the JSON of an answer with exact decimals; `show` puts the start of an unreadable one into the error."""
    try:
        return json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        words = f": {response.content[:100]!r}" if show else ""
        raise UnreadableReply(f"{broker}: HTTP {response.status_code} without JSON{words}", broker=broker) from error
