"""Order objects as they come in messages: bare, or in an envelope whose signature says who stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.errors import InvalidOrder
from models.messages import OrderRequest
from models.signing import Envelope
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
        raise InvalidOrder(f"orders: must be a list of objects, had {body!r:.100}")
    envelope = Envelope.of(body)
    if envelope is not None:
        ring().key_of(envelope, "order")
        return Arrival(body, signed_order(envelope), envelope)
    if body.get("client_order_id") is None:
        raise InvalidOrder("client_order_id: is required in a message")
    return Arrival(body, OrderRequest(**body), None)
