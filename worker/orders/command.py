"""What goes to a broker about an order: to place it, to replace it, to cancel it.

A command says how its orders are claimed, how each is sent, and what an answer means. Everything else is written once,
in `worker.orders.way`: the gate, freshness, turns in the account's budget, many at a time, patience with the database,
one order that cannot be written beside others that can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from models.errors import BrokerError
from models.messages import OrderRequest
from models.record.order import OrderRecord
from models.record.rows import by_name
from models.reports import OrderReport
from worker.brokers.base import OrderRef
from worker.control.brake import Movement, movement_of
from worker.orders.legs import doubt_legs
from worker.orders.selection import Selection

if TYPE_CHECKING:
    from worker.orders.marks import Marks
    from worker.orders.record import Recorder
    from worker.orders.way import Permit


class Item(Protocol):
    """One order of a command."""

    @property
    def id(self) -> str:
        """The client_order_id."""

    @property
    def entry(self) -> OrderRecord | None:
        """The order as the claim wrote it: read again only if somebody has touched it since."""


@dataclass(slots=True)
class Claimed:
    """An order that this worker owns for the length of a send."""

    order: OrderRequest
    attempt_no: int
    broker_client_order_id: str
    entry: OrderRecord | None = None
    #: The order at the broker that it replaces.
    old: OrderRef | None = None
    #: Of a replace: the key that signed its order.
    key_id: str | None = None
    #: A replace that only makes the order smaller or less aggressive, so every control lets it pass.
    lessens: bool = False
    #: Where sends have to be marked: those of this claim.
    marks: Marks | None = None
    #: Of the lead of a group: its other legs, which go in the same message.
    legs: Sequence[Claimed] = ()
    #: Of an order of a group: the number reserved for it, where its broker's connection numbers orders.
    session_order_id: str | None = None

    @property
    def id(self) -> str:
        """The client_order_id."""
        return self.order.client_order_id

    @property
    def facts(self) -> Mapping[str, object]:
        """What the controls are asked about: the row, as it has columns that the request has not."""
        return by_name(self.entry.order) if self.entry is not None else vars(self.order) | {"key_id": self.key_id}

    @property
    def movement(self) -> Movement:
        """What sending it would do to a position."""
        return Movement.LESSENS if self.lessens else movement_of(vars(self.order))


I = TypeVar("I", bound=Item)  # noqa: E741
A = TypeVar("A")


class Command(ABC, Generic[I, A]):
    """How orders of one kind go to a broker."""

    #: What the log calls an answer that the record does not take.
    event: str
    #: Which lane of the way it takes: changes never wait behind orders.
    lane: str = "change"

    @abstractmethod
    def send(self, item: I, permit: Permit) -> A:
        """Send one; called by several threads at once.

        Args:
            item: the order.
            permit: asks the gate, and waits for a turn.

        Raises:
            BrokerError: the answer, where it is none of the good ones.
        """

    @abstractmethod
    def settle(self, entry: OrderRecord, item: I, answer: A | BrokerError) -> None:
        """Write down what an answer means, in a transaction."""

    def counts(self, answer: A | BrokerError) -> bool:
        """Tell whether an answer changes the record."""
        return True

    def tell(self, item: I, answer: A | BrokerError) -> None:
        """Write a log line about an answer that is committed."""

    def follow(self, answers: Sequence[tuple[I, A | BrokerError]]) -> None:
        """Do what answers ask for once they are committed."""


class Claiming(Command[Claimed, OrderReport]):
    """A command whose orders are claimed first: each is an attempt of its own."""

    #: Knows what an attempt's outcome does to its order.
    recorder: Recorder

    @abstractmethod
    def claim(self, which: Selection) -> list[Claimed]:
        """Take orders in one transaction: status, attempt and event move together."""

    def settle(self, entry: OrderRecord, item: Claimed, answer: OrderReport | BrokerError) -> None:
        """Record the attempt's outcome, and where the order goes from here."""
        self.recorder.settle(entry, item.attempt_no, answer)
        if item.legs:
            doubt_legs(entry, answer)

    def has_more(self, which: Selection, claimed: Sequence[Claimed], done: int) -> bool:
        """Tell whether a claim may have left some behind."""
        return False
