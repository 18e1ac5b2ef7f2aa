"""Interactive Brokers' error codes as data: what each one proves about an order, a cancel or a read.

Source: docs/facts/ibkr.md#4.2, #4.8. A code that is not in the table proves nothing: it reads as `Proof.UNMAPPED`,
which becomes an `OutcomeUnknown`. Never add a code to `Proof.REFUSED` because "the order is usually gone then": it
belongs there only if a new order under that id provably does not exist, or is dead without a fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, cast

from models.errors import (
    BrokerError,
    ConnectionLost,
    CorroError,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    InsufficientFunds,
    NoData,
    NoSuchSymbol,
    NotConnected,
    NotPermitted,
    OrderRejected,
    OutcomeUnknown,
    PacingViolation,
    QuotaExhausted,
    Refused,
    ServerError,
    Unmapped,
    UnreadableReply,
)

#: "Order canceled": the answer to a cancel, and IB's own word where it ended an order.
CANCELED = 202


E = TypeVar("E", bound=CorroError)


class Proof(StrEnum):
    """What an error code proves about a NEW order whose id it names."""

    #: It does not exist, or is dead without a fill; a settle time still looks for the contrary on the wire.
    REFUSED = "refused"
    #: A notice: the order lives on, keep waiting for its status.
    LIVES = "lives"
    #: It speaks of our cancel, not of the order: the order's state has to be read.
    CANCEL_FAILED = "cancel_failed"
    #: Known not to decide anything.
    UNKNOWN = "unknown"
    #: The way to IB, not an order.
    CONNECTION = "connection"
    #: A read (quotes, bars, contracts), not an order.
    DATA = "data"
    #: Not in the table.
    UNMAPPED = "unmapped"


@dataclass(frozen=True, slots=True)
class Code:
    """One row: the proof, the error class it becomes, and what IB says."""

    number: int
    proof: Proof
    error: type[CorroError]
    meaning: str


_ROWS = (
    # -- REFUSED: definitive for a new order (docs/facts/ibkr.md#4.2) ---
    Code(110, Proof.REFUSED, OrderRejected, "price does not conform to the minimum variation"),
    Code(111, Proof.REFUSED, OrderRejected, "time in force and order type do not go together"),
    Code(200, Proof.REFUSED, InstrumentUnknown, "no security definition"),
    Code(201, Proof.REFUSED, OrderRejected, "order rejected"),
    Code(203, Proof.REFUSED, NotPermitted, "security not available or allowed for this account"),
    # Definitive on a new order; on a modify it says that the old order lives on as it was (NOT_CHANGED).
    Code(321, Proof.REFUSED, OrderRejected, "error validating request"),
    Code(382, Proof.REFUSED, OrderRejected, "price violates the ticks constraint"),
    Code(383, Proof.REFUSED, OrderRejected, "size violates the size constraint"),
    Code(388, Proof.REFUSED, OrderRejected, "below the minimum size"),
    Code(434, Proof.REFUSED, OrderRejected, "order size cannot be zero"),
    Code(460, Proof.REFUSED, NotPermitted, "no trading permission"),
    Code(10006, Proof.REFUSED, OrderRejected, "missing parent order"),
    # -- LIVES: the SDKs cancel some of these locally, the order works all the same ---
    Code(399, Proof.LIVES, ServerError, "order message"),
    Code(404, Proof.LIVES, ServerError, "held while shares to borrow are located"),
    Code(492, Proof.LIVES, ServerError, "notice"),
    Code(2109, Proof.LIVES, ServerError, "outsideRth was ignored"),
    Code(10349, Proof.LIVES, ServerError, "time in force was set by an order preset"),
    # -- CANCEL_FAILED (docs/facts/ibkr.md#4.7) ---
    Code(135, Proof.CANCEL_FAILED, Refused, "cannot find the order with this id"),
    Code(161, Proof.CANCEL_FAILED, Refused, "not in a cancellable state"),
    Code(10147, Proof.CANCEL_FAILED, Refused, "the order to be canceled is not found"),
    Code(10148, Proof.CANCEL_FAILED, Refused, "the order cannot be canceled in its state"),
    # -- UNKNOWN ---
    Code(100, Proof.UNKNOWN, ServerError, "max rate of messages exceeded; this one may have been dropped"),
    Code(103, Proof.UNKNOWN, UnreadableReply, "duplicate order id; the other order may be ours"),
    Code(104, Proof.UNKNOWN, UnreadableReply, "cannot modify a filled order"),
    Code(105, Proof.UNKNOWN, UnreadableReply, "modification does not match the original, which is live"),
    Code(107, Proof.UNKNOWN, ServerError, "order is incomplete"),
    Code(109, Proof.UNKNOWN, ServerError, "price is out of the range of precautions"),
    # Cancelled, but fills may precede: only the wire status says what is left.
    Code(202, Proof.UNKNOWN, ServerError, "order canceled"),
    # -- CONNECTION (docs/facts/ibkr.md#1.6) ---
    Code(326, Proof.CONNECTION, NotConnected, "client id already in use"),
    Code(327, Proof.CONNECTION, NotConnected, "only client id 0 may auto-bind"),
    Code(501, Proof.CONNECTION, NotConnected, "already connected"),
    Code(502, Proof.CONNECTION, NotConnected, "could not connect to TWS"),
    Code(503, Proof.CONNECTION, NotConnected, "TWS is out of date"),
    Code(504, Proof.CONNECTION, ConnectionLost, "not connected"),
    Code(1100, Proof.CONNECTION, ConnectionLost, "TWS has lost IB"),
    Code(1101, Proof.CONNECTION, ConnectionLost, "IB is back, data lost"),
    Code(1102, Proof.CONNECTION, ConnectionLost, "IB is back, data kept"),
    Code(1300, Proof.CONNECTION, ConnectionLost, "the socket port was reset"),
    Code(2110, Proof.CONNECTION, ConnectionLost, "TWS is cut off from IB and will restore it"),
    # -- DATA ---
    Code(162, Proof.DATA, DataError, "historical market data service"),
    Code(165, Proof.DATA, DataError, "historical market data service query"),
    Code(354, Proof.DATA, DataNotPermitted, "market data is not subscribed"),
    Code(366, Proof.DATA, DataError, "no historical query for this id"),
    Code(420, Proof.DATA, PacingViolation, "invalid real-time query or pacing"),
    Code(10089, Proof.DATA, DataNotPermitted, "needs an additional subscription"),
    Code(10090, Proof.DATA, DataNotPermitted, "part of the data is not subscribed"),
    Code(10167, Proof.DATA, DataNotPermitted, "delayed data is shown instead"),
    Code(10168, Proof.DATA, DataNotPermitted, "not subscribed, and delayed data is off"),
    Code(10197, Proof.DATA, DataNotPermitted, "a competing live session has the data"),
)
CODES: dict[int, Code] = {row.number: row for row in _ROWS}

#: Codes that answer a modify with no: the original order lives on as it was, or had ended (docs/facts/ibkr.md#2.7,
#: #4.8). 103 comes for an order id whose order is done, 135 where this client knows no such order.
NOT_CHANGED = frozenset({103, 104, 105, 135}) | {number for number, row in CODES.items() if row.proof is Proof.REFUSED}

#: TWS has lost IB though its socket is up; orders are held back until RESTORED (docs/facts/ibkr.md#1.6).
CUT_OFF = frozenset({1100, 2110})
RESTORED = frozenset({1101, 1102})

#: Words in the text of 201 and 321 that choose among the Refused classes. They never decide whether it was refused.
_REFUSAL_WORDS: tuple[tuple[str, type[Refused]], ...] = (
    ("insufficient", InsufficientFunds),
    ("buying power", InsufficientFunds),
    ("available funds", InsufficientFunds),
    ("equity with loan value", InsufficientFunds),
    ("trading permission", NotPermitted),
    ("read-only", NotPermitted),
)
#: The only answer of 162 that is one: the request was right, and there is nothing. Anything else, in any language, is
#: a failure ("connected from a different IP address", "query cancelled", pacing, timeouts): the bars may well exist.
_EMPTY = "hmds query returned no data"
#: Words in the text of 162 and 321 that choose among the data errors; none of them makes a failure an answer.
_DATA_WORDS: tuple[tuple[str, type[CorroError]], ...] = (
    ("pacing", PacingViolation),
    ("permission", DataNotPermitted),
    ("not subscribed", DataNotPermitted),
)
#: IB counts identical requests over 15 s and the total over 10 min (docs/facts/ibkr.md#7.5).
PACING_PAUSE_S = 15.0


def code_of(number: int) -> Code:
    """Return the row of a code; farm notices (2100-2199) live on, everything unheard of is unmapped."""
    row = CODES.get(number)
    if row is not None:
        return row
    if 2100 <= number < 2200:
        return Code(number, Proof.LIVES, ServerError, "notice")
    return Code(number, Proof.UNMAPPED, Unmapped, "not classified")


def order_error(number: int, text: str, broker: str) -> BrokerError:
    """Return the error that this code means for a new order that shows no sign of life on the wire."""
    row = code_of(number)
    message = f"{broker}: {number} {text or row.meaning}"
    if row.proof is Proof.REFUSED:
        refusal: type[Refused] = _by_words(text, _REFUSAL_WORDS, cast("type[Refused]", row.error))
        return refusal(message, broker=broker, code=str(number))
    error = row.error if issubclass(row.error, OutcomeUnknown) else Unmapped
    return error(f"{message}; the order may be live", broker=broker, code=str(number))


def change_error(number: int, text: str, broker: str) -> Refused:
    """Return the error of a change that IB refused: the order stands as it was, or is done."""
    refusal: type[Refused] = _by_words(text, _REFUSAL_WORDS, OrderRejected)
    message = f"{broker}: not changed: {number} {text or code_of(number).meaning}"
    return refusal(message, broker=broker, code=str(number))


def lookup_error(number: int, text: str, broker: str, symbol: str) -> BrokerError:
    """Return the error of a contract look-up before an order; nothing of the order has left."""
    message = f"{broker}: {number} {text}, looking up {symbol}"
    kinds: dict[int, type[BrokerError]] = {200: InstrumentUnknown, 100: QuotaExhausted}
    error = kinds.get(number, NotConnected)
    return error(message, broker=broker, code=str(number))


def read_error(number: int, text: str, broker: str) -> CorroError:
    """Return the error of a failed read of quotes, bars or contracts."""
    message = f"{broker}: {number} {text}"
    row = code_of(number)
    if number == 162 and _EMPTY in text.lower():
        return NoData(message)
    if number == 200:
        return NoSuchSymbol(message)
    if row.proof is not Proof.DATA and number not in (100, 321):
        return BrokerError(message, broker=broker, code=str(number))
    fallback = PacingViolation if number == 100 else row.error if row.proof is Proof.DATA else DataError
    error = _by_words(text, _DATA_WORDS, fallback)
    return PacingViolation(message, retry_after=PACING_PAUSE_S) if error is PacingViolation else error(message)


def _by_words(text: str, table: Sequence[tuple[str, type[E]]], fallback: type[E]) -> type[E]:
    lowered = text.lower()
    return next((error for words, error in table if words in lowered), fallback)
