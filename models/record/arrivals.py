"""Order objects as they come in messages: bare, or in an envelope whose signature says who stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from models.errors import DatabaseUnavailable, InvalidOrder
from models.explaining import shown
from models.messages import OrderRequest
from models.signing import Envelope
from models.troubles import trouble
from models.trust import KeyRing, signed_order


@dataclass(frozen=True, slots=True)
class Arrival:
    """An order object as it came in a message, and what it says."""

    body: object
    request: OrderRequest
    envelope: Envelope | None

    @property
    def id(self) -> str:
        """The client_order_id."""
        return self.request.client_order_id

    @property
    def seal(self) -> dict[str, str]:
        """The columns of what stands behind it."""
        return {} if self.envelope is None else seal_of(self.envelope)


def seal_of(envelope: Envelope) -> dict[str, str]:
    """Return the columns of an order that is in an envelope."""
    return {"key_id": envelope.key_id, "signed_text": envelope.text, "signature": envelope.sig}


def read_arrival(body: object, ring: Callable[[], KeyRing]) -> Arrival:
    """Read one order object; a signed text is read only where its signature fits, so that garbage takes no id.

    Args:
        body: as it came.
        ring: returns the keys; asked for envelopes alone.

    Raises:
        Untrusted: the signature is nobody's, or made for another deployment.
        InvalidOrder: it cannot be executed as written.
    """
    if not isinstance(body, Mapping):
        raise InvalidOrder(f"orders: must be a list of objects, had {shown(body)}")
    envelope = Envelope.of(body)
    if envelope is not None:
        ring().key_of(envelope, "order")
        return Arrival(body, signed_order(envelope), envelope)
    if body.get("client_order_id") is None:
        raise InvalidOrder("client_order_id: is required in a message")
    return Arrival(body, OrderRequest(**body), None)


@dataclass(frozen=True, slots=True)
class MessageOrders:
    """The orders of one message."""

    #: Those that can be read, by their ids.
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    #: What comes under the id of an earlier one of them.
    copies: list[OrderRequest] = field(default_factory=list)
    #: What cannot be read: the object, why not, and the code where there is one.
    refused: list[tuple[object, str, str | None]] = field(default_factory=list)

    def legs_of(self, groups: Collection[str]) -> list[OrderRequest]:
        """Return the legs of groups that can be read."""
        readable = [*(arrival.request for arrival in self.arrivals.values()), *self.copies]
        return [one for one in readable if one.group is not None and one.group.id in groups]

    def signers(self) -> dict[str, set[str | None]]:
        """Return which keys have signed the legs of each group; None is a leg that nobody has signed."""
        found: dict[str, set[str | None]] = {}
        for arrival in self.arrivals.values():
            if arrival.request.group is not None:
                found.setdefault(arrival.request.group.id, set()).add(arrival.seal.get("key_id"))
        return found


def read_message(bodies: object, read: Callable[[object], Arrival]) -> MessageOrders:
    """Read the order objects of a message; one that cannot be read holds back no other.

    Args:
        bodies: as they came.
        read: reads one of them.

    Raises:
        DatabaseUnavailable: nobody can say who stands behind one of them.
    """
    came = MessageOrders()
    for body in bodies if isinstance(bodies, (list, tuple)) else [bodies]:
        try:
            arrival = read(body)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # whatever an object from outside makes its reader raise
            why = trouble(error)
            came.refused.append((body, why, getattr(error, "code", None)))
            continue
        if came.arrivals.setdefault(arrival.id, arrival) is not arrival:
            came.copies.append(arrival.request)
    return came
