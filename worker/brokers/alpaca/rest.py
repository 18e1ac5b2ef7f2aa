"""The two REST clients of one Alpaca account, trading and market data, made of alpaca-trade-api.

The SDK signs and addresses the requests. Its repeats are switched off, because it would repeat POST /orders after a 504
(docs/facts/alpaca.md#1.1, #1.2), and its session is ours, because it has no timeouts and cannot tell when a first byte
leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import requests
import structlog

from models.errors import AccessLost, BrokerError, ConfigurationError, NotConnected
from worker.brokers.alpaca.access import Access
from worker.brokers.alpaca.codes import Forbidden, KeysRefused, refusal
from worker.brokers.rest.http import Exchange, Wire, classify, exchange, passing, patiently
from worker.brokers.rest.reading import READ_WITHIN_S, Body, JsonReads, Looks, Query
from worker.brokers.values import Raw
from worker.pacing.budget import Budget, Use, using

if TYPE_CHECKING:
    from alpaca_trade_api.rest import REST

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class AlpacaRest(JsonReads):
    """One base URL of one account; every exception that leaves it is corro's.

    Args:
        broker: name from the settings.
        base_url: without /v2.
        access: the keys.
        on_down: called when a connection could not even be opened.
        budget: every request pays from it.
        account: the client that reads the account, where this one reads prices: prices that are refused while the
            account answers are no more than that. None: the account is behind this one.
        on_answer: called when a question was answered.
    """

    def __init__(
        self,
        broker: str,
        base_url: str,
        access: Access,
        on_down: Callable[[], None],
        budget: Budget | None = None,
        *,
        account: AlpacaRest | None = None,
        on_answer: Callable[[], None] = passing,
    ) -> None:
        self._broker, self._on_down, self._wire = broker, on_down, Wire()
        self._wire.budget = budget
        self._account, self._on_answer = account, on_answer
        self._looks = Looks()
        self._api = _sdk(broker, base_url, access, self._wire)

    def close(self) -> None:
        """Close idle connections."""
        self._wire.close()

    def post(self, path: str, body: Body, deadline_s: float, gate: Callable[[], None]) -> Raw:
        """Send once; NotSent, Refused or OutcomeUnknown if it fails."""
        return self._once(lambda: self._api.post(path, body), deadline_s, gate)

    def patch(self, path: str, body: Body, deadline_s: float, gate: Callable[[], None]) -> Raw:
        """Send once; NotSent, Refused or OutcomeUnknown if it fails."""
        return self._once(lambda: self._api.patch(path, body), deadline_s, gate)

    def delete(self, path: str, deadline_s: float) -> None:
        """Send once; NotSent, Refused or OutcomeUnknown if it fails."""
        self._once(lambda: self._api.delete(path), deadline_s, passing)

    def _get(self, path: str, query: Query | None) -> object:
        return patiently(lambda: self._once(lambda: self._api.get(path, query), READ_WITHIN_S, passing))

    def _once(self, call: Callable[[], T], deadline_s: float, gate: Callable[[], None]) -> T:
        with exchange(deadline_s, gate) as watched:
            try:
                answer = call()
            except Exception as error:
                raise self._failure(error, watched) from error
        self._on_answer()
        return answer

    def _failure(self, error: Exception, watched: Exchange) -> BrokerError:
        """Return what a request's error means: by the answer where there is one, else by whether a byte had left."""
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response) and response.status_code >= 400:
            found = refusal(response, self._broker)
            if self._is_lost(found):
                (self._account or self)._on_down()  # whoever asked: not every thread has somebody who hears it
                return AccessLost(str(found), broker=self._broker, code=found.code)
            return found
        found = classify(error, watched, self._broker)
        if isinstance(found, NotConnected):
            self._on_down()
        return found

    def _is_lost(self, found: BrokerError) -> bool:
        """Tell a refusal of everything from one of a single order, or of prices."""
        if self._account is not None:
            return isinstance(found, (KeysRefused, Forbidden)) and self._account.shuts_out_prices(found)
        return isinstance(found, KeysRefused) or (isinstance(found, Forbidden) and self._refused_account() is not None)

    def shuts_out_prices(self, found: BrokerError) -> bool:
        """Tell whether prices are refused because everything is.

        Prices alone are refused with 403 for a subscription that the account has not (recent SIP data), again and
        again: the account is then looked at now and then.
        """
        is_due = self._looks.is_due()
        if isinstance(found, Forbidden) and not is_due:
            return False
        response = getattr(self._refused_account(), "response", None)
        return isinstance(response, requests.Response) and response.status_code in (401, 403)

    def _refused_account(self) -> Exception | None:
        """Ask for the account: whoever may not even read it is shut out of everything, and not of one order."""
        try:
            with using(Use.URGENT), exchange(READ_WITHIN_S):
                self._api.get("/account")
        except Exception as error:
            _log.warning("account_refused", broker=self._broker, error=str(error)[:300])
            return error
        return None


def _sdk(broker: str, base_url: str, access: Access, wire: Wire) -> REST:
    """Make the SDK's client: it signs and encodes; sending, repeating and giving up are ours.

    Raises:
        ConfigurationError: the environment has values for the SDK that it cannot read.
    """
    from alpaca_trade_api.rest import REST

    try:
        api = REST(access.key_id, access.secret_key, base_url, api_version="v2", raw_data=True)
    except ValueError as error:  # the SDK reads APCA_RETRY_* as numbers
        raise ConfigurationError(f"brokers.{broker}: {error}") from error
    # Never repeat a send, never hang, and never let APCA_API_OAUTH_TOKEN replace the configured keys.
    api._retry, api._retry_codes, api._oauth = 0, [], None
    api._session.close()
    api._session = wire
    return api
