"""The question in a transaction: may these orders be sent, as far as limits are concerned?

Where no limit is set it costs nothing: a claim learns from its own query whether there are rows, and from the settings
whether they have any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain

from sqlalchemy import Connection, select

from models.destinations import destination_of
from models.encoding import plain
from models.legs import only_closes, opens_short, stored_legs, unit_of
from models.messages import OrderRequest
from models.record.asking import Questionnaire
from models.record.groups import that_count
from models.record.limits import LIMIT_ROWS, limit_of, limit_rows
from models.record.order import OrderRecord
from models.record.rows import Json, ReadableOrder, by_name
from models.record.settling import COUNT_TOGETHER, Together
from models.record.tables import order_events
from models.risk.decision import NOT_OF_PACKAGES, OF_UNITS, PRICED, Hold, Pass, RiskVerdict, decide_risk
from models.risk.facts import Intended
from models.risk.names import Limit, RiskSettings, from_settings, in_force, that_apply
from models.settings import Settings
from models.sizes import left_of
from models.trading_hours import Session
from models.vocabulary import CLOSING, OrderType, Side, signed
from worker.positions.holdings import holdings
from worker.risk.exposure import COUNTING, RATES, Exposure
from worker.risk.hours import OrderHours, traded
from worker.risk.losses import Openings
from worker.risk.prices import AskedPrices, multiplier_of, price_of_package
from worker.runtime.clock import StepWatch

_AT_ONCE = frozenset({OrderType.MARKET, OrderType.LIMIT})
#: Fills of so long ago are looked at for a price where a limit takes older ones, seconds at most.
_OLDEST_FILL_S = 3600.0
_ZERO = Decimal(0)
#: A leg as an order of its own, and the limits that apply to it.
_LegLimits = tuple[Intended, Sequence[Limit]]
#: While a limit is being set, what is counted may lack an order that was claimed without it.
#: Limits that count what went out in the last while, which nobody knows once a clock was set.
_BY_TIME = frozenset({*RATES, "repeat_count"})
#: As long as these look back by default, and no order is held up for longer at once.
_CLOCK_WAS_SET = Hold(1.0, "waits: the clock was set, so nobody knows what went out in this minute", code=None)
_CALM_S = 60.0
_BEING_SET = Hold(0.1, "waits: a limit is being set", code=None)


class Limiter:
    """The limits of one worker.

    Args:
        settings: for `[risk]`.
        broker: whose orders are asked about.
    """

    def __init__(self, settings: Settings, broker: str) -> None:
        self.risk, self.broker = settings.risk, broker
        self.seeds, self._openings = from_settings(settings.risk), Openings()
        self._clock = StepWatch(_CALM_S, "limits by time let nothing through for a minute")
        #: There were rows when limits were read last.
        self._had_rows = False
        #: Closing orders have been seen to reduce a position before they are asked about.
        self.closes = settings.routing.sell == "closes"

    @property
    def is_set(self) -> bool:
        """The settings have limits; rows may add others."""
        return bool(self.seeds)

    def limits(self, connection: Connection, now: datetime, rows: Sequence[Limit] | None = None) -> tuple[Limit, ...]:
        """Return the limits in force; `rows` are those of people, where they have just been read."""
        found = limit_rows(connection) if rows is None else rows
        self._had_rows = bool(found)
        return in_force(self.seeds, found, now)

    def ask_rows(self, asking: Questionnaire) -> list[Limit] | None:
        """Ask for the limits of people beside something else, where there may be any; None: nobody has asked."""
        if not self.is_set and not self._had_rows:
            return None
        found: list[Limit] = []
        asking.ask(LIMIT_ROWS, lambda rows: found.extend(map(limit_of, rows)))
        return found

    def about_change(self, connection: Connection, entry: OrderRecord, new: OrderRequest) -> RiskQuestions | None:
        """Read what decides about a replace; None where no limit applies to it."""
        limits = self.limits(connection, entry.now)
        return (
            self._questions(connection, [self._change(entry, connection, new)], limits, entry.now) if limits else None
        )

    def about(
        self,
        connection: Connection,
        waiting: Iterable[tuple[OrderRecord, Sequence[OrderRecord]]],
        now: datetime,
        rows: Sequence[Limit] | None = None,
    ) -> RiskQuestions | None:
        """Read what decides about some orders; None where no limit applies to any of them.

        Args:
            connection: of a transaction that writes, and has locked the orders.
            waiting: orders that somebody wants to send, each with the legs that go where it goes.
            now: the time.
            rows: the limits of people, where this transaction has read them.
        """
        limits = self.limits(connection, now, rows)
        if not limits:
            return None
        groups = [(lead, *legs) for lead, legs in waiting]
        asked = any(limit.name == "approve_above_value" for limit in limits)
        approved = _approved(connection, [leg.id for legs in groups for leg in legs]) if asked else frozenset()
        wanted = [
            self._new(one, connection, approved=any(leg.id in approved for leg in legs))  # a group is approved as one
            for legs in groups
            for one in that_count(legs[0], legs[1:])
        ]
        return self._questions(connection, wanted, limits, now)

    def _questions(
        self, connection: Connection, wanted: Sequence[Intended], limits: Sequence[Limit], now: datetime
    ) -> RiskQuestions | None:
        mine = {order.client_order_id: _of_order(limits, order) for order in wanted}
        by_leg = {order.client_order_id: limits_of_legs(limits, order) for order in wanted if order.legs}
        if not any(mine.values()) and not any(own for legs in by_leg.values() for _, own in legs):
            return None
        is_timed = not self._clock.doubtful()
        return RiskQuestions(connection, self.risk, wanted, mine, by_leg, now, self._openings, is_timed=is_timed)

    # -- WHAT IS INTENDED ---
    def _new(self, entry: OrderRecord, connection: Connection, *, approved: bool) -> Intended:
        """Return an order as limits see it."""
        row = entry.order
        left = None if row["quantity"] is None else left_of(row)
        limit, stop = row["limit_price"], row["stop_price"]
        order = self._intended(entry, connection, quantity=left, adds=left, limit=limit, stop=stop)
        return replace(order, approved=approved)

    def _change(self, entry: OrderRecord, connection: Connection, new: OrderRequest) -> Intended:
        """Return a replace as limits see it: by the whole new order, and by what it adds."""
        before, current = entry.order["quantity"] or _ZERO, entry.current
        price = Decimal(((current and current["reserved"]) or {}).get("price") or 0)
        return self._intended(
            entry,
            connection,
            quantity=new.units,
            adds=max(new.units - before, _ZERO),
            limit=new.limit_price,
            stop=new.stop_price,
            is_new=False,
            counted=price * before,
        )

    def _intended(
        self,
        entry: OrderRecord,
        connection: Connection,
        *,
        quantity: Decimal | None,
        adds: Decimal | None,
        limit: Decimal | None,
        stop: Decimal | None,
        is_new: bool = True,
        counted: Decimal = _ZERO,
    ) -> Intended:
        row, more = entry.order, by_name(entry.order)
        side, legs, units = Side(row["side"]), stored_legs(row["legs"]), adds or _ZERO
        reduces = (
            self.closes and only_closes(legs)
            if legs
            else side in CLOSING and (self.closes or self._is_held(connection, row, side, units))
        )
        return Intended(
            client_order_id=entry.id,
            symbol=row["symbol"],
            side=side,
            quantity=quantity,
            adds=adds,
            notional=row["notional"],
            created_at=row["created_at"],
            limit_price=limit,
            stop_price=stop,
            strategy=row["strategy"],
            broker=self.broker,
            account=row["account"],
            multiplier=unit_of(legs) if legs else multiplier_of(connection, row["symbol"]),
            currency=row["currency"] if row["asset_class"] else "USD",
            key=_text(more.get("key_id")),
            counted=counted,
            reduces=reduces,
            opens_short=opens_short(legs) if legs else signed(side) < 0 and not reduces,
            is_new=is_new,
            waited_for=row["reason_code"],
            rests=row["order_type"] in _AT_ONCE and not legs,
            legs=legs,
            asset_class=row["asset_class"],
        )

    def _is_held(self, connection: Connection, row: ReadableOrder, side: Side, units: Decimal) -> bool:
        here, id_ = destination_of(row), row["client_order_id"]
        return holdings(connection, [here], row["symbol"], side, but=id_)[here].least >= units


class RiskQuestions:
    """What decides about the orders of one transaction: each that passes counts for the next.

    Args:
        connection: of the transaction.
        risk: for currency and day.
        wanted: the orders.
        limits: those that apply, by client_order_id.
        by_leg: of packages, each leg with those that apply to it.
        now: the time.
        openings: what is known of the days before.
        is_timed: the clock was not set a short while ago.
    """

    def __init__(
        self,
        connection: Connection,
        risk: RiskSettings,
        wanted: Sequence[Intended],
        limits: Mapping[str, Sequence[Limit]],
        by_leg: Mapping[str, Sequence[_LegLimits]],
        now: datetime,
        openings: Openings,
        *,
        is_timed: bool,
    ) -> None:
        self.risk, self.now, self._limits, self._by_leg = risk, now, limits, by_leg
        self._orders = {order.client_order_id: order for order in wanted}
        #: Money per unit at which an order counts that has passed.
        self._passed: dict[str, Decimal | None] = {}
        of_legs = [own for legs in by_leg.values() for _, own in legs]
        every = list({limit.place: limit for mine in (*limits.values(), *of_legs) for limit in mine}.values())
        names = {limit.name for limit in every}
        asks = names & COUNTING and connection.dialect.name != "sqlite"  # there only one writes at a time
        self._is_timed = is_timed or not names & _BY_TIME
        #: All that was sent without one of these limits can be seen by now.
        self._is_known, asking = True, Questionnaire(connection)
        if asks:
            asking.ask(COUNT_TOGETHER, self._take_known)
        self.day = risk.day(now)
        symbols = {symbol for order in wanted for symbol in (order.symbol, *(leg.symbol for leg in order.legs))}
        today = (self.day, risk.day_began(now))
        prices = self._ask_prices(asking, every) if names & self._priced(wanted) else None
        self._exposure = Exposure(connection, symbols, every, now, today, len(self._orders), openings, asking)
        self._prices = prices.found() if prices else {}
        self._sessions = self._read_sessions(connection) if "session" in names else {}

    def _take_known(self, rows: Sequence[Together]) -> None:
        self._is_known = rows[0]["is_known"]

    @staticmethod
    def _priced(wanted: Iterable[Intended]) -> frozenset[str]:
        """Return the limits that need a price of these orders: of an order of money, those of its units as well."""
        return PRICED | (OF_UNITS if any(order.notional is not None for order in wanted) else frozenset())

    def _read_sessions(self, connection: Connection) -> dict[str, Session | None]:
        """Return the session of each order that a limit lets out in some alone; where nobody knows it, we ask."""
        wanted = {
            id_: traded(order.symbol, order.asset_class, order.legs)
            for id_, order in self._orders.items()
            if any(limit.name == "session" and limit.value != "any" for limit in self._limits[id_])
        }
        hours = OrderHours(connection, chain.from_iterable(wanted.values()), self.now)
        found = {id_: hours.session(instruments) for id_, instruments in wanted.items()}
        for id_, session in found.items():
            if session is None and (broker := self._orders[id_].broker):
                hours.ask(broker, wanted[id_])
        return found

    def _ask_prices(self, asking: Questionnaire, limits: Sequence[Limit]) -> AskedPrices:
        ages = [float(limit.number) for limit in limits if limit.name == "price_max_age"]
        age = min(max(ages, default=60.0), _OLDEST_FILL_S)
        orders = self._orders.values()
        symbols = sorted({symbol for o in orders for symbol in (o.symbol, *(leg.symbol for leg in o.legs))})
        return AskedPrices(asking, symbols, self.now, age)

    def judge(self, client_order_id: str) -> RiskVerdict:
        """Decide about one order; if it passes, it counts from now on."""
        if not self._is_known:
            return _BEING_SET
        if not self._is_timed:
            return _CLOCK_WAS_SET
        order, limits = self._orders[client_order_id], self._limits[client_order_id]
        for leg, own in self._by_leg.get(client_order_id, ()):
            held = self._exposure.usage(leg, own)
            verdict = decide_risk(leg, own, held, None, None, self.now, currency=self.risk.currency)
            if not isinstance(verdict, Pass):
                return verdict
        usage = self._exposure.usage(order, limits)
        price = price_of_package(order.legs, self._prices) if order.legs else self._prices.get(order.symbol)
        decide = partial(decide_risk, order, limits, usage, price, self._sessions.get(client_order_id), self.now)
        verdict = decide(currency=self.risk.currency)
        if isinstance(verdict, Pass):
            self._exposure.add(order, verdict.price)
            self._passed[client_order_id] = verdict.price
        return verdict

    def judge_all(self, client_order_ids: Sequence[str]) -> RiskVerdict:
        """Decide about orders that go together: the first of them that may not be sent stops all, and none counts."""
        before = self._exposure.copy() if len(client_order_ids) > 1 else self._exposure
        for number, id_ in enumerate(client_order_ids):
            verdict = self.judge(id_)
            if not isinstance(verdict, Pass):
                self._exposure = before
                return replace(verdict, words=f"its leg {id_}: {verdict.words}") if number else verdict
        return Pass()

    def reserved(self, client_order_ids: Iterable[str]) -> dict[str, Json]:
        """Return as what the attempts of orders that have passed count; those that no limit applies to are left out."""
        return {id_: self._reserved(id_) for id_ in client_order_ids if self._limits[id_]}

    def _reserved(self, client_order_id: str) -> Json:
        found: dict[str, object] = {"day": self.day, "price": plain(self._passed[client_order_id] or _ZERO)}
        key = self._orders[client_order_id].key
        return found | ({"key": key} if key else {})


def _approved(connection: Connection, ids: Iterable[str]) -> frozenset[str]:
    """Return those orders that somebody has approved; a change since then can only have made them less.

    Source: `models.record.replaces.unapproved`.
    """
    e = order_events.c
    query = select(e.client_order_id).where(e.client_order_id.in_(ids), e.kind == "approved")
    return frozenset(connection.execute(query).scalars())


def _of_order(limits: Sequence[Limit], order: Intended) -> list[Limit]:
    found = that_apply(limits, order.scopes)
    return [limit for limit in found if limit.name not in NOT_OF_PACKAGES] if order.legs else found


def limits_of_legs(limits: Sequence[Limit], order: Intended) -> list[_LegLimits]:
    """Return the legs of a package, each with its limits: of position, and the sizes of its own symbol.

    A share's symbol is the package's as well: its size holds for the packages, and for the shares of this leg.
    """
    return [(leg, list(filter(_is_of_leg, that_apply(limits, leg.scopes)))) for leg in order.by_leg]


def _is_of_leg(limit: Limit) -> bool:
    is_of_symbol = limit.scope_kind in ("symbol", "strategy+symbol")
    return limit.name in ("max_position", "restricted") or (limit.name == "max_quantity" and is_of_symbol)


def _text(value: object) -> str | None:
    return str(value) if value else None
