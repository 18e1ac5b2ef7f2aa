"""Every fault that a door can be asked for: what it does, at which doors, and the options it takes.

`Faults.add` refuses what is not in this table; `corro sandbox faults --kinds` and docs/faults.md show it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

#: number: a finite one, as a number or as text; flag: true or false; text; json: any value, also NaN and null.
Takes = Literal["number", "flag", "text", "json"]

HTTP = ("alpaca", "tda", "schwab")
TWS = ("ibkr",)
ALPACA = ("alpaca",)
TDA = ("tda", "schwab")
ALL = (*TWS, *HTTP)
#: Where executions are put right or taken back after they were told.
_AMENDING = ("ibkr", "alpaca")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a fault; `among` are the only values it may have."""

    name: str
    takes: Takes
    meaning: str
    required: bool = False
    among: tuple[str, ...] = ()

    def objection(self, value: object) -> str | None:
        """Say why a value cannot be its; None where it can."""
        if not _is(self.takes, value):
            return f"option {self.name} must be {_WORDS[self.takes]}, was {value!r}"
        if self.among and value not in self.among:
            return f"option {self.name} must be one of {', '.join(self.among)}, was {value!r}"
        return None


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One way in which a door can fail."""

    name: str
    doors: tuple[str, ...]
    meaning: str
    options: tuple[Option, ...] = ()


_WORDS = {"number": "a number", "flag": "true or false", "text": "a text", "json": "a value"}
_CODE = Option("code", "number", "the error's code")
_TEXT = Option("text", "text", "the error's words")
_ACCEPTED = Option("accepted", "flag", "whether the order is taken all the same")


def _seconds(meaning: str) -> Option:
    return Option("seconds", "number", meaning)


_FOREIGN = (
    "currency", "exchange", "sec_type", "con_id", "quantity", "account", "ref", "client_id", "time", "price", "perm_id",
    "exec_id", "local_symbol", "symbol",
)  # fmt: skip
#: Options of every kind.
COMMON = (
    Option("after", "number", "so many requests pass before it strikes"),
    Option("label", "text", "what its strikes are called"),
    Option("operation", "json", "as --operation; or a list of operations"),
)
_TABLE = (
    # -- AT EVERY DOOR --
    FaultKind("refuse", ALL, "a definite no: the order is not taken", (
        _CODE, _TEXT, Option("status", "number", "HTTP doors: the status of the answer"),
        Option("inactive", "flag", "TWS: orderStatus Inactive follows"),
    )),
    FaultKind("hang", ALL, "the request is swallowed: never answered, the order not taken"),
    FaultKind("accept_hang", ALL, "the order is taken, and never answered"),
    FaultKind("accept_drop", ALL, "the order is taken, the connection cut before the answer"),
    FaultKind("garbage", ALL, "the order is taken, the answer is noise", (
        Option("accepted", "flag", "HTTP doors: false where the order is not taken"),
    )),
    FaultKind("half_reply", ALL, "the order is taken, its answer ends within, and the connection with it", (
        Option("share", "number", "how much of the answer is sent, 0 to 1 (0.5)"),
        Option("accepted", "flag", "HTTP doors: false where the order is not taken"),
    )),
    FaultKind("flood", HTTP, "the order is taken, the answer never ends", (
        Option("way", "text", "how it never ends (endless)",
               among=("gzip", "endless", "drip", "header", "chunk", "continue")),
        Option("accepted", "flag", "false where the order is not taken"),
    )),
    FaultKind("disconnect", ALL, "every connection of the door is cut, once"),
    FaultKind("down", ALL, "connections are refused, and the old ones cut, until it is cleared"),
    FaultKind("slow", ALL, "the answer comes late", (
        _seconds("how late (1)"), Option("before", "flag", "HTTP doors: the order is taken late as well"),
        Option("reverse", "flag", "TWS: what was held back is told backwards"),
    )),
    FaultKind("no_fill", ALL, "the order rests, whatever the price"),
    FaultKind("partial", ALL, "half of the order is filled, the rest rests"),
    FaultKind("market_closed", ALL, "what has hours does not trade, until it is cleared; coins do"),
    FaultKind("reject_after_accept", ALL, "the order is accepted, and rejected a moment later", (_TEXT,)),
    FaultKind("half", ALL, "a reading's answer ends in the middle", (
        Option("cut", "flag", "the connection ends as well"),
    )),
    FaultKind("rate_limit", ALL, "too many requests are refused", (
        Option("per_minute", "number", "HTTP doors: calls a minute that pass (200)"),
        Option("window_s", "number", "HTTP doors: seconds of the window in which they are counted (60)"),
        Option("headers", "flag", "HTTP doors: false where the refusal tells nothing of the budget"),
        Option("per_second", "number", "TWS: messages a second that pass (50)"),
    )),
    # -- AT SEVERAL --
    FaultKind("status", HTTP, "the call is answered with an HTTP status, and not done", (
        Option("status", "number", "which (503)"), _TEXT, _CODE, Option("html", "flag", "a page instead of JSON"),
        Option("headers", "json", "an object: headers of the answer"), _ACCEPTED,
    )),
    FaultKind("trade_correct", _AMENDING, "an execution gets another price after it was told", (
        _seconds("how long after (0.2)"), Option("price", "json", "the new price (one more)"),
        Option("silent", "flag", "only listed, not told"),
    )),
    FaultKind("trade_bust", _AMENDING, "an execution is taken back after it was told", (
        _seconds("how long after (0.2)"), Option("silent", "flag", "only listed, not told"),
    )),
    FaultKind("odd_date", HTTP, "the Date of every answer is another", (Option("text", "text", "what it is (today)"),)),
    FaultKind("spoiled_row", HTTP, "one field of a row of an answer is another; aim it with --operation", (
        Option("field", "text", "which; at TDA and Schwab a path: orderLegCollection.0.instruction", required=True),
        Option("value", "json", "what stands there (null)"), Option("index", "number", "Alpaca: in which row (0)"),
        Option("drop", "flag", "TDA and Schwab: the field is missing"),
    )),
    FaultKind("replaced_outside", HTTP, "somebody replaces the order in the broker's own pages", (
        _seconds("how long after it was taken (TDA and Schwab 0.05)"),
        Option("quantity", "number", "Alpaca: to what"), Option("price", "number", "TDA and Schwab: at which limit"),
    )),
    # -- TWS --
    FaultKind("client_id_in_use", TWS, "326 to the next client that connects"),
    FaultKind("swallow_status", TWS, "no orderStatus comes for the order"),
    FaultKind("duplicate_status", TWS, "every message about the order comes twice"),
    FaultKind("tif_preset", TWS, "10349: the time in force was set by a preset", (_TEXT,)),
    FaultKind("what_if_placed", TWS, "a what-if is taken for an order"),
    FaultKind("cancel_10148", TWS, "a cancel is refused: not cancellable in this state"),
    FaultKind("nightly_reset", TWS, "1100, and 1102 later; the sockets stay up", (
        _seconds("how much later (1)"), Option("code", "number", "of the return: 1102, or 1101"),
    )),
    FaultKind("mute_executions", TWS, "executions are listed without an end"),
    FaultKind("locate_hold", TWS, "404: held while shares are located", (_seconds("for how long (0.2)"),)),
    FaultKind("revive", TWS, "refused with Inactive and 201 after it was alive, and alive again later", (
        Option("after", "number", "seconds until the refusal (0.1)"), _seconds("until it lives again (1)"), _TEXT,
    )),
    FaultKind("error_code", TWS, "an error of this code; some leave the order live", (
        _CODE, _TEXT, _ACCEPTED, Option("notice", "flag", "the answer comes all the same"),
    )),
    FaultKind("foreign", TWS, "a stranger's holding, execution and open order in every listing", tuple(
        Option(name, "json", "of the stranger's rows") for name in _FOREIGN
    )),
    FaultKind("sentinel", TWS, "a number that is none: in commissions, or with --operation bars in closes", (
        Option("value", "text", "what stands there (1.7976931348623157E308)"),
    )),
    FaultKind("definitions_broken", TWS, "2157: no security is known, until it is cleared"),
    FaultKind("no_next_valid_id", TWS, "a client that connects is not told its next order id"),
    FaultKind("rollback_next_valid_id", TWS, "a client that connects is told an earlier order id", (
        Option("by", "number", "how much earlier (1 is told)"),
    )),
    FaultKind("confirmation", TWS, "the order waits in a window for a click, in no listing and without a word", (
        _seconds("until somebody clicks; without it the click comes when faults are cleared"),
    )),
    # -- ALPACA --
    FaultKind("not_found_lag", ALPACA, "the order is not found for a while", (_seconds("for how long (1)"),)),
    FaultKind("stream_silent", ALPACA, "no update about the order comes"),
    FaultKind("duplicate_update", ALPACA, "an update comes twice"),
    FaultKind("garbage_update", ALPACA, "noise beside an update", (
        Option("unreadable", "flag", "no JSON, instead of an unknown word"),
        Option("replace", "flag", "the update itself does not come"),
    )),
    FaultKind("late_update", ALPACA, "an update comes late, and others overtake it", (
        _seconds("how late (1)"), Option("hold", "flag", "the others wait, too"),
        Option("reverse", "flag", "with hold: the last first"),
    )),
    FaultKind("both_fill", ALL, "a linked order lives on when the one that excludes it is filled or ended"),
    FaultKind("page_loop", ALPACA, "pages of bars lead to each other for ever; --operation list or activities: theirs"),
    FaultKind("id_taken", ALPACA, "a stranger's order stands under our client_order_id", (
        Option("ticker", "text", "its symbol (ours)"), Option("side", "text", "its side (ours)"),
        Option("quantity", "number", "its quantity (ours)"),
    )),
    FaultKind("replace_rejected", ALPACA, "a replace is answered with 200, its order rejected a moment later"),
    # -- TDA AND SCHWAB --
    FaultKind("token_expired", TDA, "the access token is no longer good"),
    FaultKind("list_lag", TDA, "the order is in no listing for a while", (_seconds("for how long (1)"),)),
    FaultKind("location_missing", TDA, "201 without the header Location"),
    FaultKind("location_foreign", TDA, "201 with another order's Location"),
    FaultKind("strange_rows", TDA, "other people's orders and holdings in the listings: a bracket with an OCO group, "
              "a spread of two legs, a bond without a symbol"),
    FaultKind("late_executions", TDA, "FILLED and filledQuantity first, the executions later", (
        _seconds("how much later (3)"),
    )),
    FaultKind("stale_words", TDA, "an order that works has a statusDescription as if it were rejected", (
        Option("text", "text", "which"),
    )),
    FaultKind("twin", TDA, "somebody else's order on the same terms", (
        _seconds("how long before ours it was entered (1); negative: after it"),
        Option("tag", "text", "of the application that entered it (ours)"),
    )),
    FaultKind("account_renamed", TDA, "the account has another name in paths from now on (Schwab's hash)", (
        Option("status", "number", "of the old name: 404, or 400"),
    )),
    FaultKind("no_access", TDA, "whatever is asked about trading is refused", (
        Option("status", "number", "with which status (403)"), Option("prices", "flag", "prices are refused, too"),
    )),
    FaultKind("short_lookback", TDA, "400 for a window of orders that begins too early", (
        Option("days", "number", "how far back it may begin (60)"),
    )),
    FaultKind("odd_token", TDA, "the token endpoint's answer has other fields", (
        Option("body", "json", "an object: those fields", required=True),
    )),
)  # fmt: skip
#: Kinds of call by which a fault can be aimed, by door.
OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "ibkr": (
        "place", "replace", "cancel", "cancel_all", "open_orders", "executions", "completed", "positions", "account",
        "accounts", "contract", "quote", "bars", "commission", "ids", "bind", "time",
    ),
    "alpaca": (
        "place", "replace", "cancel", "close", "list", "find", "get", "activities", "positions", "account", "quote",
        "bars", "assets", "clock", "calendar", "stream", "unknown",
    ),
    "tda": (
        "place", "replace", "cancel", "list", "get", "account", "accounts", "transactions", "quote", "bars",
        "token", "unknown",
    ),
    "schwab": (
        "place", "replace", "cancel", "preview", "list", "get", "account", "accounts", "transactions", "preferences",
        "quote", "bars",
        "token", "unknown",
    ),
}  # fmt: skip
KINDS: Mapping[str, FaultKind] = {kind.name: kind for kind in _TABLE}


def check(door: str, name: str, options: Mapping[str, Any]) -> None:
    """See that a fault can do what is asked of it.

    Raises:
        ValueError: no such kind; not at this door; an operation that the door does not have; an option that the kind
            does not have, that is missing, or has a value that cannot be.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"unknown fault kind {name!r}; one of {', '.join(sorted(KINDS))}")
    if door != "*" and door not in kind.doors:
        raise ValueError(f"{name} is no fault of {door}, but of {', '.join(kind.doors)}")
    aims = options.get("operation")
    known = {each for at in (kind.doors if door == "*" else (door,)) for each in OPERATIONS[at]}
    if lost := [each for each in ([aims] if isinstance(aims, str) else aims or ()) if each not in known]:
        raise ValueError(f"{door} has no operation {', '.join(map(str, lost))}; it has {', '.join(sorted(known))}")
    takes = options_of(kind)
    if unknown := sorted(set(options) - set(takes)):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(takes)}")
    if missing := [option.name for option in kind.options if option.required and option.name not in options]:
        raise ValueError(f"{name} needs the option {', '.join(missing)}")
    for word in filter(None, (takes[key].objection(value) for key, value in options.items())):
        raise ValueError(f"{name}: {word}")


