"""Orders with legs at Alpaca: `order_class` mleg, how it is written, and whose leg an execution is of.

Source: docs.alpaca.markets, Options Trading, level 3 (specified; no live recording). One request under one
client_order_id; the answer is the package, whose `legs` are orders with ids of Alpaca's own. Activities name those ids,
so an execution is taken for the package's by the listing that shows both. A share is no leg there (assumed).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from threading import Lock

from models.legs import PackageLeg
from models.messages import OrderRequest, plain
from models.reports import FillReport, LegReport
from models.vocabulary import Side
from worker.brokers.alpaca.symbols import symbol_of
from worker.brokers.rest.reading import Body
from worker.brokers.values import Raw, identity, positive, size, soft

CLASS = "mleg"
#: Legs of one order, by Alpaca's documents.
MOST = 4
#: Ids remembered; an older leg trades no more.
_MOST_KEPT = 20_000


def package_body(order: OrderRequest, client_order_id: str) -> Body:
    """Return a package as Alpaca takes it; a credit has a negative limit price."""
    body: Body = {
        "order_class": CLASS,
        "qty": plain(order.units),
        "type": order.order_type.value,
        "time_in_force": order.time_in_force.value,
        "client_order_id": client_order_id,
        "legs": [_leg(leg) for leg in order.legs or ()],
    }
    if order.limit_price is not None:
        body["limit_price"] = plain(order.limit_price)
    return body


def _leg(leg: PackageLeg) -> Body:
    body: Body = {"symbol": leg.symbol, "ratio_qty": str(leg.ratio), "side": str(leg.side)}
    return body | ({"position_intent": f"{leg.side}_to_{leg.position_effect}"} if leg.position_effect else {})


def package_of(raw: Raw) -> tuple[LegReport, ...]:
    """Read the legs of a package; none of any other order, nor where an answer does not show them.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: they cannot be read.
    """
    if raw.get("order_class") != CLASS:
        return ()
    return tuple(_report(leg, raw) for leg in raw.get("legs") or ())


def _report(leg: Raw, package: Raw) -> LegReport:
    side, whole, own = leg.get("side"), positive(package.get("qty")), positive(leg.get("qty"))
    told = positive(leg.get("ratio_qty"))
    return LegReport(
        symbol=symbol_of(leg),
        side=Side(side) if isinstance(side, str) and side in ("buy", "sell") else None,
        ratio=told if told is not None else own / whole if own and whole else None,
        filled_quantity=size(leg.get("filled_qty")),
        avg_fill_price=positive(leg.get("filled_avg_price")),
    )


class AlpacaLegs:
    """Which orders are legs of which packages, as far as answers have shown them."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: Id of an order -> id of its package, our id of that, and which leg; None: it is none.
        self._legs: OrderedDict[str, tuple[str, str | None, int] | None] = OrderedDict()

    def see(self, raw: object) -> None:
        """Remember what an order shows of its legs; an answer that is no order shows none."""
        if not isinstance(raw, dict):
            return
        package, ours = soft(identity, raw.get("id")), soft(identity, raw.get("client_order_id"))
        rows = raw.get("legs") if raw.get("order_class") == CLASS else None
        if package is None or not isinstance(rows, list):
            return
        for number, leg in enumerate(rows, 1):
            if isinstance(leg, dict) and (id_ := soft(identity, leg.get("id"))) is not None:
                self._keep(id_, (package, ours, number))

    def unknown(self, fills: Iterable[FillReport]) -> set[str]:
        """Return the orders of these executions of which nobody knows whether they are legs: only options are."""
        ids = {fill.broker_order_id for fill in fills if fill.symbol is not None and len(fill.symbol) > _LONGEST_TICKER}
        return {id_ for id_ in ids if id_ is not None and id_ not in self._legs}

    def are_none(self, ids: Iterable[str]) -> None:
        """Remember that these orders are no legs: a listing of all has shown them as none."""
        for id_ in ids:
            if id_ not in self._legs:
                self._keep(id_, None)

    def of_package(self, fill: FillReport) -> FillReport:
        """Return an execution of a leg as one of its package; any other as it is."""
        known = self._legs.get(fill.broker_order_id or "")
        if known is None:
            return fill
        package, ours, number = known
        return replace(fill, broker_order_id=package, broker_client_order_id=ours, leg=number)

    def _keep(self, id_: str, place: tuple[str, str | None, int] | None) -> None:
        with self._lock:
            self._legs[id_] = place
            if len(self._legs) > _MOST_KEPT:
                self._legs.popitem(last=False)


#: Characters of a symbol that is no option.
_LONGEST_TICKER = 15
