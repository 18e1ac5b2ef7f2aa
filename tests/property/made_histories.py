"""Random histories of executions, many in one database: written, kept in part, corrected, taken back, told late."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert, update

from models.record.database import Database
from models.record.keeping import keep
from models.record.tables import attempts, external_fills, fills, orders
from tests.property.earned import ZERO, DefinedTrade, Whose

#: The Thursday before clocks are changed in New York; histories are of six days.
BEGIN = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
MINUTES = 6 * 24 * 60
NEW_YORK = ZoneInfo("America/New_York")
OPTION, FUTURE, COIN = "AAPL261218C00200000", "ESZ26@CME", "BTC/USD"


@dataclass(frozen=True)
class TradedKind:
    """An instrument as a history trades it."""

    asset_class: str | None
    #: What a unit of it and of its price is worth, and whether its executions say so.
    multiplier: int
    told: bool = False
    #: Of its prices; where executions do not say, USD.
    currencies: tuple[str | None, ...] = (None, "USD")
    fee_currencies: tuple[str | None, ...] = (None, "USD")
    #: Quantities are of this size.
    unit: Decimal = Decimal(1)
    zone: Any = NEW_YORK
    lowest: int = 1


KINDS = {
    "AAPL": TradedKind("us_equity", 1, fee_currencies=(None, "USD", "EUR")),
    "KO": TradedKind(None, 1, unit=Decimal("0.001")),
    OPTION: TradedKind("option", 100),
    FUTURE: TradedKind("future", 50, told=True, lowest=-20),
    COIN: TradedKind("crypto", 1, fee_currencies=("BTC", "USD"), unit=Decimal("0.0001"), zone=UTC),
    "EUR/USD": TradedKind("forex", 1, fee_currencies=("USD", "CHF"), unit=Decimal(1000), zone=UTC),
    "SHOP@TSE": TradedKind("equity", 1, currencies=("CAD",), fee_currencies=(None, "CAD", "USD")),
}
SIDES = {1: ("buy", "buy_to_cover"), -1: ("sell", "sell_short")}


@dataclass
class MadeHistories:
    """Writes random histories, each at a broker of its own, and remembers them as the definition wants them.

    Args:
        database: empty.
        seed: says all.
    """

    database: Database
    seed: int
    executions: list[DefinedTrade] = field(default_factory=list)
    #: Against what the executions of ours were decided and met: by number.
    decided: dict[int, Fraction | None] = field(default_factory=dict)
    arrived: dict[int, Fraction | None] = field(default_factory=dict)
    #: Executions of packages' legs.
    legs: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def live(self, histories: int) -> None:
        """Let all of them trade, change and be kept, in three parts."""
        for _ in range(3):
            with self.database.write() as connection:
                for number in range(histories):
                    for _ in range(self.dice.choice((0, 1, 2, 5))):
                        self._order(connection, f"b{self.seed}-{number}")
                for _ in range(histories // 2):
                    self._change(connection)
            for _ in range(self.dice.choice((0, 2, 4))):
                now = datetime.now(UTC) + timedelta(days=1)
                keep(self.database, now, settle=timedelta(0), patience=timedelta(0))

    def _order(self, connection: Connection, broker: str) -> None:
        """One order at a broker with its executions: plain, of money, a package, or somebody else's."""
        dice, number = self.dice, len(self.executions)
        symbol = dice.choice(list(KINDS)) if dice.random() < 0.5 else "AAPL"
        way = dice.choice(("plain", "plain", "plain", "notional", "package", "external"))
        account, strategy = dice.choice((None, None, "ira")), dice.choice(("a", "b", None))
        if way == "external":
            self._fill(connection, broker, account, "(external)", symbol, None, dice.choice((-1, 1)))
            return
        id_, side, decision = f"o{self.seed}-{number}", dice.choice((-1, 1)), self._price(KINDS[symbol])
        if way == "package":
            symbol, side = "AAPL", 1
        quantity = None if way == "notional" else "10"
        at = self._at()
        bid = self._price(KINDS[symbol])
        ask = None if bid is None else bid + Decimal("0.5")
        connection.execute(
            insert(orders).values(
                client_order_id=id_, version=2, strategy=strategy, symbol=symbol, side=dice.choice(SIDES[side]),
                asset_class=KINDS[symbol].asset_class, status="filled", quantity=quantity, order_type="market",
                notional="1000" if quantity is None else None, body_hash="", available_at=at, created_at=at,
                updated_at=at, filled_quantity=10, attempt_no=1, broker=broker, account=account,
                legs=[{"symbol": OPTION}, {"symbol": "AAPL"}] if way == "package" else None,
            )
        )  # fmt: skip
        connection.execute(
            insert(attempts).values(
                client_order_id=id_, attempt_no=1, broker=broker, account=account, broker_client_order_id=id_,
                outcome="accepted", worker="w", started_at=at, lease_until=at, decision_price=decision,
                arrival_bid=bid, arrival_ask=ask, arrival_at=None if bid is None else at,
            )
        )  # fmt: skip
        for _ in range(dice.choice((1, 1, 3))):
            self.decided[len(self.executions)] = None if decision is None else Fraction(decision)
            self.arrived[len(self.executions)] = None if bid is None or ask is None else Fraction((bid + ask) / 2)
            if way == "package":
                leg = dice.choice((1, 2))
                self._fill(connection, broker, account, strategy, (OPTION, "AAPL")[leg - 1], id_, side, leg)
            else:
                self._fill(connection, broker, account, strategy, symbol, id_, side)

    def _fill(
        self, connection: Connection, broker: str, account: str | None, strategy: str | None, symbol: str,
        order: str | None, side: int, leg: int | None = None,
    ) -> None:  # fmt: skip
        dice, kind, number, at = self.dice, KINDS[symbol], len(self.executions), self._at()
        quantity, price = kind.unit * dice.randint(1, 12), self._price(kind)
        currency, fee_currency = dice.choice(kind.currencies), dice.choice(kind.fee_currencies)
        fee = dice.choice((None, Decimal(dice.randint(-50, 300)) / 100))
        paid_in = None if fee is None else fee_currency
        if leg:
            self.legs.add(number)
            side = dice.choice((-1, 1))
        row = {
            "broker": broker, "account": account, "execution_id": f"e{number}", "symbol": symbol, "price": price,
            "quantity": quantity, "commission": fee, "commission_currency": paid_in, "filled_at": at,
            "currency": currency, "multiplier": kind.multiplier if kind.told else None, "recorded_at": at,
        }  # fmt: skip
        if order is None:
            connection.execute(insert(external_fills).values(**row, side=SIDES[side][0]))
        else:
            words = "buy" if side > 0 else "sell"
            mine = {"client_order_id": order, "attempt_no": 1, "strategy": strategy}
            connection.execute(insert(fills).values(**row, **mine, leg=leg, side=words if leg else None))
        source = "external" if order is None else "ours"
        whose = Whose(source, broker, account, strategy, symbol, currency or "USD")
        self.executions.append(
            DefinedTrade(
                whose, number, at, self._day(at, kind), Fraction(quantity) * side, _fraction(price),
                Fraction(kind.multiplier), _fraction(fee), paid_in or whose.currency,
            )
        )  # fmt: skip

    def _change(self, connection: Connection) -> None:
        """The broker corrects an execution, tells its fee or its price, or takes it back."""
        if not self.executions:
            return
        dice, one = self.dice, self.dice.choice(self.executions)
        if not one.shares:
            return
        kind = KINDS[one.whose.symbol]
        new: dict[str, Any] = {}
        change = dice.choice(("price", "quantity", "fee", "bust"))
        if change == "price":
            new["price"] = price = self._price(kind)
            one.price = _fraction(price)
        elif change == "quantity":
            new["quantity"] = quantity = kind.unit * dice.randint(1, 12)
            one.shares = Fraction(quantity) * (1 if one.shares > 0 else -1)
        elif change == "fee":
            currency = dice.choice(kind.fee_currencies)
            new |= {"commission": Decimal(dice.randint(0, 300)) / 100, "commission_currency": currency}
            one.fee, one.fee_currency = Fraction(new["commission"]), currency or one.whose.currency
        else:
            new |= {"quantity": 0, "voided_at": one.at}
            one.shares = ZERO
        table = external_fills if one.whose.source == "external" else fills
        connection.execute(
            update(table)
            .where(table.c.execution_id == f"e{one.number}", table.c.broker == one.whose.broker)
            .values(**new)
        )

    def _at(self) -> datetime:
        """Whole minutes: several executions are of one moment, as they are at brokers that tell seconds."""
        return BEGIN + timedelta(minutes=self.dice.randrange(0, MINUTES, self.dice.choice((1, 240))))

    def _price(self, kind: TradedKind) -> Decimal | None:
        return None if self.dice.random() < 0.06 else Decimal(self.dice.randint(kind.lowest * 100, 5000)) / 100

    @staticmethod
    def _day(at: datetime, kind: TradedKind) -> date:
        return at.astimezone(kind.zone).date()


def _fraction(value: Decimal | None) -> Fraction | None:
    return None if value is None else Fraction(value)
