"""The rarer terms of an order in Interactive Brokers' words: its end, its disguise, who works it. Pure.

Source: docs/facts/ibkr.md#5.10, #5.11, #5.12, #5.13.
"""

from __future__ import annotations

from datetime import UTC
from typing import NamedTuple

from models.errors import Unsupported
from models.explaining import shown
from models.messages import OrderRequest
from models.vocabulary import OrderType


class TagValue(NamedTuple):
    """A parameter of an algorithm, as both SDKs read it."""

    tag: str
    value: str


#: What a field of the SDK's Order may be.
Field = str | int | float | bool | list[TagValue]
#: Those that an order may have here.
EXTRAS = frozenset({"good_till", "limit_offset", "display_quantity", "hidden", "algo"})
#: Algorithm -> its name there, and its parameters: their names there, and what each may be.
ALGOS: dict[str, tuple[str, dict[str, tuple[str, dict[str, str]]]]] = {
    "adaptive": (
        "Adaptive",
        {"priority": ("adaptivePriority", {"urgent": "Urgent", "normal": "Normal", "patient": "Patient"})},
    ),
}


def check_extras(order: OrderRequest, broker: str) -> None:
    """Raise Unsupported for rarer terms that IB takes in no form; called before anything is sent."""
    if order.order_type is OrderType.TRAIL_LIMIT and order.stop_price is None:
        raise Unsupported(f"{broker} needs a stop_price with trail_limit: where the stop begins", broker=broker)
    if order.algo is None:
        return
    name, given = order.algo["name"], {key: value for key, value in order.algo.items() if key != "name"}
    if name not in ALGOS:
        raise Unsupported(f"{broker} has no algo {name!r} here (there is {', '.join(ALGOS)})", broker=broker)
    _, known = ALGOS[name]
    for key, (_, values) in known.items():
        if given.pop(key, None) not in values:
            had = order.algo.get(key)
            raise Unsupported(
                f"{broker}: algo {name} needs {key}: {', '.join(values)}; was {shown(had)}", broker=broker
            )
    if given:
        raise Unsupported(f"{broker}: algo {name} has no {min(given)}", broker=broker)


def extra_fields(order: OrderRequest) -> dict[str, Field]:
    """Return the fields of the SDK's Order for the rarer terms; none of an order that has none."""
    found: dict[str, Field] = {}
    if order.good_till is not None:
        found["goodTillDate"] = f"{order.good_till.astimezone(UTC):%Y%m%d-%H:%M:%S}"
    if order.limit_offset is not None:
        found["lmtPriceOffset"] = float(order.limit_offset)
        found["trailStopPrice"] = float(order.stop_price or 0)
    if order.display_quantity is not None:
        found["displaySize"] = int(order.display_quantity)
    if order.hidden:
        found["hidden"] = True
    if order.algo is not None:
        found["algoStrategy"], known = ALGOS[order.algo["name"]]
        found["algoParams"] = [TagValue(tag, values[order.algo[key]]) for key, (tag, values) in known.items()]
    return found
