"""Where an order may go, in order: the destinations of its own route, or of the usual one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.destinations import broker_of
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
        InvalidOrder: the route names a broker or an account that is not configured, or leaves open which account is
            meant.
    """
    named = _usual(settings.route, queue_broker) if request.route is None else request.route
    return tuple(dict.fromkeys(_each(settings, named, request.account)))


def _each(settings: Settings, named: Sequence[str], account: str | None) -> Iterator[str]:
    known = settings.all_brokers
    for name in named:
        if broker_of(name) not in known:
            raise InvalidOrder(
                f"route: no broker {broker_of(name)!r} is configured, there are {', '.join(sorted(known))}"
            )
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
