"""What brokers tell without an order: which instruments there are, and what an order would cost. Frozen values.

`None` means that the broker did not say; it never means zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from decimal import Decimal

from models.clock import utcnow
from models.errors import InvalidRequest
from models.explaining import shown
from models.instruments import Instrument, may_be, read_instrument, with_full_year
from models.trading_hours import PriceBand, TradingHours
from models.vocabulary import AssetClass

#: Instruments that one look-up may bring, and brings where nobody has said how many.
MOST_FOUND, USUALLY_FOUND = 10_000, 1_000
#: Characters of a name that are kept.
LONGEST_NAME = 128
#: Classes whose instruments end on a day.
EXPIRING = frozenset({AssetClass.OPTION, AssetClass.FUTURE})
_WORD = re.compile(r"[A-Z0-9]+(?:\.[A-Z0-9]+)*(?:[/@][A-Z0-9]+(?:\.[A-Z0-9]+)*)?")
#: What a search looks for: words of a name, or the beginning of a symbol.
_WORDS = re.compile(r"[A-Z0-9][A-Z0-9 .&'-]{0,31}")
_ROOT = re.compile(r"(?P<root>[A-Z0-9]{1,6})(?:@(?P<listing>[A-Z0-9]+(?:\.[A-Z0-9]+)*))?")
_MONTH = re.compile(r"(?P<year>20[0-9]{2})-(?P<month>0[1-9]|1[0-2])")


# -- INSTRUMENTS ---
@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentReport:
    """One instrument as its broker knows it.

    Args:
        symbol, asset_class, underlying, currency, listing, right, strike, multiplier: as of an `Instrument`.
        expiry: the last day of an option; of a future its last day of trading.
        price_increment: the finest step of its prices; there may be coarser ones in some ranges of prices.
        price_bands: those ranges, where the broker tells them.
        hours: when it trades, in the days around.
        lot_size: quantities go in steps of it.
        broker_symbol: what it is called there (IB's localSymbol, OCC with blanks, TDA's `AAPL_121826C200`).
        broker_id: the broker's own id (IB's conId, Alpaca's asset id, Schwab's CUSIP).
        name: in words.
        tradable: whether the broker takes orders in it now.
        detail: what the adapter needs to know it again without asking; for nobody else.
    """

    symbol: str
    asset_class: AssetClass
    underlying: str
    currency: str
    listing: str | None = None
    expiry: date | None = None
    right: str | None = None
    strike: Decimal | None = None
    multiplier: Decimal | None = None
    price_increment: Decimal | None = None
    lot_size: Decimal | None = None
    broker_symbol: str | None = None
    broker_id: str | None = None
    name: str | None = None
    tradable: bool | None = None
    price_bands: tuple[PriceBand, ...] | None = None
    hours: TradingHours | None = None
    detail: dict[str, str] | None = None


def report_of(instrument: Instrument, currency: str, name: object = None, **told: object) -> InstrumentReport:
    """Return the report of an instrument: what its text says, and over that what its broker has told.

    Args:
        instrument: that was meant.
        currency: of its prices.
        name: as the broker tells it, of whatever type and length.
        **told: other fields of the report; None leaves what the text says.
    """
    said: dict[str, object] = {
        "underlying": instrument.underlying, "listing": instrument.listing, "expiry": instrument.expiry,
        "right": instrument.right, "strike": instrument.strike, "multiplier": instrument.multiplier,
    }  # fmt: skip
    return InstrumentReport(
        symbol=instrument.symbol,
        asset_class=instrument.asset_class,
        currency=currency,
        name=str(name or "")[:LONGEST_NAME] or None,
        **said | {name: value for name, value in told.items() if value is not None},  # type: ignore[arg-type]
    )


class FoundInstruments(list[InstrumentReport]):
    """Instruments by expiry, strike and right; `more`: the broker has others, beyond what was asked for."""

    def __init__(self, found: Iterable[InstrumentReport] = (), *, more: bool = False, limit: int = MOST_FOUND) -> None:
        every = sorted(found, key=_place)
        super().__init__(every[:limit])
        self.more = more or len(every) > limit

    def rows(self, broker: str, at: datetime | None) -> list[dict[str, object]]:
        """Return them as rows of the table `instruments`: whose they are, and when it was told."""
        told = [asdict(one) | {"broker": broker, "resolved_at": at} for one in self]
        return [{name: value for name, value in row.items() if name != "detail"} for row in told]


def _place(one: InstrumentReport) -> tuple[date, Decimal, str, str]:
    return one.expiry or date.max, one.strike or Decimal(0), one.right or "", one.symbol


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentQuery:
    """What to look up.

    Args:
        text: a canonical text; or the underlying of a chain of options, or the root of futures (`ES`, `ES@CME`).
        asset_class: None where the text says it, or may be of several classes.
        first, last: days between which the instruments expire; None is no bound.
        limit: how many at most, those that expire first.
        search: the text is words of a name, or the beginning of a symbol.
    """

    text: str
    asset_class: AssetClass | None = None
    first: date | None = None
    last: date | None = None
    limit: int = USUALLY_FOUND
    search: bool = False
    #: The instruments that the text may name, the likelier first; none of a chain.
    named: tuple[Instrument, ...] = field(default=())

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> InstrumentQuery:
        """Read a request as it travels: query, asset_class, expiry (a day or a month, ISO), limit, search.

        Raises:
            InvalidRequest: names the field and the value.
        """
        kind, limit = _class(fields.get("asset_class")), fields.get("limit")
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_FOUND
        ):
            raise InvalidRequest(f"limit: must be 1 to {MOST_FOUND}, was {shown(limit)}")
        if fields.get("search") is True:
            return cls(text=_words(fields), limit=limit or USUALLY_FOUND, search=True)
        text = _text(fields.get("query"))
        first, last = days(fields.get("expiry"))
        if first is not None and kind not in EXPIRING:
            told = "none was given" if kind is None else f"it was {kind}"
            raise InvalidRequest(f"expiry: goes with asset_class {' or '.join(sorted(EXPIRING))}, and {told}")
        if kind is AssetClass.FUTURE:
            text = with_full_year(text, utcnow().date())
        named = tuple(_named(text, kind))
        if not named and (kind not in EXPIRING or not _ROOT.fullmatch(text)):
            words = f"an instrument of asset_class {kind}" if kind else "an instrument such as AAPL or EUR/USD"
            raise InvalidRequest(f"query: must name {words}, was {shown(text)}")
        return cls(
            text=text, asset_class=kind, first=first, last=last, limit=limit or USUALLY_FOUND, named=named
        )  # fmt: skip

    @property
    def is_chain(self) -> bool:
        """Whether it asks for all that expires of an underlying, or a root."""
        return not self.named and not self.search

    @property
    def root(self) -> str:
        """The underlying of a chain."""
        return self.text.partition("@")[0]

    @property
    def exchange(self) -> str | None:
        """Where the futures of a chain trade; None where nobody has said."""
        return self.text.partition("@")[2] or None

    def expires_in(self, day: date) -> bool:
        """Tell whether a day is one of those asked for; none that is over is."""
        return max(self.first or day, utcnow().date()) <= day <= (self.last or day)


def _named(text: str, kind: AssetClass | None) -> Iterable[Instrument]:
    for each in (kind,) if kind else may_be(text):
        try:
            yield read_instrument(text, each)
        except ValueError:
            continue


def _words(fields: Mapping[str, object]) -> str:
    """Return what is searched for; a search is for shares, whatever they are called."""
    for name in ("asset_class", "expiry"):
        if fields.get(name) is not None:
            raise InvalidRequest(f"{name}: a search takes none, was {shown(fields[name])}")
    value = fields.get("query")
    text = value.strip().upper() if isinstance(value, str) and value.isascii() else ""
    if not _WORDS.fullmatch(text):
        raise InvalidRequest(f"query: must be words such as COCA COLA, was {shown(value)}")
    return text


def _text(value: object) -> str:
    text = value.strip().upper() if isinstance(value, str) and value.isascii() else ""
    if len(text) > 32 or not _WORD.fullmatch(text):
        raise InvalidRequest(f"query: must be a symbol such as AAPL, ESZ26@CME or EUR/USD, was {shown(value)}")
    return text


def _class(value: object) -> AssetClass | None:
    if value is None:
        return None
    word = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(word, str) or word not in set(AssetClass):
        raise InvalidRequest(f"asset_class: must be one of {', '.join(AssetClass)}, was {shown(value)}")
    return AssetClass(word)


def days(value: object) -> tuple[date | None, date | None]:
    """Return the first and the last day that an expiry means: a day is both, a month has its own.

    Raises:
        InvalidRequest: it is neither, ISO.
    """
    if value is None:
        return None, None
    try:
        if isinstance(value, str) and (month := _MONTH.fullmatch(value.strip())):
            first = date(int(month["year"]), int(month["month"]), 1)
            return first, date.fromordinal(
                date(first.year + first.month // 12, first.month % 12 + 1, 1).toordinal() - 1
            )
        day = date.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        day = None
    if day is None:
        raise InvalidRequest(f"expiry: must be a day or a month such as 2026-12-18 or 2026-12, was {shown(value)}")
    return day, day


# -- PREVIEWS ---
@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewReport:
    """What one broker says of an order that is not sent.

    Args:
        supported: whether it takes such orders at all.
        margin_before, margin_after: initial margin of the whole account, without the order and with it.
        commission: of the whole order, with what the broker adds to it as fees.
        currency: of these amounts.
        warnings: its words, and ours about its words.
        refused: why it would refuse the order, in words.
    """

    supported: bool = True
    margin_before: Decimal | None = None
    margin_after: Decimal | None = None
    commission: Decimal | None = None
    currency: str | None = None
    warnings: tuple[str, ...] = ()
    refused: str | None = None
