"""Linked orders at the TWS door: `parentId`, `transmit` and OCA groups, by IB's documents.

| IB says                                                                            | where it says so               |
|------------------------------------------------------------------------------------|--------------------------------|
| an order whose transmit is false is kept in TWS and sent nowhere                   | recorded; Bracket Orders       |
| a child that is transmitted takes its parent and its siblings along                | Bracket Orders                 |
| a child waits for its parent (PreSubmitted, whyHeld `child`)                       | recorded by others             |
| the cancel of a parent takes its children along                                    | Web API, notes on brackets     |
| the cancel, or a fill, of one order of an OCA group ends the others (type 1)       | Web API; OCA Orders            |
| so do the children of one parent, without the name of a group                      | Web API, notes on brackets     |
| a child without a parent is refused: 10006                                         | message codes                  |

Assumed: children wait until their parent is *completely* filled; with type 1 the first execution ends the others; an
order that comes to an OCA group of which one was filled is refused; TWS tells of an invalid order when it comes, not
when it is transmitted; the cancel of a staged parent drops its staged children.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from worker.sandbox.market.linking import MarketLinks, OneCancelsAll
from worker.sandbox.market.market import Market, MarketOrder
from worker.sandbox.tws.messages import TwsOrder
from worker.sandbox.tws.rules import Complaint
from worker.sandbox.tws.wire import PlaceOrder

#: Client id and order id.
Key = tuple[int, int]
_NO_PARENT = 10006, "Missing parent order."


class TwsLinks:
    """The links between the orders of the TWS door.

    Args:
        market: where they trade.
        name: of the door.
        by_id: orders that TWS has taken.
        staged: orders that it holds back.
        woken: told of an order that waits no more.
    """

    def __init__(
        self,
        market: Market,
        name: str,
        by_id: Mapping[Key, TwsOrder],
        staged: Mapping[Key, PlaceOrder],
        woken: Callable[[MarketOrder], None],
    ) -> None:
        self._by_id, self._staged = by_id, staged
        self._links = MarketLinks(market, name, siblings=False, woken=woken)
        self._groups = OneCancelsAll(market, name)

    def complaint(self, client_id: int, request: PlaceOrder) -> Complaint | None:
        """Return code and text of the error that answers an order whose links lead nowhere."""
        if request.oca_group and self._groups.is_over(request.oca_group):
            return 201, "Order rejected - reason:OCA group is already filled"
        if not request.parent_id or (client_id, request.parent_id) in self._staged:
            return None
        parent = self._by_id.get((client_id, request.parent_id))
        if parent is None:
            return _NO_PARENT
        if not parent.order.is_live and parent.order.state != "filled":
            return 201, "Order rejected - reason:Parent order is being cancelled"
        return None

    def family(self, client_id: int, request: PlaceOrder) -> list[Key]:
        """Return the staged orders that a child takes along when it is transmitted, its parent first."""
        if not request.parent_id:
            return []
        theirs = {request.parent_id} | set(self.staged_children(client_id, request.parent_id))
        return [key for id_ in sorted(theirs - {request.order_id}) if (key := (client_id, id_)) in self._staged]

    def staged_children(self, client_id: int, order_id: int) -> Iterable[int]:
        """Return the order ids of the staged orders whose parent has this order id."""
        return [key[1] for key, held in self._staged.items() if key[0] == client_id and held.parent_id == order_id]

    def of(self, client_id: int, request: PlaceOrder) -> dict[str, object]:
        """Return the links of an order that is about to be taken, as its `extra` keeps them."""
        links: dict[str, object] = {"oca": request.oca_group} if request.oca_group else {}
        parent = self._by_id.get((client_id, request.parent_id)) if request.parent_id else None
        if parent is not None:
            links |= {"parent": parent.order.number, "waits": parent.order.state != "filled"}
            links.setdefault("oca", f"of {parent.order.number}")
        return links

    def add(self, order: MarketOrder) -> None:
        """Count an order that was just taken."""
        self._groups.add(order)
        if (parent := self._links.parent(order)) is not None:
            self._links.add(parent, order)
