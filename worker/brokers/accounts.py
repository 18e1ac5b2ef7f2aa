"""Several accounts behind one login: which of them a broker's adapter serves, and which an order is for."""

from __future__ import annotations

from typing import Protocol

from models.destinations import joined
from models.errors import Unsupported
from models.messages import OrderRequest


class Serving(Protocol):
    """A broker's adapter, as far as its accounts are concerned."""

    name: str
    accounts: tuple[str, ...]


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
