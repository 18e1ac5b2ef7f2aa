"""Orders that wake and end each other, as a broker links them: exits wait for an entry, and exclude each other.

What links an order is in its `extra`, which the ledger keeps: `parent`, the number of the order it belongs to, `waits`,
whether it waits for that, and `oca`, the name of a group of which one alone is to be filled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.sandbox.market.market import Market, MarketEvent, MarketOrder

_ENDS = frozenset({"canceled", "expired", "rejected", "replaced"})


class MarketLinks:
    """The links between the orders of one door.

    Args:
        market: where they trade.
        door: whose they are.
        siblings: whether what belongs to one order excludes each other, and an order that does not wait for its own.
        woken: told of an order that waits no more.
    """

    def __init__(
        self, market: Market, door: str, *, siblings: bool = True, woken: Callable[[MarketOrder], None] | None = None
    ) -> None:
        self._market, self._door, self._siblings, self._woken = market, door, siblings, woken
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

    def inherited(self, order: MarketOrder) -> dict[str, Any]:
        """Return what links an order to the one it belongs to, for the order that takes its place.

        What takes the place of one that others exclude, and do not wait for, belongs to it as those do.
        """
        if self.parent(order) is not None:
            links = {key: order.extra[key] for key in ("parent", "waits") if key in order.extra}
        elif any(not child.extra.get("waits") for child in self.children(order)):
            links = {"parent": order.number, "waits": False}
        else:
            return {}
        return links | {key: order.extra[key] for key in ("order_class",) if key in order.extra}

    def succeed(self, successor: MarketOrder) -> None:
        """Link the order that took the place of another as that one was: its `extra` says how."""
        if (parent := self.parent(successor)) is not None:
            self.add(parent, successor)

    def _on_event(self, event: MarketEvent) -> None:
        order = event.order
        filled, ended = order.state == "filled", event.kind in _ENDS
        if not (filled or ended):
            return
        for child in self.children(order):
            if event.kind == "replaced" and not child.extra.get("waits"):
                continue
            if not (child.extra.get("waits") and filled):
                self._market.cancel(child)
            elif child.waits:
                self._market.wake_up(child)
                if self._woken is not None:
                    self._woken(child)
        # One that took its place stands where it stood.
        parent = self.parent(order) if self._siblings and event.kind != "replaced" else None
        if parent is not None:
            for other in [*self.children(parent), *([] if order.extra.get("waits") else [parent])]:
                if other is not order:
                    end_instead(self._market, self._door, other)


class OneCancelsAll:
    """Groups of one door's orders, by name: an execution or the end of one ends the others.

    Args:
        market: where they trade.
        door: whose they are.
    """

    def __init__(self, market: Market, door: str) -> None:
        self._market, self._door = market, door
        self._groups: dict[str, list[MarketOrder]] = {}
        for order in market.orders(door):
            self.add(order)
        market.subscribe(door, self._on_event)

    def add(self, order: MarketOrder) -> None:
        """Count an order that was just taken among its group, if it is of one."""
        if name := order.extra.get("oca"):
            self._groups.setdefault(str(name), []).append(order)

    def is_over(self, name: str) -> bool:
        """Tell whether one of a group has been filled, so that it takes no more."""
        return any(order.filled_quantity for order in self._groups.get(name, ()))

    def _on_event(self, event: MarketEvent) -> None:
        order = event.order
        if event.kind == "fill" or event.kind in _ENDS:
            for other in self._groups.get(str(order.extra.get("oca")), ()):
                if other is not order:
                    end_instead(self._market, self._door, other)


def end_instead(market: Market, door: str, other: MarketOrder) -> None:
    """End an order of which another one was filled or ended, unless both are meant to be filled."""
    if other.is_live and not market.faults.take(door, ("both_fill",), other.symbol):
        market.cancel(other)
