"""The contracts that instruments mean at IB, looked up once per connection: names, sizes, and types of order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import structlog

from models.errors import BrokerError, CorroError, InstrumentUnknown, NotConnected, QuotaExhausted, Unsupported
from models.instruments import US_LISTINGS, Instrument, read_instrument
from models.lookups import InstrumentReport
from models.messages import OrderRequest
from models.trading_hours import PriceBand
from models.vocabulary import AssetClass
from worker.brokers.ibkr import names
from worker.brokers.ibkr.codes import lookup_error
from worker.brokers.ibkr.details import listing_of, remembered, report
from worker.brokers.ibkr.frames import Frames
from worker.brokers.ibkr.hours import bands_of, rule_of
from worker.brokers.ibkr.instruments import asked, choose_one, from_ib_symbol
from worker.brokers.ibkr.legs import package_of
from worker.brokers.ibkr.reports import OrderLine, WireExecution
from worker.brokers.ibkr.sdk import Sdk, SdkContract, SdkDetails, code_and_text
from worker.brokers.ibkr.spoiled import Rows

_log = structlog.get_logger()
#: An order waits so long for the steps of its prices, seconds: a group holds its order ids meanwhile.
RULE_S = 0.25
#: Takes what was looked up, without waiting.
Resolved = Callable[[InstrumentReport], None]
#: Returns what was looked up before a restart.
Recall = Callable[[Instrument], Mapping[str, str] | None]
#: Holds an order against what is known of its instrument.
CheckKnown = Callable[[OrderRequest], None]
T = TypeVar("T")
Row = TypeVar("Row", OrderLine, WireExecution)


class Asking(Protocol):
    """The connection, as far as look-ups need it."""

    @property
    def ready(self) -> bool:
        """Whether it may be asked now."""

    @property
    def frames(self) -> Frames:
        """What was read before the SDK: which farms are broken."""

    async def ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        """Make one request in its turn."""


class Contracts:
    """Look-ups of one connection; callers who want the same symbol share one look-up."""

    def __init__(
        self,
        sdk: Sdk,
        ib: Any,
        broker: str,
        line: Asking,
        called: names.Names,
        resolved: Resolved | None = None,
        recall: Recall | None = None,
        check: CheckKnown | None = None,
    ) -> None:
        self._sdk, self._ib, self._broker, self._line = sdk, ib, broker, line
        self._resolved, self._recall, self._check = resolved, recall, check
        #: What was looked up of an instrument, read and as it was told.
        self._told: dict[Instrument, tuple[InstrumentReport, SdkDetails]] = {}
        #: Market rules that were asked for, by their numbers.
        self._rules: dict[int, asyncio.Task[tuple[PriceBand, ...] | None]] = {}
        #: Legs that IB does not know any more, by their conIds.
        self._gone = set[int]()
        #: What every contract is called.
        self.names = called
        self._tasks: dict[Instrument, asyncio.Task[SdkContract]] = {}
        #: By symbol: the order types and times in force that the contract lists, in IB's words.
        self._order_types: dict[str, frozenset[str]] = {}

    def told(self, instrument: Instrument) -> tuple[InstrumentReport, SdkDetails]:
        """Return what IB has told of an instrument that was looked up."""
        return self._told[instrument]

    def order_types(self, symbol: str) -> frozenset[str]:
        """Return the order types that the contract of a symbol lists; empty where it lists none."""
        return self._order_types.get(symbol, frozenset())

    def check(self, order: OrderRequest) -> None:
        """Hold an order against what IB has told of its instrument by now.

        Raises:
            Unsupported: with the field, the value and the rule.
        """
        if self._check is not None:
            self._check(order)

    async def banded(self, one: InstrumentReport, details: SdkDetails, exchange: str) -> InstrumentReport:
        """Return what IB tells of an instrument with the steps of its prices by range at an exchange."""
        return replace(one, price_bands=await self._bands(details, exchange))

    async def _bands(self, details: SdkDetails, exchange: str) -> tuple[PriceBand, ...] | None:
        """Return the market rule of a contract at an exchange, told once a connection; None while nobody has told."""
        rule = rule_of(details, exchange)
        if rule is None:
            return None
        if rule not in self._rules:
            self._rules[rule] = asyncio.create_task(self._market_rule(rule))
        return await asyncio.shield(self._rules[rule])

    async def _market_rule(self, rule: int) -> tuple[PriceBand, ...] | None:
        silence = f"no answer to market rule {rule}"
        try:
            told = await self._line.ask(f"market rule {rule}", lambda: self._ib.reqMarketRuleAsync(rule))
        except (self._sdk.RequestError, CorroError) as error:
            told, silence = None, str(error)
        if told is None:  # also from the SDK, whose patience ends after a second
            _log.info("ibkr.market_rule_not_told", broker=self._broker, rule=rule, error=silence)
            self._rules.pop(rule, None)  # the next look-up asks again
            return None
        return bands_of(told)

    async def of(self, instrument: Instrument) -> SdkContract:
        """Return the one contract of an instrument.

        Raises:
            InstrumentUnknown, Unsupported: IB knows none, or several. NotConnected: it could not be asked.
        """
        task = self._tasks.get(instrument)
        asks = task is None or (task.done() and (task.cancelled() or task.exception() is not None))
        if task is None or asks:
            task = self._tasks[instrument] = asyncio.create_task(self._look_up(instrument))
        try:
            return await asyncio.shield(task)
        except QuotaExhausted:
            if asks:
                raise
        return await self.of(instrument)  # who asked before may have been less urgent

    async def again(self, instrument: Instrument) -> SdkContract:
        """Ask once more for a contract: hours are told of the days around alone.

        Until it is told anew, and if nobody tells, orders have the contract that was known before.

        Raises:
            As `of`.
        """
        asking = asyncio.create_task(self._look_up(instrument, anew=True))
        contract = await asking
        self._tasks[instrument] = asking
        return contract

    async def _look_up(self, instrument: Instrument, *, anew: bool = False) -> SdkContract:
        """Ask TWS for the contract of an instrument; `anew`: what was told before does not do.

        Raises:
            InstrumentUnknown: it knows none.
            BrokerError: it could not tell, for example while its definitions' farm is broken.
        """
        symbol, wanted = instrument.symbol, self._sdk.Contract(**asked(instrument))
        known = self._recall(instrument) if self._recall is not None and not anew else None
        if known is not None and (details := remembered(self._sdk, known)) is not None:
            return self._take(instrument, report(instrument, details), details, str(wanted.exchange))
        try:
            found = await self._line.ask(f"details of {symbol}", lambda: self._ib.reqContractDetailsAsync(wanted))
        except self._sdk.RequestError as error:
            code, text = code_and_text(error)
            if self._line.frames.broken:  # "no security definition" then says nothing about the security
                farms = ", ".join(sorted(self._line.frames.broken))
                words = f"{text}, looking up {symbol} while IB's {farms} is broken; nothing was sent"
                raise NotConnected(f"{self._broker}: {words}", broker=self._broker) from None
            raise lookup_error(code, text, self._broker, symbol) from None
        except QuotaExhausted:
            raise
        except BrokerError as error:
            raise NotConnected(f"{error}; nothing was sent", broker=self._broker) from None
        if instrument.asset_class is AssetClass.US_EQUITY:
            contract = names.choose([details.contract for details in found], wanted, self._broker)
        else:
            listed = [(details.contract, listing_of(details)) for details in found]
            contract = choose_one(listed, instrument, self._broker)
        self._learn_size(found)
        details = next(each for each in found if each.contract is contract)
        one = report(instrument, details)
        if self._resolved is not None:
            await self._tell(self._resolved, one, details, str(wanted.exchange))
        return self._take(instrument, one, details, str(wanted.exchange))

    async def _tell(self, resolved: Resolved, one: InstrumentReport, details: SdkDetails, exchange: str) -> None:
        """Tell of an instrument with its steps; where these take their time they follow, and the order goes on."""

        async def tell() -> None:
            resolved(await self.banded(one, details, exchange))

        telling = asyncio.create_task(tell())
        try:
            async with asyncio.timeout(RULE_S):
                await asyncio.shield(telling)
        except TimeoutError:
            resolved(one)

    def _take(self, instrument: Instrument, one: InstrumentReport, details: SdkDetails, exchange: str) -> SdkContract:
        """Know a contract from now on, and send what is ordered of it to an exchange."""
        contract = details.contract
        self.names.chose(instrument.symbol, contract.conId)
        self._learn_size([details])
        told = str(details.orderTypes)
        self._order_types[instrument.symbol] = frozenset(word.strip() for word in told.split(",") if word.strip())
        self._told[instrument] = one, details
        contract.exchange = exchange
        return contract

    def _learn_size(self, found: Sequence[SdkDetails]) -> None:
        for details in found:
            self.names.magnified(details.contract.conId, int(details.priceMagnifier or 1))

    # -- NAMES ---
    async def learn(self) -> None:
        """Ask for the names of the contracts seen; unanswered ones stay without a name."""

        async def learn(con_id: int, one: Awaitable[None]) -> None:
            try:
                await one
            except BrokerError as error:
                _log.info("ibkr.contract_without_name", broker=self._broker, con_id=con_id, error=str(error))

        if self._line.ready:
            unnamed = self.names.unnamed
            await asyncio.gather(*(learn(con_id, self._learn_listing(con_id, unnamed[con_id])) for con_id in unnamed))
            legs = self.names.legs - self._gone
            await asyncio.gather(*(learn(con_id, self._learn_leg(con_id)) for con_id in legs))

    async def _learn_listing(self, con_id: int, ticker: str) -> None:
        """Ask what the ticker of a contract means, and where the contract is listed if it means another one."""
        if ticker:
            with contextlib.suppress(InstrumentUnknown, Unsupported):
                await self.of(read_instrument(ticker))
        if con_id in self.names.unnamed:
            found = await self._numbered(con_id)
            self.names.listed(con_id, next((listing_of(details) for details in found), ""))

    async def _learn_leg(self, con_id: int) -> None:
        """Ask what a leg is, of which a message has told nothing but its conId."""
        found = await self._numbered(con_id)
        if not found:
            self._gone.add(con_id)
            _log.info("ibkr.contract_without_name", broker=self._broker, con_id=con_id, error="IB does not know it")
        for details in found[:1]:
            contract = details.contract
            at_home = contract.secType == "STK" and contract.primaryExchange in US_LISTINGS
            name = from_ib_symbol(contract.symbol) if at_home else names.qualified(contract, contract.primaryExchange)
            self.names.told(con_id, name)

    async def _numbered(self, con_id: int) -> Sequence[SdkDetails]:
        """Return the details of a contract; none where IB does not know it any more.

        Raises:
            BrokerError: it could not tell.
        """
        wanted = self._sdk.Contract(conId=con_id)
        try:
            found = await self._line.ask(f"conId {con_id}", lambda: self._ib.reqContractDetailsAsync(wanted))
        except self._sdk.RequestError as error:
            if code_and_text(error)[0] == 200 and not self._line.frames.broken:
                return ()
            raise BrokerError(f"{self._broker}: {error}", broker=self._broker) from None
        self._learn_size(found)
        return list(found)

    async def named(self, rows: Rows[Row]) -> Rows[Row]:
        """Give the rows of a reading the names of their contracts, asking for those that are not known yet."""
        if any(self.name(row) is row for row in rows):
            await self.learn()
        return Rows([self.name(row) for row in rows], rows.spoiled)

    def name(self, row: Row) -> Row:
        """Name one row; without a known name it stays the same object."""
        if isinstance(row, OrderLine) and row.combo:
            return self._package(row)
        symbol = self.names.of(row.contract) if row.contract is not None else None
        if symbol is None or row.contract is None:
            return row
        size = self.names.size(row.contract)
        if isinstance(row, WireExecution):
            fill = replace(row.fill, symbol=symbol, currency=size.currency, multiplier=size.multiplier)
            return replace(row, fill=fill)
        return replace(row, symbol=symbol, size=size)

    def _package(self, row: OrderLine) -> OrderLine:
        package = package_of(row.combo, row.side, self.names.called)
        if package is not None:
            return replace(row, package=package)
        self.names.legs.update(part.con_id for part in row.combo if self.names.called(part.con_id) is None)
        return row
