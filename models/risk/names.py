"""The names of limits, what values they take, and the scopes that they hold in: `[risk]` of the settings, and rows.

`[risk]` holds for every order; `[risk.broker.alpaca]`, `[risk.account."ibkr:ira"]`, `[risk.strategy.dip]`,
`[risk.symbol.KO]` and `[risk.key."dividends-2"]` for those of one. A row of `risk_limits` beats the same limit of the
settings while it is in force; of several limits on one order the tightest wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from models.decimals import MAX_DECIMALS, MAX_DIGITS, exact
from models.destinations import names_account
from models.encoding import plain
from models.errors import InvalidRequest
from models.explaining import explain

#: The scope of everything.
EVERYTHING = "*"
#: Kinds of scopes, the widest first; `corro limits set` takes each of them.
SCOPES = (EVERYTHING, "broker", "account", "strategy", "symbol", "strategy+symbol", "key")
#: A refusal in such a scope is about one broker: the order goes on along its route.
LOCAL = frozenset({"broker", "account"})
#: Who set a limit that no row has.
FROM_SETTINGS = "settings"
LimitValue = Decimal | bool | str


def _number(value: object) -> Decimal:
    number = exact(value)
    if number < 0:
        raise ValueError("must not be less than zero")
    # As they are written out: 1e15 has sixteen digits, and 0.10 two decimals.
    digits = max(len(number.as_tuple().digits), number.adjusted() + 1)
    if digits > MAX_DIGITS or -int(number.as_tuple().exponent) > MAX_DECIMALS:
        raise ValueError(f"must have at most {MAX_DIGITS} digits, {MAX_DECIMALS} of them decimals")
    return number


def _count(value: object) -> Decimal:
    number = _number(value)
    if number != number.to_integral_value():
        raise ValueError("must be a whole number")
    return number


def _some_time(value: object) -> Decimal:
    number = _number(value)
    if not 0 < number <= 30 * 86_400:
        raise ValueError("must be seconds, more than 0 and at most 30 days")
    return number


def _yes_or_no(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


#: Units, or money in the currency of `[risk]`; 0 allows none.
Amount = Annotated[Decimal, BeforeValidator(_number)]
Count = Annotated[Decimal, BeforeValidator(_count)]
Seconds = Annotated[Decimal, BeforeValidator(_some_time)]
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]


class ScopedLimits(BaseModel):
    """The limits of one scope; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Units of one order.
    max_quantity: Amount | None = None
    #: Quantity x multiplier x price of one order.
    max_value: Amount | None = None
    #: How far a limit price may be from the reference price on the side that costs, percent.
    collar_percent: Amount | None = None
    #: A reference price is good for so long.
    price_max_age: Seconds | None = None
    orders_per_minute: Count | None = None
    #: Orders, replaces and cancels; never stops a cancel.
    messages_per_minute: Count | None = None
    #: The order of this number, alike in strategy, symbol, side and quantity, within `repeat_seconds`, is denied.
    repeat_count: Count | None = None
    repeat_seconds: Seconds | None = None
    #: Units of one symbol, long or short: held, open and this order together.
    max_position: Amount | None = None
    max_open_orders: Count | None = None
    #: Value of what is open on both sides.
    max_open_value: Amount | None = None
    #: Value of what reached a broker on one day.
    max_day_value: Amount | None = None
    #: Realized loss of one day, fees included.
    max_day_loss: Amount | None = None
    #: When orders may be sent: at any time, in the regular session, in the extended one too.
    session: Literal["any", "regular", "extended"] | None = None
    #: Whether an order may meet an open one of ours.
    self_trade: Literal["deny", "allow"] | None = None
    allow_short: YesOrNo | None = None
    #: Nothing may be sent.
    restricted: YesOrNo | None = None
    #: How far an order's created_at may be from our clock, seconds.
    skew: Seconds | None = None
    #: How long an order may be held before it is released.
    max_lifetime: Seconds | None = None
    #: An order of more value waits for somebody's approval.
    approve_above_value: Amount | None = None


class BrokerLimits(ScopedLimits):
    """The limits of one broker."""

    #: A broker with `live = true` is meant to have neither a size nor a value limit.
    unlimited: YesOrNo = False


