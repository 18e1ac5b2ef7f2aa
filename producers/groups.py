"""Linked orders for strategies: a bracket, an OCO, an OTO, recorded in one transaction and handed out as one."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from models.errors import InvalidOrder, NotFound
from models.groups import LEGS, GroupKind, GroupStatus, Membership, exit_side, objection
from models.messages import OrderRequest
from models.preview_digest import group_digest, wrong_terms
from models.record.group_rows import GroupRow
from models.record.reading import group_rows
from models.record.tombstones import not_there
from models.vocabulary import OrderType, Side
from producers.handles import Order
from producers.lookups import LookupClient, PreviewRow

if TYPE_CHECKING:
    from producers.client import OrderClient

Price = Decimal | int | float | str
#: What the ids of exits that are made of prices append to that of their entry.
_ENDINGS = {"take_profit": "tp", "stop_loss": "sl"}


class OrderGroup:
    """Linked orders as the database had them at the last read. Reading again gives a new value.

    Args:
        client: reads it again.
        row: of the group.
        legs: by their names.
        archived: nothing more than this is left of them.
    """

    def __init__(
        self, client: GroupClient, row: GroupRow, legs: Mapping[str, Order], *, archived: bool = False
    ) -> None:
        self._client, self.row, self.legs, self._archived = client, row, dict(legs), archived

    @property
    def group_id(self) -> str:
        """The id of the group."""
        return self.row["group_id"]

    @property
    def kind(self) -> GroupKind:
        """bracket, oco or oto."""
        return GroupKind(self.row["kind"])

    @property
    def status(self) -> GroupStatus:
        """queued, submitted, live, closed, broken or unresolved; docs/messages.md says what they mean."""
        return GroupStatus(self.row["status"])

    @property
    def reason(self) -> str | None:
        """Why it is broken, or why nothing of it was filled: denied, rejected, too old."""
        return self.row["reason"]

    @property
    def is_terminal(self) -> bool:
        """Nothing more is expected of any leg."""
        return all(order.is_terminal for order in self.legs.values())

    def refresh(self) -> OrderGroup:
        """Read it again."""
        return self if self._archived else self._client.group(self.group_id)

    def wait(self, timeout: float = 30.0) -> OrderGroup:
        """Wait until every leg has ended, and return the group as it is then, or when so many seconds are over."""
        if self._archived:
            return self
        deadline = time.monotonic() + timeout
        for order in self.legs.values():
            order.wait(max(0.0, deadline - time.monotonic()))
        return self.refresh()

    def cancel(self) -> OrderGroup:
        """Ask for the cancel of every leg that has not ended; fills may still win."""
        if left := [order.client_order_id for order in self.legs.values() if not order.is_terminal]:
            self._client.cancel_many(left)
        return self.refresh()

    def __repr__(self) -> str:
        legs = ", ".join(f"{name} {order.status}" for name, order in self.legs.items())
        return f"<OrderGroup {self.group_id} {self.kind} {self.status}: {legs}>"


class GroupClient(LookupClient):
    """The part of `OrderClient` for linked orders."""

    @abstractmethod
    def submit_many(self, requests: Sequence[OrderRequest]) -> list[Order]:
        """Record many orders in one transaction."""

    @abstractmethod
    def cancel_many(self, client_order_ids: Sequence[str]) -> list[Order]:
        """Ask for the cancels of many orders."""

    def submit_bracket(
        self,
        entry: OrderRequest,
        take_profit: Price | OrderRequest,
        stop_loss: Price | tuple[Price, Price] | OrderRequest,
        *,
        preview: str | None = None,
    ) -> OrderGroup:
        """Record an entry with two exits, which its broker links: they wake when it is filled, one cancels the other.

        Args:
            entry: the order that opens the position.
            take_profit: the limit price of the exit with profit, or the whole order.
            stop_loss: the stop price of the exit with loss; with its limit price, `("95", "94.5")`; or the whole order.
            preview: digest of `preview_bracket`: on other terms the group is refused, and the refusal says which.

        Returns:
            The group, with the legs `entry`, `take_profit` and `stop_loss`; those made of prices have the ids of the
            entry with `.tp` and `.sl`. The group has the id of its entry.

        Raises:
            As `submit`. A broker that links no orders by itself passes the group on; if none does, it is denied.
        """
        return self._submit(_bracket(entry, take_profit, stop_loss), preview)

    def submit_oco(self, first: OrderRequest, second: OrderRequest, *, preview: str | None = None) -> OrderGroup:
        """Record two orders of which its broker cancels one when the other is filled; returns as `submit_bracket`."""
        return self._submit(_linked(GroupKind.OCO, [first, second]), preview)

    def submit_oto(self, first: OrderRequest, then: OrderRequest, *, preview: str | None = None) -> OrderGroup:
        """Record an order, and one that its broker wakes when the first is filled; returns as `submit_bracket`."""
        return self._submit(_linked(GroupKind.OTO, [first, then]), preview)

    # -- PREVIEWS ---
    def preview_bracket(
        self,
        entry: OrderRequest,
        take_profit: Price | OrderRequest,
        stop_loss: Price | tuple[Price, Price] | OrderRequest,
        timeout: float = 10.0,
    ) -> list[PreviewRow]:
        """Ask what brokers would say of a bracket, as `preview` of an order; the digest is that of the whole."""
        return self._previewed(_bracket(entry, take_profit, stop_loss), timeout)

    def preview_oco(self, first: OrderRequest, second: OrderRequest, timeout: float = 10.0) -> list[PreviewRow]:
        """Ask what brokers would say of an oco; as `preview_bracket`."""
        return self._previewed(_linked(GroupKind.OCO, [first, second]), timeout)

    def preview_oto(self, first: OrderRequest, then: OrderRequest, timeout: float = 10.0) -> list[PreviewRow]:
        """Ask what brokers would say of an oto; as `preview_bracket`."""
        return self._previewed(_linked(GroupKind.OTO, [first, then]), timeout)

    def _previewed(self, legs: Sequence[OrderRequest], timeout: float) -> list[PreviewRow]:
        if (wrong := objection(legs)) is not None:
            raise InvalidOrder(wrong)
        return self._previews(legs, group_digest(legs), timeout)

    # -- READ ---

    def group(self, group_id: str) -> OrderGroup:
        """Read one group.

        Raises:
            NotFound: there is none of this id, or its legs are archived.
        """
        with self.database.read() as connection:
            row, legs = group_rows(connection, group_id)
            if row is not None and not legs:
                raise not_there(connection, group_id)
        if row is None:
            raise NotFound(f"no group has the id {group_id!r}")
        named = {str(leg["leg"]): Order(cast("OrderClient", self), leg) for leg in legs}
        kind = GroupKind(row["kind"])
        return OrderGroup(self, row, {name: named[name] for name in LEGS[kind] if name in named})

    def _submit(self, legs: Sequence[OrderRequest], preview: str | None) -> OrderGroup:
        if preview is not None and (wrong := wrong_terms(legs, preview)) is not None:
            raise InvalidOrder(wrong)
        placed, id_ = self.submit_many(legs), legs[0].client_order_id
        with self.database.read() as connection:
            row, there = group_rows(connection, id_)
        if row is None or there:
            return self.group(id_)
        named = zip(LEGS[GroupKind(row["kind"])], placed, strict=True)  # as they ended: the rest is in the archives
        return OrderGroup(self, row, dict(named), archived=True)


def _linked(kind: GroupKind, requests: Sequence[OrderRequest]) -> list[OrderRequest]:
    """Make a group of orders, under the id of the first."""
    id_ = requests[0].client_order_id
    return [
        request.model_copy(update={"group": Membership(id_, kind, leg), "version": 2})
        for leg, request in zip(LEGS[kind], requests, strict=True)
    ]


def _bracket(
    entry: OrderRequest, take_profit: Price | OrderRequest, stop_loss: Price | tuple[Price, Price] | OrderRequest
) -> list[OrderRequest]:
    exits = [_exit(entry, "take_profit", take_profit), _exit(entry, "stop_loss", stop_loss)]
    return _linked(GroupKind.BRACKET, [entry, *exits])


def _exit(entry: OrderRequest, leg: str, given: Price | tuple[Price, Price] | OrderRequest) -> OrderRequest:
    """Make an exit of an entry out of its prices."""
    if isinstance(given, OrderRequest):
        return given
    if leg == "take_profit":
        prices: dict[str, object] = {"order_type": OrderType.LIMIT, "limit_price": given}
    elif isinstance(given, tuple):
        stop, limit = given
        prices = {"order_type": OrderType.STOP_LIMIT, "stop_price": stop, "limit_price": limit}
    else:
        prices = {"order_type": OrderType.STOP, "stop_price": given}
    alike = ("symbol", "quantity", "time_in_force", "route", "strategy", "tags", "created_at", "expires_at")
    same = {name: getattr(entry, name) for name in (*alike, "not_before", "session")}
    id_ = f"{entry.client_order_id}.{_ENDINGS[leg]}"
    return OrderRequest(**same, client_order_id=id_, side=exit_side(Side(entry.side)), **prices)
