"""Several accounts behind one login: which of them a broker's adapter serves, and which an order is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from models.destinations import joined
from models.errors import Unsupported
from models.messages import OrderRequest
from models.reports import AccountReport


class Serving(Protocol):
    """A broker's adapter, as far as the names of its accounts are concerned."""

    name: str
    accounts: tuple[str, ...]


class LoginAccounts(ABC):
    """The part of the seam that is about the accounts behind a login."""

    #: It speaks for one account, `account_id`: several behind one login get an adapter each (`worker.brokers.several`).
    one_account: ClassVar[bool] = False
    #: Names of the accounts behind this login whose orders it sends, and whose reports it tells with their names; empty
    #: where it is used as one account.
    accounts: tuple[str, ...] = ()

    @abstractmethod
    def get_account_info(self) -> AccountReport:
        """Return the money of the account; of the usual one where there are several."""

    def get_accounts(self) -> Sequence[AccountReport]:
        """Return the money of each account; `account_id` is its name where there are several."""
        return [self.get_account_info()]


def destinations_of(broker: Serving) -> tuple[str, ...]:
    """Return where a broker's orders can go: the broker, or each of the accounts behind its login."""
    return tuple(joined(broker.name, account) for account in broker.accounts or (None,))


def check_account(order: OrderRequest, broker: Serving) -> None:
    """See that an order's account is one that the login serves: nothing is ever sent to another one.

    Raises:
        Unsupported: it is not, or nothing says which of several is meant; names those there are.
    """
    if order.account in (broker.accounts or (None,)):
        return
    known = ", ".join(broker.accounts) or "none by name"
    words = f"has no account {order.account!r}" if order.account else "has accounts, and the order names none"
    raise Unsupported(f"{broker.name} {words} (it has {known})", broker=broker.name)
