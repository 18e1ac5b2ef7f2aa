"""Orders over HTTP: thin over `producers`, in the name of the key whose token was shown, or that has signed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.clock import utcnow
from models.errors import InvalidOrder, InvalidRequest, Untrusted
from models.explaining import shown
from models.history import History, Row
from models.messages import OrderRequest, is_id
from models.record.keys import KeyReader
from models.record.rows import OrderRow
from models.signing import Envelope, Presigned, Signs
from models.trust import must_be_its, must_be_valid, must_reach, signed_order
from models.vocabulary import Denial, Status
from producers.client import OrderClient
from producers.handles import Order
from worker.page.sessions import Visitor

#: What a list has not.
_MORE = ("attempts", "fills", "events")


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a submit.

    Args:
        row: the order, with the columns of `v_orders`.
        is_new: it was recorded now; else its id had been submitted before, with the same body.
    """

    row: Row
    is_new: bool

    @property
    def is_refused(self) -> bool:
        """Whether our own rules have ended it."""
        return self.row["status"] == Status.DENIED


class OrderDoor:
    """Submits and cancels for whoever has shown a token.

    Args:
        client: over the record.
    """

    def __init__(self, client: OrderClient) -> None:
        self.client, self.history = client, History(client.database)
        self._keys = KeyReader(client.database, client.settings.security)

    def submit(self, visitor: Visitor | None, key: str | None, body: Mapping[str, object]) -> Placed:
        """Record an order, and have it executed.

        Args:
            visitor: whose token was shown; None where the body is signed.
            key: the Idempotency-Key: the order's client_order_id.
            body: an order object, or a signed one.

        Raises:
            InvalidRequest: the key is missing, or is not the id in the body.
            InvalidOrder: the order cannot be executed as written.
            Untrusted: the key does not reach so far, or the signature is nobody's.
            IdempotencyConflict: the id is another order's.
            DatabaseUnavailable: nothing was recorded.
        """
        id_ = idempotency_key(key)
        envelope = Envelope.of(body)
        if envelope is not None:
            request, signer = self._signed(envelope)
        elif visitor is None:
            raise Untrusted("neither a key's token nor a signature stands behind this order", Denial.NOT_SIGNED)
        else:
            request, signer = OrderRequest(**{**body, "client_order_id": _same(id_, body)}), visitor.signer
            self._must_be_within(visitor, request)
        if request.client_order_id != id_:
            raise InvalidRequest(f"Idempotency-Key: {id_!r} is not the client_order_id, {request.client_order_id!r}")
        order = self.client.acting_for(signer).submit(request)
        # A row that was read has every column, one that was written now has those it was written with.
        return Placed(self._told(order), is_new="accepted_at" not in order.row)

    def cancel(self, visitor: Visitor, client_order_id: str) -> Row:
        """Ask for a cancel; returns the order as it is then.

        Raises:
            NotFound: there is no such order.
            Untrusted: the key may not cancel it.
        """
        order = self.client.order(client_order_id)
        row: OrderRow = order.row  # type: ignore[assignment]  # as it was read
        if not visitor.may_operate:
            must_be_its(visitor.key, row)
        must_reach(visitor.key, strategies=row["strategy"], symbols=row["symbol"], brokers=row["broker"])
        return self._told(self.client.acting_for(visitor.signer).cancel(client_order_id))

    def _signed(self, envelope: Envelope) -> tuple[OrderRequest, Signs]:
        """Read an order that somebody has signed."""
        key = self._keys.ring_with(envelope.key_id).key_of(envelope, "order")
        must_be_valid(key, utcnow())
        request = signed_order(envelope)
        must_reach(key, strategies=request.strategy, symbols=request.symbol)
        return request, Presigned(envelope.key_id, envelope)

    def _must_be_within(self, visitor: Visitor, request: OrderRequest) -> None:
        """See that a key reaches an order, at one broker of its route at least; the claim asks again at each."""
        key = visitor.key
        must_reach(key, strategies=request.strategy, symbols=request.symbol)
        route = request.route or self.client.settings.route
        if key["brokers"] is not None and not set(route) & set(key["brokers"]):
            must_reach(key, brokers=route[0])

    def _told(self, order: Order) -> Row:
        row = self.history.order(order.client_order_id) or order.row
        return {name: value for name, value in row.items() if name not in _MORE}


def idempotency_key(text: str | None) -> str:
    """Read an Idempotency-Key: a client_order_id, bare or between quotes as its draft has it.

    Raises:
        InvalidRequest: it is missing, or is none.
    """
    if text is None:
        raise InvalidRequest("Idempotency-Key: is required: the client_order_id, the same for every repetition")
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not is_id(bare):
        raise InvalidRequest(
            "Idempotency-Key: must be 1 to 64 letters, digits and . _ : + / = @ # -, the first a letter or digit, "
            f"was {shown(text)}"
        )
    return bare


def _same(id_: str, body: Mapping[str, object]) -> object:
    given = body.get("client_order_id")
    if given is None:
        return id_
    if not isinstance(given, str):
        raise InvalidOrder(f"client_order_id: must be a text, was {shown(given)}")
    return given
