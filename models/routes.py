"""Where an order may go, in order: the destinations of its own route, or of the usual one.

`route_of` asks the settings; `is_its_route` needs none, so that a row is judged by the order that it is of, however the
settings, and the queue through which the order came, have filled in what the order left open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.destinations import broker_of, split
from models.errors import ConfigurationError, InvalidOrder
from models.messages import OrderRequest
from models.settings import Settings


def route_of(settings: Settings, request: OrderRequest, queue_broker: str | None = None) -> tuple[str, ...]:
    """Return the route that an order takes.

    Args:
        settings: for the brokers, their accounts, and the usual route.
        request: the order.
        queue_broker: the broker whose queue the order came through; it is asked first where the order names no route of
            its own.

    Raises:
        InvalidOrder: the route names a broker or an account that is not configured, leaves open which account is
            meant, or names another one than the order.
    """
    account, usual = request.account, _usual(settings.route, queue_broker)
    named = request.route or (usual if account is None else _with_account(settings, usual, account))
    return tuple(dict.fromkeys(_each(settings, named, account)))


def _with_account(settings: Settings, usual: Sequence[str], account: str) -> Sequence[str]:
    """Return the brokers of the usual route that have an account of this name.

    Raises:
        InvalidOrder: none has; names the accounts that there are.
    """
    brokers = [name for name in map(broker_of, usual) if account in settings.all_brokers[name].accounts]
    if not brokers:
        known = ", ".join(where for where in settings.destinations if split(where)[1]) or "none by name"
        raise InvalidOrder(f"account: no broker of the usual route has {account!r}; there are {known}")
    return brokers


def _each(settings: Settings, named: Sequence[str], account: str | None) -> Iterator[str]:
    known = settings.all_brokers
    for name in named:
        if broker_of(name) not in known:
            raise InvalidOrder(
                f"route: no broker {broker_of(name)!r} is configured, there are {', '.join(sorted(known))}"
            )
        if account is not None and split(name)[1] not in (None, account):
            raise InvalidOrder(f"route: names {name}, but the order's account is {account}")
        try:
            yield settings.destination(name, account)
        except ConfigurationError as error:
            raise InvalidOrder(f"route: {error}") from None


def _usual(usual: Sequence[str], queue_broker: str | None) -> tuple[str, ...]:
    """Return the usual route, from the broker on whose queue the order came."""
    if queue_broker is None:
        return tuple(usual)
    here = [name for name in usual if broker_of(name) == queue_broker]
    return (*(here or [queue_broker]), *(name for name in usual if name not in here))


def is_its_route(request: OrderRequest, recorded: Sequence[str]) -> bool:
    """Tell whether a row's route is one that an order allows: its names in their order, in its account.

    Two names of a route may mean one destination: `ibkr`, `ibkr:ira`.
    """
    ahead, seen = list(recorded), list[str]()
    for name in request.route or recorded:
        if ahead and leads(request, name, ahead[0]):
            seen.append(ahead.pop(0))
        elif not any(leads(request, name, one) for one in seen):
            return False
    return not ahead


def leads(request: OrderRequest, name: str, where: str) -> bool:
    """Tell whether a name in an order's route may mean a destination."""
    (broker, named), (at, account) = split(name), split(where)
    return broker == at and {named, request.account} <= {None, account}
