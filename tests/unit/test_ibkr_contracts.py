"""Contracts that IB is asked for: orders wait for none that is known, and for no more than they need."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from ib_async import ContractDetails
from structlog.testing import capture_logs

from models.errors import BrokerError, InstrumentUnknown
from models.instruments import read_instrument
from models.lookups import InstrumentQuery, InstrumentReport
from models.trading_hours import PriceBand
from models.vocabulary import AssetClass, Side
from tests.unit.ibkr_book import a_line
from worker.brokers.ibkr import contracts as ibkr_contracts
from worker.brokers.ibkr import lookups
from worker.brokers.ibkr.contracts import Contracts
from worker.brokers.ibkr.names import Names
from worker.brokers.ibkr.reports import ComboPart
from worker.brokers.ibkr.sdk import load_sdk
from worker.brokers.ibkr.spoiled import Rows

T = TypeVar("T")
KO = read_instrument("KO")
SDK = load_sdk("ib_async")


class ScriptedTws:
    """Answers to questions for contracts and market rules, in the place of the SDK and its connection."""

    ready = True
    frames: Any = SimpleNamespace(broken=frozenset())

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[asyncio.Future[Any]] = []
        self.rules = defaultdict[int, asyncio.Future[Any]](asyncio.Future)
        self.resolved: list[InstrumentReport] = []

    async def ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        self.asked.append(what)
        return await request()

    def reqContractDetailsAsync(self, wanted: object) -> Awaitable[Any]:
        self.answers.append(asyncio.Future())
        return self.answers[-1]

    def reqMarketRuleAsync(self, rule: int) -> Awaitable[Any]:
        return self.rules[rule]

    def contracts(self) -> Contracts:
        return Contracts(SDK, self, "ib", self, Names(), self.resolved.append)

    async def tells(self, answer: Any) -> None:
        """Answer a question, once it is asked."""
        async with asyncio.timeout(0.5):
            while not self.answers or self.answers[-1].done():
                await asyncio.sleep(0)
        if isinstance(answer, Exception):
            self.answers[-1].set_exception(answer)
        else:
            self.answers[-1].set_result(answer)


def shares(**told: Any) -> list[Any]:
    contract = SDK.Contract(conId=1, symbol="KO", secType="STK", currency="USD", primaryExchange="NYSE")
    return [ContractDetails(contract=contract, minTick=0.01, **told)]


@pytest.mark.parametrize("failure", [BrokerError("nobody answered"), SDK.RequestError(1, 200, "No security")])
def test_a_question_for_hours_keeps_the_contract_that_orders_have(failure: Exception) -> None:
    async def story() -> None:
        tws = ScriptedTws()
        contracts = tws.contracts()
        first = asyncio.create_task(contracts.of(KO))
        await tws.tells(shares())
        known = await first
        again = asyncio.create_task(contracts.again(KO))
        await asyncio.sleep(0)
        assert await asyncio.wait_for(contracts.of(KO), 0.5) is known
        await tws.tells(failure)
        with pytest.raises((BrokerError, InstrumentUnknown)):
            await again
        assert await contracts.of(KO) is known
        assert len(tws.asked) == 2
        again = asyncio.create_task(contracts.again(KO))
        await tws.tells(shares())
        assert await again is await contracts.of(KO) is not known

    asyncio.run(story())


def test_an_order_does_not_wait_long_for_steps_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ibkr_contracts, "RULE_S", 0.01)

    async def story() -> None:
        tws = ScriptedTws()
        asking = asyncio.create_task(tws.contracts().of(KO))
        await tws.tells(shares(validExchanges="SMART", marketRuleIds="26"))
        await asyncio.wait_for(asking, 0.5)
        tws.rules[26].set_result([SimpleNamespace(lowEdge=0.0, increment=0.05)])
        async with asyncio.timeout(0.5):
            while len(tws.resolved) < 2:
                await asyncio.sleep(0)
        assert [one.price_bands for one in tws.resolved] == [None, (PriceBand(Decimal(0), Decimal("0.05")),)]

    asyncio.run(story())


def test_a_market_rule_that_nobody_tells_is_asked_for_again_and_costs_no_other_contract_its_steps() -> None:
    def of_rule(rule: int) -> ContractDetails:
        contract = SDK.Contract(
            conId=rule, symbol="MES", secType="FUT", currency="USD", exchange="CME", localSymbol="MESU6",
            lastTradeDateOrContractMonth="20960921", multiplier="5",
        )  # fmt: skip
        return ContractDetails(contract=contract, minTick=0.25, validExchanges="CME", marketRuleIds=str(rule))

    async def story() -> None:
        tws = ScriptedTws()
        session: Any = SimpleNamespace(contracts=tws.contracts())
        rows = [of_rule(rule) for rule in (26, 27, 28, 28)]
        tws.rules[26].set_result([SimpleNamespace(lowEdge=0.0, increment=0.05)])
        tws.rules[27].set_exception(SDK.RequestError(1, 322, "Error processing request"))
        tws.rules[28].set_result(None)  # the SDK's own timeout
        wanted = InstrumentQuery(text="MES", asset_class=AssetClass.FUTURE)
        steps = (PriceBand(Decimal(0), Decimal("0.05")),)
        found = await lookups._read(session, rows, wanted)
        assert [one.price_bands for one in found] == [steps, None, None, None]
        assert sorted(tws.asked) == ["market rule 26", "market rule 27", "market rule 28"]
        tws.asked.clear()
        tws.rules[28] = asyncio.Future()
        tws.rules[28].set_result([SimpleNamespace(lowEdge=0.0, increment=0.25)])
        found = await lookups._read(session, rows, wanted)
        assert [one.price_bands for one in found] == [
            steps, None, *[(PriceBand(Decimal(0), Decimal("0.25")),)] * 2
        ]  # fmt: skip
        assert sorted(tws.asked) == ["market rule 27", "market rule 28"]

    asyncio.run(story())


def test_a_leg_that_ib_does_not_know_any_more_is_noted_and_asked_for_once() -> None:
    async def story() -> None:
        tws = ScriptedTws()
        contracts = tws.contracts()
        rows = Rows([a_line(combo=(ComboPart(7, Side.BUY, Decimal(1)),))])
        for failure in (BrokerError("nobody answered"), SDK.RequestError(1, 200, "No security definition")):
            reading = asyncio.create_task(contracts.named(rows))
            await tws.tells(failure)
            assert (await reading)[0].package == ()
        await asyncio.wait_for(contracts.named(rows), 0.5)
        assert tws.asked == ["conId 7"] * 2

    with capture_logs() as logs:
        asyncio.run(story())
    assert [log["error"] for log in logs] == ["nobody answered", "IB does not know it"]


@pytest.mark.parametrize(("zone", "questions"), [("BST", 1), ("", 2)])
def test_hours_that_cannot_be_read_are_asked_for_once(zone: str, questions: int) -> None:
    async def story() -> None:
        tws = ScriptedTws()
        session: Any = SimpleNamespace(contracts=tws.contracts())
        looking = asyncio.create_task(lookups._one(session, KO))
        for _ in range(questions):
            await tws.tells(shares(timeZoneId=zone, tradingHours="20260708:CLOSED", liquidHours="20260708:CLOSED"))
        assert (await asyncio.wait_for(looking, 0.5)).hours is None
        assert len(tws.asked) == questions

    asyncio.run(story())