def options_of(kind: FaultKind) -> dict[str, Option]:
    """Return the options of a kind by name, its own first."""
    own = {option.name: option for option in kind.options}
    return own | {option.name: option for option in COMMON if option.name not in own}


def read(name: str, key: str, text: str) -> object:
    """Return the value of an option that somebody has typed: text where it takes text, else JSON (NaN included)."""
    kind = KINDS.get(name)
    option = options_of(kind).get(key) if kind else None
    if option is not None and option.takes == "text":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is(takes: Takes, value: object) -> bool:
    if takes == "number":
        try:
            return not isinstance(value, bool) and math.isfinite(Decimal(str(value)))
        except InvalidOperation:
            return False
    return takes == "json" or isinstance(value, bool if takes == "flag" else str)


# -- SHOWING --
def rows() -> list[dict[str, str]]:
    """Return the table for a person: kind, doors, meaning, options."""
    return [
        {
            "kind": kind.name,
            "doors": "all" if kind.doors == ALL else ",".join(kind.doors),
            "meaning": kind.meaning,
            "takes": "; ".join(_told(option) for option in kind.options),
        }
        for kind in KINDS.values()
    ]


def _told(option: Option) -> str:
    among = f" ({', '.join(option.among)})" if option.among else ""
    return f"{option.name}{'!' if option.required else ''}: {option.meaning}{among}"


