"""The seam between corro and a broker: one class to implement, and nothing else to know.

| method                | required | answers                                                                        |
|-----------------------|----------|--------------------------------------------------------------------------------|
| connect               | yes      | returns when it can take orders; raises NotConnected or ConfigurationError      |
| disconnect            | yes      | never raises                                                                   |
| is_connected          | yes      | False also while the broker itself says it is cut off (IB 1100)                |
| place_order           | yes      | an OrderReport, or one of NotSent, Refused, OutcomeUnknown; nothing else        |
| cancel_order          | yes      | returns when the cancel is *requested*; Refused if the order cannot be canceled |
| replace_order         | no       | the order as it stands then; Refused if it was not changed: the old one stands  |
| find_order            | yes      | Found, Missing or Ambiguous; BrokerError if it could not be read completely     |
| get_orders, get_fills | yes      | complete lists or BrokerError: a failed read is never an empty list             |
| updates               | yes      | registers the callback for pushed, or polled, reports; called before connect    |
| get_account_info, get_positions | yes | reports, or BrokerError / DataError                                     |
| get_market_data, get_historical_data | yes | reports, or DataError; Unsupported where the broker has none        |
| find_instruments, preview_order | no | `lookups.Lookups`: what it knows of instruments; what an order would cost  |
| is_streaming          | no       | whether updates are pushed now; else open orders are read more often           |
| check_settings        | no       | ConfigurationError if they are wrong; no network                                |
| server_time, account_flags | no  | what `corro check` compares and judges; None where the broker does not tell      |
| accounts, get_accounts | no    | several accounts behind one login, by their names in the settings               |
| quiet_for_check       | no       | an adapter that takes nothing a running worker needs                            |

Rules for an adapter:

* A foreign exception never leaves it. What is not in its table is `Unmapped`, an `OutcomeUnknown`.
* `ticket.still_mine()` is called immediately before the first byte of an order leaves the process.
* A broker that refuses our keys or our account, whatever is asked, is `AccessLost`, from every method; refused prices
  alone are `DataNotPermitted`. Where nobody hears the error (a stream's thread), `is_connected` has to turn False.
* Never repeat a send, and switch the SDK's own repeats off: repeating is decided in one place, from the database.
* Every call ends by itself: pass timeouts everywhere. `place_order` ends within `ticket.deadline_s`.
* Every request pays from a budget of `self.limits` before its first byte; `worker.pacing.budget.using` says for what.
* All methods but `connect` and `disconnect` may be called from several threads at once.
* Importing the adapter's module must not import other adapters' SDKs, connect, or start threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import ClassVar

from models.errors import Unsupported
from models.reports import (
    Bar,
    CashEventReport,
    FillReport,
    OrderReport,
    PositionReport,
    QuoteReport,
    Report,
    Sighting,
)
from models.settings import BrokerSettings
from worker.brokers.accounts import LoginAccounts
from worker.brokers.capabilities import AbsenceRule as AbsenceRule
from worker.brokers.capabilities import Capabilities as Capabilities
from worker.brokers.lookups import Lookups
from worker.brokers.tickets import LinkedOrder as LinkedOrder
from worker.brokers.tickets import OrderRef as OrderRef
from worker.brokers.tickets import Ticket as Ticket
from worker.pacing.budget import Limits


class BrokerInterface(Lookups, LoginAccounts, ABC):
    """One connection to one account at one broker, or to several behind one login."""

    #: What this kind of broker can do; an instance may narrow it.
    capabilities: Capabilities
    #: Settings it reads besides `adapter` and `live`; anything else is reported as a likely mistake. None: not checked.
    keys: ClassVar[frozenset[str] | None] = None
    #: How people call `order_session` at this broker.
    session_kind: ClassVar[str] = "session"
    #: Its address where `base_url` is not set; empty where it has none.
    default_url: ClassVar[str] = ""
    #: Since when the service behind it is gone, in words; empty while it is there.
    retired: ClassVar[str] = ""

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        self.name = name
        self.settings = settings
        #: Counts connections, and gaps in what was pushed: whenever it grows, everything is read again.
        self.session = 0
        #: When the broker last answered a question about the account or an order; None where nobody notes it.
        self.answered_at: datetime | None = None
        #: The session that alone may cancel or change the orders sent through this connection, also after a reconnect
        #: (IB: the client id as text); None where every connection to the account may.
        self.order_session: str | None = None
        #: Makes budgets; in a worker they are shared with the other workers of the account.
        self.limits = Limits()

    # -- CONNECTION ---
    @abstractmethod
    def connect(self) -> None:
        """Open the connection and read what is needed before the first order.

        Raises:
            NotConnected: it cannot be reached now; the caller tries again with backoff.
            ConfigurationError: it can never work like this (wrong keys, a live account without live = true).
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Close everything; safe to call twice."""

    @abstractmethod
    def is_connected(self) -> bool:
        """Tell whether an order could be sent now."""

    @abstractmethod
    def updates(self, callback: Callable[[Report], None]) -> None:
        """Register the one callback for everything the broker reports from now on; it must not block."""

    @property
    def is_streaming(self) -> bool:
        """Whether updates are pushed, or polled by the adapter, now."""
        return True

    # -- BEFORE IT WORKS ---
    @classmethod
    def check_settings(cls, name: str, settings: BrokerSettings) -> None:
        """Check the settings without touching the network.

        Raises:
            ConfigurationError: names the setting and what is wrong with it.
        """
        return

    @classmethod
    def quiet_for_check(cls, name: str, settings: BrokerSettings) -> BrokerInterface:
        """Make an adapter for `corro check`, beside a worker that runs: it reads, and takes nothing that one needs."""
        return cls(name, settings)

    def server_time(self) -> datetime | None:
        """Return the broker's clock, aware; None where only the Date of its answers tells it.

        Raises:
            DataError, BrokerError: it could not be read.
        """
        return None

    def account_flags(self) -> Mapping[str, object] | None:
        """Return what the account may do, as the broker shows it (`worker.checks.judge.FLAGS`); None: not told.

        Raises:
            DataError, BrokerError: it could not be read.
        """
        return None

    # -- ORDERS ---
    @abstractmethod
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order and wait for the broker's answer.

        Returns:
            The order as the broker has it (ACCEPTED, PARTIALLY_FILLED, FILLED ...); fills may also come by `updates`.

        Raises:
            NotSent: nothing left this process.
            Refused: the broker said no, definitively; with broker_order_id where it made an order and rejected that.
            OutcomeUnknown: anything else.
        """

    def reserve_ids(self, count: int) -> Sequence[str]:
        """Reserve the numbers of orders that are sent one by one although they are linked; none where one message does.

        The record keeps them before the first byte, so that legs can be taken back whose sender dies between two.

        Raises:
            NotSent: not connected.
        """
        return ()

    def keep_reserved(self, numbers: Sequence[str]) -> None:
        """Never give these numbers out again: orders that nobody knows of were to be sent under them."""
        return

    def withdraw(self, ref: OrderRef) -> Sighting:
        """Take back by their numbers what the broker may hold unseen of a group, or of one leg, and look again.

        Returns:
            What is there then: `Missing(withdrawn=True)` where nothing is and nothing can come any more.
        """
        return self.find_order(ref)

    @abstractmethod
    def cancel_order(self, ref: OrderRef) -> None:
        """Ask the broker to cancel; returning means requested, not canceled.

        Raises:
            Refused: it cannot be canceled (already done, or not found): read it again.
            NotSent, OutcomeUnknown: as for place_order.
        """

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Change the quantity or the prices of a live order, and wait for the broker's answer.

        Args:
            ref: the order that is live now.
            ticket: the whole order with its new terms; quantity is the new total, what is filled already included.
                `broker_client_order_id` is the id for a broker that makes a new order, and the old one where the
                order is changed in place.

        Returns:
            The order that stands now: with the old broker_order_id in place, with its own where it is a new order.

        Raises:
            Refused: definitively not changed; the old order stands as it was, or is done: read it again.
            NotSent: nothing left this process; the old order stands.
            OutcomeUnknown: either of them may stand: look for both.
        """
        raise Unsupported(f"{self.name} cannot replace orders", broker=self.name)

    def acting_as(self, order_session: str) -> AbstractContextManager[None]:
        """Hold the session of a worker that is gone, so that its orders can be canceled and changed meanwhile.

        Args:
            order_session: as `order_session` of that worker's adapter.

        Raises:
            NotSent: somebody else has it; raised on entering.
        """
        return nullcontext()

    @abstractmethod
    def find_order(self, ref: OrderRef) -> Sighting:
        """Look in every place where the order could be."""

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look for several orders at once; override it where one reading of the listings serves them all."""
        return [self.find_order(ref) for ref in refs]

    @abstractmethod
    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return orders of the account, newest last; `since` limits closed ones."""

    @abstractmethod
    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return executions of the account since a time, oldest first."""

    def get_cash_events(self, since: datetime) -> Iterable[CashEventReport] | None:
        """Return what the account was paid, charged or given since a time, oldest first; None: not told here.

        An iterator asks for its next page when it is asked for it.

        Raises:
            CorroError: it could not be read; an iterator may raise between two pages.
        """
        return None

    # -- DATA ---
    @abstractmethod
    def get_positions(self) -> Sequence[PositionReport]:
        """Return every holding of the account."""

    @abstractmethod
    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return the current quote."""

    @abstractmethod
    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return bars with start <= bar.start < end, oldest first; `Bars` also says how many had to be left out."""
