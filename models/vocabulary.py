"""The words of the field as enums, and the sets that code asks about.

Names follow FIX, Alpaca and Nautilus. Only words live here: what may follow what is in :mod:`models.lifecycle`.
"""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """Direction of an order. IB and Alpaca know only buy and sell on the wire; TDA and Schwab know all four."""

    BUY = "buy"
    SELL = "sell"
    SELL_SHORT = "sell_short"
    BUY_TO_COVER = "buy_to_cover"


class OrderType(StrEnum):
    """How an order is priced."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"
    #: A trailing stop that becomes a limit order.
    TRAIL_LIMIT = "trail_limit"
    #: A market or a limit order, once a better price has been seen.
    IF_TOUCHED = "if_touched"
    LIMIT_IF_TOUCHED = "limit_if_touched"


class TimeInForce(StrEnum):
    """How long an order may work."""

    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    OPG = "opg"
    CLS = "cls"
    #: Until a moment of its own.
    GTD = "gtd"


#: What every broker is taken to have unless its adapter says otherwise.
USUAL_TYPES = frozenset(
    {OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP}
)
USUAL_TIMES = frozenset(TimeInForce) - {TimeInForce.GTD}


class AssetClass(StrEnum):
    """What kind of thing is traded; `models.instruments` has how each is written, and its rules."""

    #: A share or a fund listed in the United States.
    US_EQUITY = "us_equity"
    #: The same, listed elsewhere.
    EQUITY = "equity"
    #: A listed option on a US share or fund.
    OPTION = "option"
    FUTURE = "future"
    FOREX = "forex"
    CRYPTO = "crypto"


class Status(StrEnum):
    """Where an order stands. Unknown is no status: it is a property of the attempt."""

    #: Recorded, and kept from the queue until its time comes or somebody approves it; no claim sees it.
    HELD = "held"
    #: Recorded, waiting for a worker; provably not at any broker.
    QUEUED = "queued"
    #: Claimed by a worker; may be on its way to, or at, a broker.
    SUBMITTED = "submitted"
    #: The broker has confirmed the order as live.
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    #: A cancel was requested at the broker; a fill may still win.
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    #: A broker said no and the route is used up.
    REJECTED = "rejected"
    #: We said no before anything was sent.
    DENIED = "denied"
    #: Ended by the broker at the end of its time in force, or too old in our queue.
    EXPIRED = "expired"


#: Nothing more is expected; a late fill is still applied, and flagged.
TERMINAL = frozenset({Status.FILLED, Status.CANCELED, Status.REJECTED, Status.DENIED, Status.EXPIRED})
#: Confirmed at a broker and not ended.
LIVE = frozenset({Status.ACCEPTED, Status.PARTIALLY_FILLED, Status.PENDING_CANCEL})
#: Provably at no broker, and on the way to none.
UNSENT = frozenset({Status.HELD, Status.QUEUED})
#: Not terminal.
OPEN = frozenset(set(Status) - TERMINAL)


class Outcome(StrEnum):
    """What is known of one attempt: one order, at one broker, one try."""

    #: Claimed; the send is under way or its worker died during it.
    SENDING = "sending"
    #: The broker confirmed that it has (or had) the order.
    ACCEPTED = "accepted"
    #: The broker answered no, definitively.
    REFUSED = "refused"
    #: Provably nothing left this process.
    NOT_SENT = "not_sent"
    #: It may be live: reconcile, never resend, never fall back.
    UNKNOWN = "unknown"
    #: Reconciliation, or a named operator, found that the broker does not have it.
    ABSENT = "absent"


class LotMethod(StrEnum):
    """Which shares a closing execution closes."""

    #: First in, first out.
    FIFO = "fifo"
    #: All at their mean price; a position that passes through zero begins a new mean.
    AVERAGE = "average"


class ArrivalQuotes(StrEnum):
    """For which orders the quote at arrival is read."""

    #: Those that name a decision price.
    ASKED = "asked"
    ALWAYS = "always"
    NEVER = "never"


class Denial(StrEnum):
    """Why our own rules kept an order from a broker: `orders.reason_code`, and `attempts.code`."""

    #: Somebody had halted trading, or a limit had.
    HALTED = "halted"
    #: Only closing orders were let through.
    REDUCING = "reducing"
    #: It closes a position, and the broker does not hold so much.
    NO_POSITION = "no_position"
    #: The broker cannot do what the order asks.
    UNSUPPORTED = "unsupported"
    #: Its row is no order that could be sent.
    INVALID = "invalid"
    #: A limit forbids it (`models.risk.decision`).
    ORDER_QUANTITY = "order_quantity"
    ORDER_VALUE = "order_value"
    PRICE_COLLAR = "price_collar"
    NO_PRICE = "no_price"
    RATE = "rate"
    REPEAT = "repeat"
    POSITION = "position"
    OPEN_ORDERS = "open_orders"
    OPEN_VALUE = "open_value"
    DAY_VALUE = "day_value"
    DAY_LOSS = "day_loss"
    RESTRICTED = "restricted"
    SESSION = "session"
    SELF_TRADE = "self_trade"
    SHORT = "short"
    SKEW = "skew"
    #: Somebody who was asked has said no.
    NOT_APPROVED = "not_approved"
    #: Signatures are required, and it has none.
    NOT_SIGNED = "not_signed"
    #: The signature fits neither the text nor the order that was recorded with it.
    BAD_SIGNATURE = "bad_signature"
    #: It was signed for another deployment.
    WRONG_DEPLOYMENT = "wrong_deployment"
    #: There is no such key, or it had been revoked, or it is not valid at this time.
    KEY_UNKNOWN = "key_unknown"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    #: The key does not reach so far: another strategy, symbol or broker, or somebody else's order.
    NOT_PERMITTED = "not_permitted"


class CashKind(StrEnum):
    """What an account was paid, charged or given besides its trades."""

    DIVIDEND = "dividend"
    INTEREST = "interest"
    TAX = "tax"
    #: Of the broker; and what authorities and exchanges take.
    FEE = "fee"
    REGULATORY_FEE = "regulatory_fee"
    #: Money or shares that came from another account, or went there.
    TRANSFER = "transfer"
    #: The same between two accounts of one broker.
    JOURNAL = "journal"
    SPLIT = "split"
    #: Merger, spin-off, change of name, and other reorganisations.
    CORPORATE_ACTION = "corporate_action"
    EXERCISE = "exercise"
    ASSIGNMENT = "assignment"
    EXPIRY = "expiry"
    OTHER = "other"


#: Kinds whose quantity is what a position has gained or lost; elsewhere it is the shares that were paid for.
MOVING = frozenset(
    {CashKind.TRANSFER, CashKind.JOURNAL, CashKind.SPLIT, CashKind.CORPORATE_ACTION, CashKind.EXERCISE,
     CashKind.ASSIGNMENT, CashKind.EXPIRY, CashKind.FEE}
)  # fmt: skip

#: Kind of the event that an execution was changed which the record does not have.
UNEXPLAINED = "fill_unexplained"
#: `orders.reason_code` of an order whose cancel or replace waits for the worker that alone may carry it out.
WAITS_FOR_OWNER = "waits_for_owner"

#: The same of an order whose broker shows a status that says neither that it works nor that it has ended.
UNCLEAR = "unclear_at_broker"
#: Code of attempts whose broker says that the id is taken, and shows no order of ours under it.
ID_TAKEN = "id_taken"

#: How `workers.detail` begins where a broker is connected and cannot be read.
CANNOT_READ = "cannot read"

#: Sides that reduce a position: they need the position at the broker, or they open the opposite one.
CLOSING = frozenset({Side.SELL, Side.BUY_TO_COVER})


def signed(side: Side) -> int:
    """Return +1 for sides that add to a position and -1 for sides that take from it."""
    return 1 if side in (Side.BUY, Side.BUY_TO_COVER) else -1