def page() -> str:
    """Return docs/faults.md."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    """Yield the lines of docs/faults.md."""
    yield "# Faults of the sandbox"
    yield ""
    yield "Made from `worker/sandbox/fault_kinds.py` by `python -m worker.sandbox.fault_kinds > docs/faults.md`."
    yield ""
    yield "```sh"
    yield "corro sandbox fault alpaca half_reply --count 1 --symbol KO --option share=0.3"
    yield "corro sandbox fault alpaca spoiled_row --operation list --option field=qty --option value=NaN"
    yield "corro sandbox faults            # those in force; --kinds: this table"
    yield "corro sandbox clear             # no faults any more"
    yield "```"
    yield ""
    yield "A fault strikes `--count` times, or until it is cleared; `--symbol` and `--operation` aim it. An option is"
    yield "`KEY=VALUE`, the value JSON (`0.5`, `true`, `null`, `NaN`, `{...}`) or text; what is marked `!` has to be"
    yield "given. An option, a value, an operation or a door that a fault does not have is refused. Every kind takes"
    yield f"{', '.join(f'`{option.name}` ({option.meaning})' for option in COMMON)}."
    yield ""
    yield "| door | operations |"
    yield "|---|---|"
    yield from (f"| {door} | {', '.join(names)} |" for door, names in OPERATIONS.items())
    yield ""
    yield from _markdown(("fault", "doors", "meaning", "options"), rows())
    yield ""


def _markdown(head: Sequence[str], found: Sequence[Mapping[str, str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in found:
        kind, *rest = row.values()
        yield f"| `{kind}` | {' | '.join(rest)} |"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
