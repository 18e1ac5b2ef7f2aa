"""Orders that wake and end each other, as a broker links them: exits wait for an entry, and exclude each other.

What links an order is in its `extra`, which the ledger keeps: `parent`, the number of the order it belongs to, and
`exits`, how many belong to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.sandbox.market.market import Market, MarketEvent, MarketOrder

_ENDS = frozenset({"canceled", "expired", "rejected", "replaced"})


class MarketLinks:
    """The links between the orders of one door.

    Args:
        market: where they trade.
        door: whose they are.
    """

    def __init__(self, market: Market, door: str) -> None:
        self._market, self._door = market, door
        self._children: dict[int, list[MarketOrder]] = {}
        for order in market.orders(door):
            if (parent := self.parent(order)) is not None:
                self._children.setdefault(parent.number, []).append(order)
                order.waits = order.is_live and bool(order.extra.get("waits")) and parent.state != "filled"
        market.subscribe(door, self._on_event)

    def parent(self, order: MarketOrder) -> MarketOrder | None:
        """Return the order that this one belongs to."""
        number = order.extra.get("parent") if "leg" not in order.extra else None
        return self._market.find(self._door, number) if isinstance(number, int) else None

    def children(self, order: MarketOrder) -> list[MarketOrder]:
        """Return the orders that belong to this one."""
        return self._children.get(order.number, [])

    def add(self, parent: MarketOrder, child: MarketOrder) -> None:
        """Link an order that was just taken to another."""
        self._children.setdefault(parent.number, []).append(child)

    def _on_event(self, event: MarketEvent) -> None:
        order = event.order
        filled, ended = order.state == "filled", event.kind in _ENDS
        if not (filled or ended):
            return
        for child in self.children(order):
            if child.extra.get("waits") and filled:
                self._market.wake_up(child)
            else:
                self._market.cancel(child)
        parent = self.parent(order)
        if parent is not None:
            for other in [*self.children(parent), *([] if order.extra.get("waits") else [parent])]:
                if (
                    other is not order
                    and other.is_live
                    and not self._market.faults.take(self._door, ("both_fill",), order.symbol)
                ):
                    self._market.cancel(other)