class RiskSettings(ScopedLimits):
    """`[risk]`: limits that hold for every order, and tables for those of one broker, strategy, symbol ..."""

    #: Of every amount of money in a limit.
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3,8}$")
    #: Whose midnight begins a day.
    day_timezone: str = "America/New_York"
    broker: dict[str, BrokerLimits] = Field(default_factory=dict)
    #: By `broker:account`.
    account: dict[str, ScopedLimits] = Field(default_factory=dict)
    strategy: dict[str, ScopedLimits] = Field(default_factory=dict)
    symbol: dict[str, ScopedLimits] = Field(default_factory=dict)
    key: dict[str, ScopedLimits] = Field(default_factory=dict)

    @field_validator("day_timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("must be a time zone such as America/New_York or UTC") from None
        return value

    @field_validator("broker", "account", "strategy", "symbol", "key", mode="before")
    @classmethod
    def _names_as_orders_have_them(cls, value: object, info: ValidationInfo) -> object:
        """Read the names of tables without blanks around them, symbols in capitals; each stands there once."""
        if not isinstance(value, dict):
            return value
        names = [str(name).strip() for name in value]
        names = [name.upper() for name in names] if info.field_name == "symbol" else names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]} has two tables")
        return dict(zip(names, value.values(), strict=True))

    @field_validator("account")
    @classmethod
    def _accounts_name_their_broker(cls, value: dict[str, ScopedLimits]) -> dict[str, ScopedLimits]:
        for name in value:
            if not names_account(name):
                raise ValueError(f'must be named by broker and account, such as [risk.account."ibkr:ira"], had {name}')
        return value

    def day(self, now: datetime) -> str:
        """Return the date of a moment, as limits of a day count it."""
        return now.astimezone(ZoneInfo(self.day_timezone)).date().isoformat()

    def day_began(self, now: datetime) -> datetime:
        """Return when the day of a moment began, UTC."""
        zone = ZoneInfo(self.day_timezone)
        return datetime.combine(now.astimezone(zone).date(), time(), zone).astimezone(UTC)


#: Names of limits.
NAMES = tuple(ScopedLimits.model_fields)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit in one scope."""

    scope_kind: str
    scope: str
    name: str
    value: LimitValue
    until: datetime | None = None
    set_by: str = FROM_SETTINGS

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells limits apart: of two with one place one alone is in force."""
        return self.scope_kind, self.scope, self.name

    @property
    def is_local(self) -> bool:
        """It is about one broker: another one may still have the order."""
        return self.scope_kind in LOCAL

    @property
    def number(self) -> Decimal:
        """The value of a limit that is a number."""
        assert isinstance(self.value, Decimal)
        return self.value

    @property
    def allows(self) -> str:
        """Its name and value."""
        return f"{self.name} {value_text(self.value)}"

    @property
    def words(self) -> str:
        """The limit for a person: name, value and scope."""
        return f"{self.allows} of {scope_words(self.scope_kind, self.scope)}"


def limit_told(limit: Limit, *, with_scope: bool = True) -> str:
    """Say what a limit allows, where, and until when, as people and the journal are told of it."""
    until = f" until {limit.until:%Y-%m-%d %H:%M:%S} UTC" if limit.until else ""
    return f"{limit.words if with_scope else limit.allows}{until}"


def scope_words(scope_kind: str, scope: str) -> str:
    """Name a scope for a person."""
    return "all orders" if scope_kind == EVERYTHING else f"{scope_kind} {scope}"


def value_text(value: LimitValue) -> str:
    """Write the value of a limit as rows and tables have it."""
    return plain(value) if isinstance(value, Decimal) else str(value).lower()


def read_value(name: str, text: str) -> LimitValue:
    """Read the value of a limit.

    Raises:
        InvalidRequest: there is no such limit, or it does not take this value.
    """
    if name not in NAMES:
        raise InvalidRequest(f"{name}: no such limit; there are {', '.join(NAMES)}")
    try:
        value: LimitValue = getattr(ScopedLimits.model_validate({name: text}), name)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None
    return value


def scopes_of(
    *, broker: str | None, account: str | None, strategy: str | None, symbol: str | None, key: str | None
) -> dict[str, str]:
    """Return the scopes that an order is in, by their kinds; one that it has no name for is left out."""
    found = {
        EVERYTHING: EVERYTHING,
        "broker": broker,
        "account": f"{broker}:{account}" if account else None,
        "strategy": strategy,
        "symbol": symbol,
        "strategy+symbol": f"{strategy}:{symbol}" if strategy else None,
        "key": key,
    }
    return {kind: name for kind, name in found.items() if name}


def from_settings(risk: RiskSettings) -> dict[tuple[str, str, str], Limit]:
    """Return the limits of the settings, by their places."""
    tables: list[tuple[str, str, ScopedLimits]] = [(EVERYTHING, EVERYTHING, risk)]
    for kind in ("broker", "account", "strategy", "symbol", "key"):
        tables += [(kind, name, table) for name, table in getattr(risk, kind).items()]
    limits = [
        Limit(kind, scope, name, value)
        for kind, scope, table in tables
        for name in NAMES
        if (value := getattr(table, name)) is not None
    ]
    return {limit.place: limit for limit in limits}


def in_force(seeds: Mapping[tuple[str, str, str], Limit], rows: Iterable[Limit], now: datetime) -> tuple[Limit, ...]:
    """Return the limits in force: those of the settings, each beaten by that of a row while it is in force."""
    found = dict(seeds) | {limit.place: limit for limit in rows if limit.until is None or limit.until > now}
    return tuple(sorted(found.values(), key=lambda limit: (SCOPES.index(limit.scope_kind), *limit.place)))


def that_apply(limits: Iterable[Limit], scopes: Mapping[str, str]) -> list[Limit]:
    """Return the limits that hold for an order in these scopes."""
    return [limit for limit in limits if scopes.get(limit.scope_kind) == limit.scope]
