"""What TDA and Schwab say, or may say by their specification, and a simulated market would not by itself.

Faults, by kind (options in brackets):

* `strange_rows`: listings and accounts hold other people's as well: a bracket whose OCO group is inside (as recorded in
  2022), a vertical spread of two legs, a bond that has a CUSIP and no symbol and executions without a price.
* `late_executions` [seconds]: an order shows FILLED and filledQuantity first, its executions that much later.
* `stale_words` [text]: an order that works carries a statusDescription as if it had been rejected, and keeps it.
* `replaced_outside` [seconds, price]: somebody replaces the order in the broker's own pages.
* `twin` [seconds, tag]: somebody else's order with the same terms was entered so long before ours (1; negative: after
  it), through an application that the broker marks with a tag (that of ours).
* `spoiled_row` [operation, field, value, drop]: one field of a row, `orderLegCollection.0.instrument.symbol`, is noise.
* `account_renamed` [status]: the account is called otherwise in paths from now on (Schwab's hash); the old name gets
  404, or 400 "Invalid account number".
* `no_access` [status, prices]: whatever is asked about trading is refused; with `prices`, prices are too.
* `short_lookback` [days]: a window of orders that begins earlier is refused with 400.
* `odd_token` [body]: the token endpoint's answer has these fields.
"""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.sandbox.faults import Fault
from worker.sandbox.http_door import Refusal
from worker.sandbox.market.ledger import STRANGER
from worker.sandbox.market.market import MarketOrder
from worker.sandbox.tda.bodies import stamp
from worker.sandbox.tda.dialect import DoorDialect, Json

if TYPE_CHECKING:
    from worker.sandbox.tda.door import TdaDoor

STALE = "This order was rejected: you do not have enough available cash/buying power for this order."
#: Ids of other people's orders: below every id of the door's own.
_FIRST_ID = 1_000_000_000_001


def dress(order: MarketOrder, body: Json) -> Json:
    """Return an order as the faults that struck when it was taken show it."""
    late = order.extra.get("late_executions_s")
    since = (datetime.now(UTC) - order.executions[-1].at).total_seconds() if order.executions else 0.0
    if isinstance(late, float) and since < late:
        body.pop("orderActivityCollection", None)
    if words := order.extra.get("stale_words"):
        body["statusDescription"] = words
    return body


def spoil(rows: list[Json], fault: Fault) -> list[Json]:
    """Return rows with one field spoiled in those of the fault's symbol, or in all of them."""
    field = str(fault.options.get("field", ""))
    return [_spoiled(row, field, fault.options) if _is_about(row, fault.symbol) else row for row in rows]


def _is_about(row: Json, symbol: str | None) -> bool:
    return symbol is None or f'"symbol": "{symbol}"' in str(row).replace("'", '"')


def _spoiled(row: Json, field: str, options: dict[str, Any]) -> Json:
    """Return a row with one field, named by its path (`orderLegCollection.0.quantity`), changed or removed."""
    found = copy.deepcopy(row)
    at: Any = found
    *way, last = (int(part) if part.isdecimal() else part for part in field.split("."))
    try:
        for part in way:
            at = at[part]
        if options.get("drop"):
            del at[last]
        else:
            at[last] = options.get("value")
    except (KeyError, IndexError, TypeError):
        return row
    return found


def days_of(fault: Fault) -> float:
    """Return how far back a `short_lookback` lets windows begin."""
    return float(fault.options.get("days", 60))


def no_window(dialect: DoorDialect, days: float) -> Refusal:
    """Return the refusal of a window of orders that begins too early."""
    words = f"Date must be within {days:g} days from today's date"
    return dialect.no(400, words, words)


# -- OTHER PEOPLE'S ---
def strange_orders(dialect: DoorDialect, account: str) -> list[Json]:
    """Return other people's orders: a bracket with an OCO group, a vertical spread, and a bond without a symbol."""
    at = datetime.now(UTC).replace(hour=0, minute=0, second=1) - timedelta(days=1)
    maker = _Maker(dialect, account, at)
    return [_bracket(maker), _spread(maker), _bond(maker)]


class _Maker:
    """Makes orders that somebody else has entered by hand, in kinds that corro never sends."""

    def __init__(self, dialect: DoorDialect, account: str, at: datetime) -> None:
        self.dialect, self.account, self.at = dialect, account, at

    def order(self, number: int, status: str, legs: list[Json], **more: Any) -> Json:
        entered = more.pop("entered", self.at)
        common = {"session": "NORMAL", "duration": "DAY", "complexOrderStrategyType": "NONE"} if legs else {}
        body: Json = {
            **common,
            "orderStrategyType": "SINGLE",
            "orderId": _FIRST_ID + number,
            "status": status,
            "enteredTime": stamp(entered),
            "tag": "API_TOS:other",
            self.dialect.account_key: int(self.account),
            **more,
        }
        if status in ("FILLED", "CANCELED", "REPLACED"):
            body.setdefault("closeTime", stamp(entered))
        return body | ({"orderLegCollection": legs} if legs else {})

    def filled(self, number: int, parts: list[tuple[int, float, float | None]]) -> list[Json]:
        """Return one activity: (legId, quantity, price) each."""
        legs = [
            {"legId": leg, "quantity": quantity, "mismarkedQuantity": 0.0, "time": stamp(self.at)}
            | ({} if price is None else {"price": price})
            for leg, quantity, price in parts
        ]
        activity = {"activityType": "EXECUTION", "executionType": "FILL", "quantity": parts[0][1]}
        return [activity | {"activityId": number, "orderRemainingQuantity": 0.0, "executionLegs": legs}]


