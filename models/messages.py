"""What travels through the queue: the order object, versions 1 and 2, and the data requests.

Messages are frozen. On the wire numbers are decimal strings and times are ISO 8601 UTC; in Python they are `Decimal`
and aware `datetime`. Anything that can be checked without a broker is checked here, at the call.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from models.clock import utcnow as utcnow
from models.decimals import MAX_DECIMALS as MAX_DECIMALS
from models.decimals import MAX_DIGITS as MAX_DIGITS
from models.decimals import exact as exact
from models.decimals import trimmed as trimmed
from models.destinations import AccountName
from models.encoding import dumps, moment
from models.encoding import plain as plain
from models.errors import InvalidOrder
from models.explaining import explain
from models.fetch_requests import FetchKind as FetchKind
from models.fetch_requests import FetchRequest as FetchRequest
from models.fields import DEFAULT_EXPIRY as _DEFAULT_EXPIRY
from models.fields import Positive, Signed, aware, lower, sequence, version_number
from models.fields import UtcTime as UtcTime
from models.groups import Membership, membership
from models.instruments import PLAIN, RULES, Instrument, misfit, read_instrument, told_class, with_full_year
from models.kinds import EXTRAS, algorithm, kind_named, wrong_extras, wrong_prices
from models.legs import PackageLeg, legs_field, wrong_package
from models.preview_digest import wrong_terms
from models.sizes import wrong_size
from models.vocabulary import AssetClass, OrderType, Side, TimeInForce

T = TypeVar("T")

#: Seconds an order may wait in our queue before it is `expired`, unless it says otherwise.
DEFAULT_EXPIRY_S = _DEFAULT_EXPIRY.total_seconds()
#: Orders in one `orders.submit` message.
MAX_BATCH = 100

# No blanks, commas or quotes (IB's orderRef cannot hold them), nothing that a shell or an option parser reads as its
# own; `~` separates the attempt number in ids we derive.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=@#-]{0,63}")
#: Labels of one order, and characters of one label.
MAX_TAGS, MAX_TAG = 20, 128
#: Letters and digits, dots between them, one / of a pair or one @ before an exchange: what brokers write otherwise
#: (`BRK B`, `BRK/B`), their adapters translate.
_SYMBOL = re.compile(r"(?=.{1,32}$)[A-Z0-9]+(\.[A-Z0-9]+)*([/@][A-Z0-9]+(\.[A-Z0-9]+)*)?")
_CURRENCY = re.compile(r"[A-Z]{3,5}")


#: Fields that version 2 of the order object has, and version 1 has not.
SECOND = frozenset(
    {
        "not_before",
        "session",
        "decision_price",
        "group",
        "asset_class",
        "currency",
        "preview",
        "legs",
        "notional",
        "account",
        *EXTRAS,
    }
)


class OrderRequest(BaseModel):
    """One order as a strategy asks for it.

    Every field takes its own type and no other: `true` is no number, 1 is not true, a number is no text. Numbers may
    be Decimal, int, float or decimal text. Case, and blanks around a word or a number, do not count: what is recorded
    is without them. A line break or another control character is refused.

    Args:
        symbol: the instrument's canonical text, upper case (`models.instruments`): AAPL, BRK.B, AAPL261218C00200000,
            ESZ26@CME, EUR/USD, BTC/USD, SHOP@TSE.
        side: buy, sell, sell_short or buy_to_cover.
        quantity: shares, contracts, or units of a pair's base; greater than zero.
        notional: money to buy for, instead of a quantity; see `models.sizes`. How many that is, its fills say.
        order_type: market (default), limit, stop, stop_limit, trailing_stop, or a rarer one (`models.kinds`).
        limit_price: account currency per share; only and always with limit, stop_limit and limit_if_touched.
        stop_price: trigger, account currency per share; only and always with stop, stop_limit, and orders if touched.
        trail_amount: distance in account currency; trailing_stop takes this or trail_percent.
        trail_percent: distance in percent (1.5 means 1.5 %).
        time_in_force: day, gtc, ioc, fok, opg, cls or gtd; the default is day, of crypto gtc.
        extended_hours: also trade outside the regular session.
        route: brokers in the order to try, `alpaca`, or accounts there, `ibkr:ira`; None takes the settings' route.
        client_order_id: your idempotency key; a fresh UUID if you give none.
        strategy: who asks; kept for the analyst. None in parentheses, which mark what no strategy has ordered.
        tags: free labels; kept for the analyst.
        expires_at: after this moment the order is not sent any more; default 60 s after created_at, or after the
            moment at which an order that was held is released.
        not_before: it is held until then.
        session: regular: it is held while its instrument, or a leg, is not in its regular session; any (default).
        decision_price: money per share at which the strategy decided, such as the middle of the quote it saw; kept for
            the analyst (`history.tca`), and no part of what is ordered.
        group: which leg of which group of linked orders it is: `{"id": ..., "kind": ..., "leg": ...}`.
        legs: what a package trades, 2 to 8 of `{"symbol": ..., "side": ..., "ratio": ..., "position_effect": ...}`
            (`models.legs`); symbol is their underlying then, quantity counts packages, and limit_price has a sign.
        asset_class: us_equity, equity, option, future, forex or crypto; may be left out where the symbol says it.
        currency: of the prices; may be left out where the class says it, or the listing does.
        good_till: until when it may work; with time_in_force gtd alone.
        limit_offset: of a trail_limit order: distance of its limit from its stop.
        display_quantity: how much of a limit order the book shows at a time.
        hidden: the book shows nothing of it.
        algo: by which of its broker's algorithms it is worked: `{"name": "adaptive", "priority": "patient"}`.
        preview: digest of the order that was previewed (`models.preview_digest`): on other terms it is refused.
        account: the name of one of several accounts behind a broker's login, where the route does not name one.

    Raises:
        InvalidOrder: with the field and the value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Annotated[Literal[1, 2], BeforeValidator(version_number)] = 1
    client_order_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    symbol: str
    side: Annotated[Side, Strict(False), BeforeValidator(lower)]
    quantity: Positive | None = None
    notional: Positive | None = None
    order_type: Annotated[OrderType, Strict(False), BeforeValidator(kind_named)] = OrderType.MARKET
    limit_price: Signed | None = None
    stop_price: Positive | None = None
    trail_amount: Positive | None = None
    trail_percent: Positive | None = None
    time_in_force: Annotated[TimeInForce, Strict(False), BeforeValidator(lower)] = TimeInForce.DAY
    extended_hours: bool = False
    route: Annotated[tuple[str, ...], BeforeValidator(sequence)] | None = None
    strategy: str | None = Field(default=None, max_length=128)
    tags: list[str] | dict[str, str] = Field(default_factory=list)
    created_at: UtcTime = Field(default_factory=utcnow)
    expires_at: UtcTime = None  # type: ignore[assignment]  # filled in below
    not_before: UtcTime | None = None
    session: Annotated[Literal["any", "regular"], BeforeValidator(lower)] | None = None
    decision_price: Positive | None = None
    group: Annotated[Membership, BeforeValidator(membership)] | None = None
    legs: Annotated[tuple[PackageLeg, ...], BeforeValidator(legs_field)] | None = None
    asset_class: Annotated[AssetClass, Strict(False), BeforeValidator(lower)] | None = None
    currency: str | None = None
    preview: str | None = None
    good_till: UtcTime | None = None
    limit_offset: Positive | None = None
    display_quantity: Positive | None = None
    hidden: bool | None = None
    algo: Annotated[dict[str, str], BeforeValidator(algorithm)] | None = None
    account: AccountName | None = None

    def __init__(self, **data: object) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InvalidOrder(explain(error)) from None
        if self.preview is not None and (wrong := wrong_terms([self], self.preview)) is not None:
            raise InvalidOrder(wrong)

    @field_validator("client_order_id")
    @classmethod
    def _id_is_plain(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits and . _ : + / = @ # -, the first a letter or digit")
        return value

    @field_validator("group")
    @classmethod
    def _group_is_named_plainly(cls, value: Membership | None) -> Membership | None:
        if value is not None and not _ID.fullmatch(value.id):
            raise ValueError("its id must be as a client_order_id: 1 to 64 letters, digits and . _ : + / = @ # -")
        return value

    @field_validator("symbol", mode="before")
    @classmethod
    def _symbol_is_plain(cls, value: object) -> str:
        text = trimmed(value).upper() if isinstance(value, str) and value.isascii() else ""
        if not _SYMBOL.fullmatch(text):
            raise ValueError("must be a symbol such as AAPL or BRK.B, ESZ26@CME or EUR/USD")
        return text

    @field_validator("currency", mode="before")
    @classmethod
    def _currency_is_a_code(cls, value: object) -> str:
        text = trimmed(value).upper() if isinstance(value, str) and value.isascii() else ""
        if not _CURRENCY.fullmatch(text):
            raise ValueError("must be the code of a currency, such as USD")
        return text

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategy_is_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if not value.isprintable():
            raise ValueError("must be printable: no control characters, none that turn the direction of writing")
        name = value.strip()
        if name.startswith("(") and name.endswith(")"):
            raise ValueError(
                "must not stand in parentheses, as only what is nobody's order does: (external), (baseline)"
            )
        return name

    @field_validator("tags", mode="before")
    @classmethod
    def _tags_are_labels(cls, value: object) -> list[str] | dict[str, str]:
        """Take texts, or texts by name, few and short enough to be kept."""
        if not isinstance(value, (list, tuple, dict)):
            raise ValueError("must be a list of texts, or texts by name")
        labels = [*value, *value.values()] if isinstance(value, dict) else value
        if not all(isinstance(label, str) for label in labels):
            raise ValueError("must be a list of texts, or texts by name")
        if len(value) > MAX_TAGS:
            raise ValueError(f"at most {MAX_TAGS} tags, had {len(value)}")
        if any(len(label) > MAX_TAG or not label.isprintable() for label in labels):
            raise ValueError(f"every tag must be at most {MAX_TAG} printable characters")
        if not isinstance(value, dict):
            return [label.strip() for label in value]
        kept = {name.strip(): label.strip() for name, label in value.items()}
        if len(kept) < len(value):
            raise ValueError("must have each name once, whatever blanks are around it")
        return kept

    @field_validator("route")
    @classmethod
    def _route_is_a_list(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("must name at least one broker, each once")
        return value

    @model_validator(mode="before")
    @classmethod
    def _expiry_defaults(cls, data: object) -> object:
        """Fill in when an order was made and when it is too old, and drop what is null."""
        if isinstance(data, dict):
            # JSON null means "not given" for everything that has a default.
            data = {key: value for key, value in data.items() if value is not None}
            if "created_at" not in data:
                data["created_at"] = utcnow()
            if "version" not in data and not SECOND.isdisjoint(data):
                data["version"] = 2
            if "expires_at" not in data:
                try:
                    data["expires_at"] = aware(data["created_at"]) + _DEFAULT_EXPIRY
                except ValueError:
                    data["expires_at"] = utcnow()  # created_at is reported by its own field
            if "asset_class" in data:
                _by_class(data)
        return data

    @model_validator(mode="after")
    def _prices_fit_the_type(self) -> Self:
        """See that an order has the prices that its type needs, and no other."""
        if self.expires_at <= self.created_at:
            raise ValueError(f"expires_at: must be after created_at, was {self.expires_at.isoformat()}")
        if self.version == 1 and (newer := sorted(name for name in SECOND if getattr(self, name) is not None)):
            raise ValueError(f"{newer[0]}: only an order object of version 2 has it")
        odd = self.notional is not None or self.quantity is None
        if odd and (wrong := wrong_size(self, self.instrument.asset_class)):
            raise ValueError(wrong)
        if self.legs is not None and (wrong := wrong_package(self)) is not None:
            raise ValueError(wrong)
        if self.asset_class or self.currency or told_class(self.symbol) is not AssetClass.US_EQUITY:
            self._fits_its_class()
        if wrong := wrong_prices(self):
            raise ValueError(wrong)
        if (self.time_in_force is TimeInForce.GTD or self.version == 2) and (wrong := wrong_extras(self)):
            raise ValueError(wrong)
        return self

    def _fits_its_class(self) -> None:
        """See that the symbol is one of its class, and the terms those that the class has."""
        if (wrong := misfit(self, self.instrument, self.created_at.date())) is not None:
            raise ValueError(wrong)

    @property
    def units(self) -> Decimal:
        """The quantity, where an order of money has been refused already.

        Raises:
            ValueError: it is one.
        """
        if self.quantity is None:
            raise ValueError(f"quantity: {self.client_order_id} is an order of money")
        return self.quantity

    @property
    def instrument(self) -> Instrument:
        """What is to be traded.

        Raises:
            ValueError: the symbol is none of its class; never of an order that was validated.
        """
        return read_instrument(self.symbol, self.asset_class, self.currency)

    @property
    def body_hash(self) -> str:
        """Digest of what is ordered: two requests under one id are the same order if it is equal.

        Times, route, account and decision price are left out: a repeated call has a new `created_at` and may have seen
        another quote, and route and account say where, not what.
        """
        tags = sorted(self.tags.items()) if isinstance(self.tags, dict) else self.tags
        held = [self.not_before, self.session] if self.not_before or self.session == "regular" else []
        linked = [list(self.group.to_wire().values())] if self.group else []
        package = [[leg.to_wire() for leg in self.legs]] if self.legs else []
        rare = {name: value for name in ("notional", *EXTRAS) if (value := getattr(self, name))}
        body = [tags, *_body(vars(self)), *held, *linked, *package, *self._class_terms(), *([rare] if rare else [])]
        return hashlib.sha256(dumps(body)).hexdigest()

    def _class_terms(self) -> list[dict[str, str | None]]:
        """Return what the symbol leaves open: nothing of shares in the United States, nor of options on them."""
        if self.asset_class in _SAID_BY_SYMBOL:
            return []
        is_listed = "@" in self.symbol
        return [{"asset_class": self.asset_class, "currency": self.currency if is_listed else None}]

    def to_wire(self) -> dict[str, object]:
        """Return the order object as it travels: decimal strings, ISO times, JSON types only."""
        hidden = SECOND if self.version == 1 else frozenset[str]()
        return {name: _wire(getattr(self, name)) for name in type(self).model_fields if name not in hidden}


_BODY = (
    "symbol", "side", "quantity", "order_type", "limit_price", "stop_price", "trail_amount", "trail_percent",
    "time_in_force", "extended_hours", "strategy",
)  # fmt: skip
_body = itemgetter(*_BODY)
#: Classes that are no part of an order's body: its symbol says them.
_SAID_BY_SYMBOL = PLAIN | {None}


def _by_class(data: dict[str, object]) -> None:
    """Fill in what depends on the class: the year of a future in full, the usual time in force."""
    kind, symbol, at = data["asset_class"], data.get("symbol"), data["created_at"]
    if not isinstance(kind, str) or (word := kind.strip().lower()) not in set(AssetClass):
        return
    if word == AssetClass.OPTION and "legs" in data:
        del data["asset_class"]  # its legs are that: the symbol is their underlying
    if word == AssetClass.FUTURE and isinstance(symbol, str) and "@" in symbol:
        try:
            data["symbol"] = with_full_year(symbol.strip().upper(), aware(at).date())
        except ValueError:
            return  # created_at is reported by its own field
    data.setdefault("time_in_force", RULES[AssetClass(word)].usual)


def _wire(value: object) -> object:
    """Return a value as it travels: decimals and times as text, tuples as lists."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, tuple):
        return [_wire(one) for one in value]
    return value.to_wire() if isinstance(value, (Membership, PackageLeg)) else value


def is_id(text: str) -> bool:
    """Tell whether a text may be a client_order_id."""
    return _ID.fullmatch(text) is not None


def denied_id(body: object) -> str:
    """Return a stable id for an order object that came without a usable one, so that a copy of it is the same row."""
    try:
        text = json.dumps(body, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):  # keys of several types, a circle, too deep
        text = f"{body!r:.10000}"
    return "invalid-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def batches(items: Sequence[T], size: int = MAX_BATCH) -> list[Sequence[T]]:
    """Cut a sequence into pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
