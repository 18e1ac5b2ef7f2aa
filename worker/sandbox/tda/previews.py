"""What an order would cost, and whether it would be taken, by Schwab's document of previewOrder.

That it takes linked orders is assumed.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.sandbox.market.listed import listed
from worker.sandbox.market.market import Market
from worker.sandbox.tda.dialect import Json

#: Dollars: commission of one option, and what the exchanges take of one.
_PER_OPTION, _FEE = 0.65, 0.02


def preview_json(
    market: Market, account: str, body: Json, fields: Json, reason: str | None, others: Sequence[Json] = ()
) -> Json:
    """Return the answer.

    Args:
        market: whose prices count.
        account: its number.
        body: the order as it came.
        fields: the same in the market's words.
        reason: why the order would be rejected; None where it would be taken.
        others: orders that are linked to it, in the market's words.
    """
    price = fields["limit_price"] or market.quote(fields["symbol"]).ask
    thing, quantity = listed(fields["symbol"]), float(fields["quantity"])
    value = float(price * fields["quantity"]) * (thing.units if thing is not None else 1)
    options = sum(float(one["quantity"]) for one in (fields, *others) if listed(one["symbol"]) is not None)
    commission = {"commissionLegs": [{"commissionValues": [{"type": "COMMISSION", "value": _PER_OPTION * options}]}]}
    fees = {"feeLegs": [{"feeValues": [{"type": "OPT_REG_FEE", "value": _FEE * options}]}]}
    strategy: Json = {
        "accountNumber": account, "orderStrategyType": body.get("orderStrategyType", "SINGLE"), "orderValue": value,
        "price": float(price),
        "quantity": quantity, "filledQuantity": 0.0, "remainingQuantity": quantity, "status": "ACCEPTED",
        "orderBalance": {
            "orderValue": value, "projectedAvailableFund": 0.0, "projectedBuyingPower": 0.0,
            "projectedCommission": _PER_OPTION * options,
        },
        **{name: body[name] for name in ("session", "duration", "orderType", "childOrderStrategies") if name in body},
    }  # fmt: skip
    results: Json = {name: [] for name in ("alerts", "accepts", "rejects", "reviews", "warns")}
    if reason is not None:
        results["rejects"] = [{"activityMessage": reason, "originalSeverity": "REJECT"}]
    costs = {"commission": commission, "trueCommission": commission, "fee": fees}
    return {
        "orderId": 0, "orderStrategy": strategy, "orderValidationResult": results, "commissionAndFee": costs,
    }  # fmt: skip
