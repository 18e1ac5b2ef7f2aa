"""What brokers say, in one language: frozen values that adapters produce and the worker applies.

Symbols are canonical texts (`models.instruments`), or names that no order can have where the broker shows something
else. Quantities are shares, contracts, or units of a pair's base, prices are money per share or unit, times are aware
UTC. `None` means the broker did not say; it never means zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from models.encoding import fitted
from models.vocabulary import CashKind, OrderType, Side, TimeInForce


class BrokerStatus(StrEnum):
    """State of an order as its broker shows it, folded from each broker's own words.

    Source: docs/facts/ibkr.md#3.1, docs/facts/alpaca.md#2.9, docs/facts/schwab.md#2.5.
    """

    #: The broker has it; it works, waits for its trigger, or waits for the session.
    ACCEPTED = "accepted"
    #: Some of it is filled, the rest works.
    PARTIALLY_FILLED = "partially_filled"
    #: A cancel was requested; it can still fill.
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    #: Dead by the broker's decision; with filled_quantity 0 it never traded.
    REJECTED = "rejected"
    #: Replaced by another order of the same broker.
    REPLACED = "replaced"
    #: A word this adapter does not know: read again, decide nothing.
    UNKNOWN = "unknown"


#: Raw statuses that are no word of a broker's: its executions alone are known of an order, or it could not be read.
EXECUTIONS_ONLY, UNREADABLE = OURS = ("executions only", "unreadable")
#: Statuses after which the broker will do nothing more with the order.
DONE = frozenset(
    {BrokerStatus.FILLED, BrokerStatus.CANCELED, BrokerStatus.EXPIRED, BrokerStatus.REJECTED, BrokerStatus.REPLACED}
)


#: Characters that the record keeps of an id, or of whatever a broker calls an instrument; the same in every table.
LONGEST_IDS = {
    "execution_id": 128, "broker_client_order_id": 128, "part_of": 128,
    "broker_order_id": 64, "replaces": 64, "replaced_by": 64, "symbol": 64,
}  # fmt: skip


class _Identified:
    """A report whose ids are as the record keeps them, so that each is found there again by whoever compares."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, longest in LONGEST_IDS.items():
            if (told := getattr(self, name, None)) is not None and (kept := fitted(told, longest)) is not told:
                object.__setattr__(self, name, kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class FillReport(_Identified):
    """One execution."""

    #: The broker's own id of this execution; unique per broker, and the same for every correction of it.
    execution_id: str
    quantity: Decimal
    #: None until the broker tells it; never 0, never an order's limit price.
    price: Decimal | None
    filled_at: datetime
    #: False where the broker's time could not be read with certainty (IB's, where the zone of TWS is not known):
    #: `filled_at` is then when this process first heard of the execution, late by as long as it was away.
    timed: bool = True
    #: A correction carries a higher number than what it corrects (IB: the last part of the execId).
    revision: int = 0
    #: The broker has taken this execution back: it counts no more.
    busted: bool = False
    #: It changes an execution that was told before and is none itself: where the record has none under its id, there is
    #: nothing to book. Only of brokers whose feeds name one execution differently, so that another name may hide it.
    amends: bool = False
    #: Read from a listing, which shows it as it stands now: other content under the same id is a correction.
    listed: bool = False
    #: Nobody told of it: the difference between the broker's total and its executions.
    inferred: bool = False
    #: Currency of the price; None where the broker does not say.
    currency: str | None = None
    #: Money per unit and unit of price (options 100, ES 50); None where the symbol says it.
    multiplier: Decimal | None = None
    symbol: str | None = None
    side: Side | None = None
    #: Of an order with legs, which one, from 1 as its broker lists them.
    leg: int | None = None
    #: Our id as the broker echoes it (Alpaca client_order_id, IB orderRef); None where the broker has none.
    broker_client_order_id: str | None = None
    broker_order_id: str | None = None
    #: The connection that placed the order (IB's client id); None where the broker does not say.
    session: str | None = None
    #: The name of the account, where its broker's login has several; None where it is used as one.
    account: str | None = None
    #: Quantity filled on this order at this broker including this fill. Lets two feeds that name the same execution
    #: differently (Alpaca's stream and its activities) be recognised as one.
    cumulative_quantity: Decimal | None = None
    #: In `commission_currency`; None until the broker reports it (IB sends it separately).
    commission: Decimal | None = None
    commission_currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LegReport:
    """One leg of a package as its broker shows it (`models.legs`)."""

    symbol: str | None
    side: Side | None
    #: In one package; None where it cannot be read.
    ratio: Decimal | None
    #: Of this leg; None where its broker tells only packages, or executions.
    filled_quantity: Decimal | None = None
    avg_fill_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissionReport(_Identified):
    """The commission of an execution that was, or will be, reported by its id."""

    execution_id: str
    commission: Decimal
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport(_Identified):
    """One order as its broker shows it now."""

    broker_order_id: str | None
    status: BrokerStatus
    broker_client_order_id: str | None = None
    symbol: str | None = None
    side: Side | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None
    quantity: Decimal | None = None
    #: Of an order for an amount of money, that.
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    #: Of a trailing stop with a limit, how far that is from the stop.
    limit_offset: Decimal | None = None
    extended_hours: bool | None = None
    #: Of its prices, and money per unit and unit of price; None where the broker does not say, or the symbol does.
    currency: str | None = None
    multiplier: Decimal | None = None
    #: What about it no order of corro's has (an amount of money as its size, legs, another class of assets), in words:
    #: whatever id it carries, it is not ours.
    unlike_ours: tuple[str, ...] = ()
    #: The broker's ids of the order that this one replaced, and of the one that replaced it.
    replaces: str | None = None
    replaced_by: str | None = None
    #: The latter, where the same answer shows it.
    heir: OrderReport | None = None
    #: The legs of a package: quantity and filled_quantity count packages then, prices have a sign, executions are of
    #: the legs; empty of an order in one instrument.
    package: tuple[LegReport, ...] = ()
    #: How the broker links it to others, in its own word; None: to none, or it does not say.
    linked: str | None = None
    #: The orders that are linked to it, as far as the same answer shows them.
    legs: tuple[OrderReport, ...] = ()
    #: Of one of those: our id of the order that it is linked to.
    part_of: str | None = None
    #: The connection that placed it and alone may cancel or change it (IB's client id); None where any may.
    session: str | None = None
    #: The name of the account, where its broker's login has several; None where it is used as one.
    account: str | None = None
    #: Cumulative at the broker; None where it is only known from executions (IB).
    filled_quantity: Decimal | None = None
    avg_fill_price: Decimal | None = None
    #: Executions the same answer carried (Schwab's executionLegs); empty when they travel separately.
    fills: tuple[FillReport, ...] = ()
    #: Broker's code and words for a rejection or a cancel.
    code: str | None = None
    message: str | None = None
    #: The broker's own word for the status, as evidence.
    raw_status: str | None = None
    #: It is dead for now, and its broker may still bring it to life again (IB's Inactive after a refusing code).
    dormant: bool = False
    submitted_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def word(self) -> str | None:
        """The broker's own word for the status, as `orders.broker_status` keeps it; None where it has said none."""
        return None if self.raw_status in OURS else self.raw_status and self.raw_status[:64]

    @property
    def at_work(self) -> bool:
        """Whether the broker shows it as one that may trade."""
        return self.status in (BrokerStatus.ACCEPTED, BrokerStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The broker shows the order."""

    report: OrderReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Every place where the broker would show the order was read completely, and it is in none of them.

    One such reading proves nothing yet: the reconciler asks for several, spaced in time.
    """

    #: Which listings answered, for the record.
    evidence: str
    #: Whatever of it the broker held unseen has been taken back by its number: nothing of it can come to life any more.
    withdrawn: bool = False


#: Candidates that are named of an ambiguous answer.
MOST_CANDIDATES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """Several orders at the broker could be ours, or one has our id and not our terms; a person has to choose."""

    candidates: tuple[OrderReport, ...]
    #: Why none of them can be taken for ours, for the evidence and the person.
    words: str = ""

    @property
    def text(self) -> str:
        """Say it to a person."""
        if self.words:
            return self.words
        if not self.candidates:
            return "it was sent before what the broker still lists, so not seeing it proves nothing"
        ids = ", ".join(str(report.broker_order_id) for report in self.candidates[:MOST_CANDIDATES])
        return f"{len(self.candidates)} orders at the broker could be it: {ids}"


Sighting = Found | Missing | Ambiguous


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """Money of one account, in its currency."""

    #: As the broker names it; where its login has several, the name in the settings: so too in what follows.
    account_id: str
    currency: str = "USD"
    buying_power: Decimal | None = None
    cash: Decimal | None = None
    equity: Decimal | None = None
    portfolio_value: Decimal | None = None
    #: IB's TotalCashValue, Alpaca's and Schwab's cash plus nothing: what the seed calls total liquidity.
    total_liquidity: Decimal | None = None
    day_trade_count: int | None = None
    paper: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionReport(_Identified):
    """One holding; quantity is negative for a short position."""

    symbol: str
    #: None where the broker's row cannot be read: something is held, nobody knows how much; never 0.
    quantity: Decimal | None
    avg_price: Decimal | None = None
    market_value: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    account_id: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CashEventReport(_Identified):
    """Something that an account was paid, charged or given besides its trades."""

    #: The broker's id of it; unique per broker.
    event_id: str
    kind: CashKind
    at: datetime
    #: Positive is a gain of the account; None where no money moved.
    amount: Decimal | None = None
    currency: str | None = None
    symbol: str | None = None
    #: What the position gained, for the kinds in `models.vocabulary.MOVING`; elsewhere the shares that were paid for.
    quantity: Decimal | None = None
    price: Decimal | None = None
    account_id: str | None = None
    #: Of the order that it is about.
    broker_order_id: str | None = None
    #: The broker's own word and description.
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteReport:
    """Top of the book. Missing values are None, never NaN, 0 or -1."""

    symbol: str
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    last_size: Decimal | None = None
    #: Of bid_size and ask_size: "shares", or "unspecified" where the feed's numbers may be shares or round lots, which
    #: are 100, 40, 10 or 1 shares by the price of the stock. last_size is always shares.
    size_unit: Literal["shares", "unspecified"] = "shares"
    #: Shares traded today.
    volume: Decimal | None = None
    #: Time of the quote at the broker.
    at: datetime | None = None
    delayed: bool = False
    #: Of its prices, where the broker says it: a share of another country has one that its symbol does not tell.
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One candle; `start` is the beginning of its interval, volume is shares."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Bars(list[Bar]):
    """Candles, oldest first, and how many more the broker showed without their prices or their time."""

    def __init__(self, bars: Iterable[Bar] = (), *, left_out: int = 0) -> None:
        super().__init__(bars)
        self.left_out = left_out


#: What an adapter may push through `updates`.
Report = OrderReport | FillReport | CommissionReport
