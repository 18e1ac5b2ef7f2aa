"""What can go wrong at a door and with a message: tables of data from which a seeded dice draws.

A fault here is only planned. It counts when the door says that it struck (`SandboxControl.strikes`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HTTP = ("alpaca", "tda", "schwab")
WITHOUT_IDS = ("tda", "schwab")
#: Where no listing proves absence: what is swallowed waits for a person.
UNPROVABLE = ("ibkr", *WITHOUT_IDS)
ALL = ("ibkr", *HTTP)
#: Where executions are put right or taken back after they were told.
AMENDING = ("ibkr", "alpaca")
#: Kinds that are about one execution: the price of an order with legs is none.
OF_ONE_EXECUTION = ("trade_correct", "trade_bust")


@dataclass(frozen=True)
class Kind:
    """One way to go wrong; `options` are values, or (low, high) to draw a number from, or a list to draw from."""

    label: str
    doors: tuple[str, ...]
    kind: str
    weight: float
    options: Mapping[str, Any] = field(default_factory=dict)
    #: None: for as long as the order lives, every time.
    count: int | None = 1
    operation: str | None = None
    #: Seconds until it is over, for what stands until it is cleared.
    lasts: tuple[float, float] | None = None
    #: Kind of the fault without which it would not show.
    also: str | None = None

    def fault(self, dice: random.Random, door: str, symbol: str | None = None) -> dict[str, Any]:
        """Return it as the control door takes it."""
        drawn = {name: _drawn(dice, value) for name, value in self.options.items()}
        where = {"door": door, "kind": self.kind, "count": self.count, "symbol": symbol, "operation": self.operation}
        return {**where, "options": {**drawn, "label": self.label}}


def _drawn(dice: random.Random, value: Any) -> Any:
    if isinstance(value, tuple):
        return round(dice.uniform(*value), 3)
    return dice.choice(value) if isinstance(value, list) else value


def _noise(
    label: str, doors: tuple[str, ...], weight: float, fields: list[str], operation: str, count: int = 1, **more: Any
) -> Kind:
    options = {"field": fields, "value": NOISE, **more}
    return Kind(label, doors, "spoiled_row", weight, options, count=count, operation=operation)


#: What stands where a number, a word or a list belongs.
NOISE = [None, "", "?", "NaN", -1, 1.7976931348623157e308, [], {}]
#: Which row of a listing.
ROWS = [0, 1, 2, 5, 20]
ALPACA_ORDER = ["id", "client_order_id", "qty", "filled_qty", "status", "submitted_at", "symbol", "side", "type"]
ALPACA_FILL = ["id", "order_id", "qty", "cum_qty", "price", "transaction_time", "symbol", "side", "type"]
TDA_ORDER = [
    "orderId", "status", "quantity", "filledQuantity", "enteredTime", "orderType", "orderLegCollection",
    "orderLegCollection.0.instruction", "orderLegCollection.0.instrument.symbol", "orderActivityCollection",
    "orderActivityCollection.0.executionLegs.0.price", "orderActivityCollection.0.executionLegs.0.quantity",
]  # fmt: skip
#: What a token endpoint answers beside, or in place of, what it should.
TOKENS = [
    {"access_token": None}, {"access_token": ""}, {"access_token": 7}, {"expires_in": -1}, {"expires_in": None},
    {"expires_in": "soon"}, {"expires_in": 1.7976931348623157e308}, {"token_type": None},
]  # fmt: skip
FLOODS = ["gzip", "endless", "drip", "header", "chunk", "continue"]
_TAKEN = {"accepted": True, "operation": "place"}
_NOT_TAKEN = {"operation": "place"}
#: Strike one order as it is placed. What hangs costs a sender its deadline, so it is rarer than what answers at once.
PLACING = (
    Kind("taken, never answered", ("ibkr", "alpaca"), "accept_hang", 3),
    Kind("taken, never answered", WITHOUT_IDS, "accept_hang", 2),
    Kind("taken, connection cut", HTTP, "accept_drop", 6),
    Kind("taken, connection cut", ("ibkr",), "accept_drop", 0.5),
    Kind("taken, garbage for an answer", ALL, "garbage", 5),
    Kind("taken, half an answer", HTTP, "half_reply", 6, {"share": (0.02, 0.98)}),
    Kind("taken, half an answer", ("ibkr",), "half_reply", 0.5, {"share": (0.02, 0.98)}),
    Kind("taken, a flood for an answer", HTTP, "flood", 1, {"way": FLOODS, "operation": "place"}),
    Kind("its id is taken by a stranger", ("alpaca",), "id_taken", 1, {"quantity": [77, 99]}),
    Kind("its id is taken by a stranger", ("alpaca",), "id_taken", 1, {"ticker": ["KO", "PEP"]}),
    Kind("taken, 500", HTTP, "status", 3, {"status": 500, **_TAKEN}),
    Kind("taken, 502 page", HTTP, "status", 2, {"status": 502, "html": True, **_TAKEN}),
    Kind("taken, 503", HTTP, "status", 3, {"status": 503, **_TAKEN}),
    Kind("taken, 504", HTTP, "status", 3, {"status": 504, **_TAKEN}),
    Kind("swallowed, 500", ("alpaca",), "status", 2, {"status": 500, **_NOT_TAKEN}),
    Kind("swallowed, 500", WITHOUT_IDS, "status", 0.4, {"status": 500, **_NOT_TAKEN}),
    Kind("swallowed, never answered", ("alpaca",), "hang", 2),
    Kind("swallowed, never answered", UNPROVABLE, "hang", 0.4),
    Kind("held until somebody clicks", ("ibkr",), "confirmation", 2, {"seconds": (1.0, 25.0)}),
    Kind("429", HTTP, "status", 4, {"status": 429, **_NOT_TAKEN}),
    Kind("refused", ALL, "refuse", 6),
    Kind("warning, order stands", ("ibkr",), "error_code", 4, {"code": 399, "text": "Order Message: held"}),
    Kind("time in force preset", ("ibkr",), "tif_preset", 2),
    Kind("held for a locate", ("ibkr",), "locate_hold", 2, {"seconds": (0.1, 1.5)}),
    Kind("slow answer", ALL, "slow", 3, {"seconds": (0.1, 2.5), "operation": "place"}),
)
#: Strike one order once it is taken.
LIVING = (
    Kind("no fill", ALL, "no_fill", 3),
    Kind("half a fill", ALL, "partial", 2),
    Kind("rejected after acceptance", ALL, "reject_after_accept", 4),
    Kind("cannot be canceled", ("ibkr",), "cancel_10148", 1),
    Kind("not found for a while", ("alpaca",), "not_found_lag", 3, {"seconds": (0.2, 3.0)}),
    Kind("listed late", WITHOUT_IDS, "list_lag", 3, {"seconds": (0.2, 3.0)}),
    Kind("no Location", WITHOUT_IDS, "location_missing", 3),
    Kind("another order's Location", WITHOUT_IDS, "location_foreign", 2),
    Kind("201 after acceptance, alive again", ("ibkr",), "revive", 3, {"after": (0.05, 1.0), "seconds": (0.05, 6.0)}),
    Kind("execution corrected", AMENDING, "trade_correct", 2, {"seconds": (0.02, 4.0), "price": (1.0, 500.0)}),
    Kind("execution corrected, only listed", ("alpaca",), "trade_correct", 1, {"seconds": (0.02, 4.0), "silent": True}),
    Kind("execution taken back", AMENDING, "trade_bust", 2, {"seconds": (0.02, 4.0)}),
    Kind("execution taken back, only listed", ("alpaca",), "trade_bust", 1, {"seconds": (0.02, 4.0), "silent": True}),
    Kind("executions later than their total", WITHOUT_IDS, "late_executions", 2, {"seconds": (0.2, 4.0)}),
    Kind("words of a refusal on an order that works", WITHOUT_IDS, "stale_words", 2),
    _noise("a field of its row is noise", WITHOUT_IDS, 3, TDA_ORDER, "list", count=2),
)
#: Strike one order that rests.
RESTING = (Kind("replaced by somebody else", HTTP, "replaced_outside", 1, {"seconds": (0.1, 3.0)}),)
#: Strike every update about one order.
UPDATING = (
    Kind("update lost", ("alpaca",), "stream_silent", 4, count=None),
    Kind("update doubled", ("alpaca",), "duplicate_update", 5, count=None),
    Kind("update late, overtaken", ("alpaca",), "late_update", 5, {"seconds": (0.05, 3.0)}, count=2),
    Kind("garbage among the updates", ("alpaca",), "garbage_update", 3, {"unreadable": True}, count=2),
    Kind("unknown word in an update", ("alpaca",), "garbage_update", 2, count=2),
    Kind("update lost", ("ibkr",), "swallow_status", 4),
    Kind("update doubled", ("ibkr",), "duplicate_status", 5),
)
#: Strike whoever asks next, whatever about. IB's silence costs its worker ten seconds, so it is rare.
ASKING = (
    Kind("listing answered 503", HTTP, "status", 4, {"status": 503, "operation": "list"}, operation="list"),
    Kind("listing is garbage", HTTP, "garbage", 4, operation="list"),
    Kind("listing ends within", HTTP, "half_reply", 4, {"share": (0.02, 0.98)}, operation="list"),
    Kind("listing answered late", HTTP, "slow", 2, {"seconds": (0.1, 1.5), "operation": "list"}, operation="list"),
    Kind("order asked for, 500", ("alpaca",), "status", 3, {"status": 500, "operation": "find"}, operation="find"),
    Kind("order asked for, garbage", ("alpaca",), "garbage", 3, operation="find"),
    Kind("order asked for, half of it", ("alpaca",), "half_reply", 3, {"share": (0.02, 0.98)}, operation="find"),
    Kind("cancel answered 500", HTTP, "status", 1, {"status": 500, "operation": "cancel"}, operation="cancel"),
    Kind("token expired", WITHOUT_IDS, "token_expired", 2),
    Kind("executions never end", ("ibkr",), "mute_executions", 0.3),
    Kind("open orders never come", ("ibkr",), "hang", 0.3, operation="open_orders"),
    Kind(
        "listing breaks off",
        ("ibkr",),
        "half",
        1,
        {"cut": True, "operation": ["open_orders", "executions", "completed", "positions"]},
    ),
    Kind(
        "sentinel for a commission",
        ("ibkr",),
        "sentinel",
        1,
        {"value": ["-1", "NaN", "0", "2147483647", "1.7976931348623157E308", ""]},
        count=None,
        lasts=(0.5, 4.0),
    ),
    Kind("strangers in every listing", ("ibkr",), "foreign", 1, count=None, lasts=(0.5, 4.0)),
    Kind("strangers in a listing", WITHOUT_IDS, "strange_rows", 2, operation="list"),
    Kind("strangers in the account", WITHOUT_IDS, "strange_rows", 1, operation="account"),
    Kind("listing never ends", HTTP, "flood", 1, {"way": FLOODS}, operation="list"),
    Kind("order asked for, a flood", ("alpaca",), "flood", 0.5, {"way": FLOODS}, operation="find"),
    _noise("a field of a row is noise", ("alpaca",), 3, ALPACA_ORDER, "list", index=ROWS),
    _noise("order asked for, a field is noise", ("alpaca",), 2, ALPACA_ORDER, "find"),
    _noise("a field of an execution is noise", ("alpaca",), 2, ALPACA_FILL, "activities", index=ROWS),
    _noise("a field of a position is noise", ("alpaca",), 1, ["symbol", "qty", "side"], "positions"),
    Kind("pages of orders lead nowhere", ("alpaca",), "page_loop", 1, count=2, operation="list"),
    Kind("pages of executions lead nowhere", ("alpaca",), "page_loop", 1, count=2, operation="activities"),
    Kind("account called otherwise", ("schwab",), "account_renamed", 0.3, {"status": [404, 400]}),
    Kind("no access", WITHOUT_IDS, "no_access", 1, {"status": [401, 403]}),
    Kind("window of orders too long", WITHOUT_IDS, "short_lookback", 0.5, {"days": (0.01, 5.0)}),
    Kind("odd token", WITHOUT_IDS, "odd_token", 1, {"body": TOKENS}, also="token_expired"),
)
#: Strike everything under way at one door.
CUTTING = (
    Kind("door cuts every connection", ALL, "disconnect", 4),
    Kind("gateway restarts, ids roll back", ("ibkr",), "rollback_next_valid_id", 2, also="disconnect"),
    Kind("client id in use", ("ibkr",), "client_id_in_use", 1, also="disconnect"),
    Kind("no next order id", ("ibkr",), "no_next_valid_id", 0.5, also="disconnect"),
    Kind("no security is known", ("ibkr",), "definitions_broken", 1, count=None, lasts=(0.3, 2.5)),
    Kind("IB away, sockets up", ("ibkr",), "nightly_reset", 1, {"seconds": (0.3, 2.0)}),
    Kind("door closed", ALL, "down", 1, count=None, lasts=(0.3, 2.5)),
)


def draw(dice: random.Random, menu: tuple[Kind, ...], doors: Sequence[str]) -> tuple[Kind, str] | None:
    """Draw one kind that one of these doors knows, and the door; None where they know none."""
    known = [kind for kind in menu if set(doors) & set(kind.doors)]
    if not known:
        return None
    kind = dice.choices(known, [kind.weight for kind in known])[0]
    return kind, dice.choice([door for door in doors if door in kind.doors])