def _leg(leg_id: int, kind: str, instruction: str, quantity: float, **instrument: object) -> Json:
    body = {"orderLegType": kind, "legId": leg_id, "instrument": {"assetType": kind, **instrument}}
    return body | {"instruction": instruction, "quantity": quantity}


def _bracket(maker: _Maker) -> Json:
    """Return a short sale that triggered a pair of exits: one was replaced and then filled, the other canceled."""
    cover = [_leg(1, "EQUITY", "BUY_TO_COVER", 4.0, symbol="F", cusip="345370860")]
    sizes = {"quantity": 4.0, "filledQuantity": 0.0, "remainingQuantity": 0.0}
    done = sizes | {"filledQuantity": 4.0}
    later = maker.at + timedelta(seconds=109)
    bought = maker.filled(41, [(1, 4.0, 11.13)])
    group = [
        maker.order(2, "REPLACED", cover, orderType="LIMIT", price=9.0, closeTime=stamp(later), **sizes),
        maker.order(3, "CANCELED", cover, orderType="STOP", stopPrice=15.0, closeTime=stamp(later), **sizes),
        maker.order(4, "FILLED", cover, orderType="MARKET", entered=later, orderActivityCollection=bought, **done),
    ]
    inner = maker.order(1, "FILLED", [], orderStrategyType="OCO", childOrderStrategies=group)
    short = [_leg(1, "EQUITY", "SELL_SHORT", 4.0, symbol="F", cusip="345370860")]
    return maker.order(
        0,
        "FILLED",
        short,
        orderStrategyType="TRIGGER",
        orderType="MARKET",
        orderActivityCollection=maker.filled(40, [(1, 4.0, 11.9)]),
        childOrderStrategies=[inner],
        **done,
    )


def _spread(maker: _Maker) -> Json:
    """Return a spread of two options, filled: one order, two legs."""
    legs = [
        _leg(1, "OPTION", "BUY_TO_OPEN", 1.0, symbol="SPY   270115C00700000", cusip="0SPY..A70700000"),
        _leg(2, "OPTION", "SELL_TO_OPEN", 1.0, symbol="SPY   270115C00710000", cusip="0SPY..A70710000"),
    ]
    parts = maker.filled(50, [(1, 1.0, 6.2), (2, 1.0, 4.1)])
    sizes = {"quantity": 1.0, "filledQuantity": 1.0, "remainingQuantity": 0.0, "price": 2.1}
    return maker.order(5, "FILLED", legs, orderType="NET_DEBIT", orderActivityCollection=parts, **sizes) | {
        "complexOrderStrategyType": "VERTICAL"
    }


def _bond(maker: _Maker) -> Json:
    legs = [_leg(1, "FIXED_INCOME", "BUY", 5.0, cusip="912828YK0")]
    sizes = {"quantity": 5.0, "filledQuantity": 5.0, "remainingQuantity": 0.0}
    parts = maker.filled(60, [(1, 5.0, None)])
    return maker.order(6, "FILLED", legs, orderType="MARKET", orderActivityCollection=parts, **sizes)


def strange_positions() -> list[Json]:
    """Return what came of those orders, and a fund."""
    held = [
        ({"assetType": "OPTION", "symbol": "SPY   270115C00700000", "putCall": "CALL"}, 1.0, 0.0),
        ({"assetType": "OPTION", "symbol": "SPY   270115C00710000", "putCall": "CALL"}, 0.0, 1.0),
        ({"assetType": "FIXED_INCOME", "cusip": "912828YK0"}, 5.0, 0.0),
        ({"assetType": "MUTUAL_FUND", "symbol": "SWPPX", "cusip": "808509855"}, 12.5, 0.0),
    ]
    rest = {"averagePrice": 1.0, "marketValue": 1.0}
    return [
        {"shortQuantity": short, "longQuantity": long, "instrument": instrument, **rest}
        for instrument, long, short in held
    ]


# -- WHAT OTHERS DO ---
def twin(door: TdaDoor, fields: Json) -> None:
    """Have an equal order of somebody else in the listings, entered a moment before, or after."""
    if fault := door.take("twin", symbol=fields["symbol"]):
        theirs = {**fields, "extra": {**copy.deepcopy(fields["extra"]), STRANGER: True, "order_id": door.next_id()}}
        if (tag := fault.options.get("tag")) is not None:
            theirs["extra"]["tag"] = str(tag)
        at = datetime.now(UTC) - timedelta(seconds=float(fault.options.get("seconds", 1.0)))
        door.keep(door.market.place(door=door.name, received_at=at, **theirs))


def replace_outside(door: TdaDoor, order: MarketOrder, fields: Json, fault: Fault) -> None:
    """Have somebody replace the order in the broker's own pages, a moment later."""
    price = fault.options.get("price")
    new = {**fields, "extra": {**copy.deepcopy(fields["extra"]), STRANGER: True}}
    if price is not None:
        new["limit_price"] = Decimal(str(price))
        new["extra"]["wire"]["price"] = float(price)

    def replace() -> None:
        if order.is_live:
            new["extra"] |= {"order_id": door.next_id(), **door.links.inherited(order)}
            door.links.succeed(door.keep(door.market.replace(order, **new)))

    asyncio.get_running_loop().call_later(float(fault.options.get("seconds", 0.05)), replace)
