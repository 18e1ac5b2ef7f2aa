"""The account at Interactive Brokers: its money, its holdings, and its clock."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import structlog

from models.errors import BrokerError, NoData, UnreadableReply
from models.reports import AccountReport, PositionReport
from models.troubles import trouble
from worker.brokers.ibkr.instruments import from_ib_symbol
from worker.brokers.ibkr.sdk import SdkAccountValue, SdkContract
from worker.brokers.ibkr.session import TwsSession
from worker.brokers.ibkr.spoiled import Spoiled
from worker.brokers.values import number, positive, soft

_log = structlog.get_logger()

#: Of accountSummary; AccountType and the like are not needed. TWS allows two summaries at a time.
_SUMMARY = {
    "NetLiquidation": "equity",
    "TotalCashValue": "cash",
    "BuyingPower": "buying_power",
    "DayTradesRemaining": "day_trades_left",
}
#: IB's word for the base currency, whichever it is.
_BASE = "BASE"
#: Day trades in five business days that an account below the margin for more may make; IB tells how many are left,
#: and -1 where it does not count.
_DAY_TRADES = 3


async def accounts(session: TwsSession) -> list[AccountReport]:
    """Read the money of every account that is traded, the usual one first."""
    wrapper, client = session.ib.wrapper, session.client
    asked = 0

    def request() -> Awaitable[object]:
        nonlocal asked
        asked = client.getReqId()
        answer: Awaitable[object] = wrapper.startReq(asked)
        client.reqAccountSummary(asked, "All", ",".join(_SUMMARY))
        return answer

    async with session.summary_lock:
        wrapper.acctSummary.clear()
        try:
            await session.read("the account summary", request)
        finally:
            if asked and session.up:
                client.cancelAccountSummary(asked)
        rows = list(wrapper.acctSummary.values())
    numbers = sorted(session.accounts.numbers, key=lambda number: number != session.accounts.usual)
    return [_account(session, number, rows) for number in numbers]


def _account(session: TwsSession, number: str, rows: Sequence[SdkAccountValue]) -> AccountReport:
    """Return the money of one account from the rows of all."""
    mine, called = [row for row in rows if row.account == number], session.accounts.label_of(number)
    if not mine:
        raise NoData(f"{session.options.broker}: TWS told nothing about account {called}")
    pushed = [row for row in session.ib.wrapper.accountValues.values() if row.account == number]
    try:
        return replace(account_report(number, mine, pushed), account_id=called)
    except ValueError as error:
        raise UnreadableReply(f"{session.options.broker}: account {called}: {trouble(error)}") from None


def account_report(
    account: str, rows: Sequence[SdkAccountValue], pushed: Sequence[SdkAccountValue] = ()
) -> AccountReport:
    """Put the rows of an account summary together, all in the account's base currency.

    IB tells totals in the base currency, under its code or as `BASE`; rows in other currencies are parts of them.

    Args:
        account: whose.
        rows: of the summary: `tag`, `value` and `currency`.
        pushed: of the account's updates, which tell the net liquidation in the base currency only.

    Raises:
        ValueError: several currencies, and nothing says which one is the account's.
    """
    base = base_currency(rows, pushed)
    found: dict[str, Decimal | None] = {}
    for tag, field in _SUMMARY.items():
        of_tag = {row.currency: row.value for row in rows if row.tag == tag}
        found[field] = soft(number, next((of_tag[c] for c in (_BASE, base, "") if c in of_tag), None))
    left = found["day_trades_left"]
    return AccountReport(
        account_id=account,
        currency=base,
        buying_power=found["buying_power"],
        cash=found["cash"],
        equity=found["equity"],
        portfolio_value=found["equity"],
        total_liquidity=found["cash"],
        day_trade_count=max(_DAY_TRADES - int(left), 0) if left is not None and left >= 0 else None,
        paper=account.startswith("D"),
    )


def base_currency(rows: Sequence[SdkAccountValue], pushed: Sequence[SdkAccountValue]) -> str:
    """Return the currency that an account is kept in; `BASE` where IB gives that word and no code.

    Raises:
        ValueError: several currencies, and nothing says which one it is.
    """
    told = _currencies(rows)
    if len(told - {_BASE}) == 1:
        return (told - {_BASE}).pop()
    # The ledger of the base currency is the one whose exchange rate is 1.
    at_par = {r.currency for r in (*rows, *pushed) if r.tag == "ExchangeRate" and soft(number, r.value) == 1}
    kept_in = (_currencies(pushed) | at_par) - {_BASE}
    if len(kept_in) == 1:
        return kept_in.pop()
    if _BASE in told or not told:
        return _BASE
    raise ValueError(f"its values are in {', '.join(sorted(told))}, and nothing says which of them it is kept in")


def _currencies(rows: Sequence[SdkAccountValue]) -> set[str]:
    return {row.currency for row in rows if row.tag == "NetLiquidation" and row.currency}


async def positions(session: TwsSession) -> list[PositionReport]:
    """Read every holding; market values are there as far as the account subscription has told them.

    Raises:
        BrokerError: also where it could not be learnt which security a holding is; where it is its size that cannot be
            read, the holding has none.
    """
    session.check()
    listed = await session.positions()
    rows = [row for row in listed if row.account in session.accounts.numbers and row.quantity]
    if None in [_name(session, row.contract) for row in rows]:
        await session.contracts.learn()
    held = [_position(session, *row) for row in rows]
    held += [unread for row in listed.spoiled if (unread := _unread(session, row)) is not None]
    session.check()
    return _one_each(held)


def _one_each(held: Sequence[PositionReport]) -> list[PositionReport]:
    """Return one holding a name and account: of two with the same name, the size is unknown."""
    found: dict[tuple[str, str], PositionReport] = {}
    for one in held:
        key = (one.symbol, one.account_id or "")
        found[key] = replace(one, quantity=None) if key in found else one
    return [found[key] for key in sorted(found)]


def _name(session: TwsSession, contract: SdkContract) -> str | None:
    return session.contracts.names.of(contract, listed=True)


def _position(
    session: TwsSession, account: str, contract: SdkContract, quantity: float, avg_cost: float
) -> PositionReport:
    """Return one position; its size is None where TWS does not show a number, which is never taken for 0."""
    item = session.ib.wrapper.portfolio[account].get(contract.conId)
    name, held = _name(session, contract), soft(number, quantity)
    size = session.contracts.names.size(contract).multiplier or Decimal(1)
    paid = positive(avg_cost)  # of one unit, whatever that is of
    where = f"{session.options.broker}: a position of {contract.symbol} (conId {contract.conId})"
    if held is None:
        _log.warning("ibkr.position_without_its_size", broker=session.options.broker, symbol=name, size=str(quantity))
    if name is None:
        raise BrokerError(f"{where}: IB did not say where that security is listed", broker=session.options.broker)
    return PositionReport(
        symbol=name,
        quantity=held,
        avg_price=None if paid is None else paid / size,
        market_value=number(item.marketValue) if item else None,
        unrealized_pnl=number(item.unrealizedPNL) if item else None,
        account_id=session.accounts.label_of(account),
        currency=contract.currency or None,
    )


def _unread(session: TwsSession, row: Spoiled) -> PositionReport | None:
    """Return a holding of which only the security can be read: its size is unknown. None: corro never trades its kind.

    Raises:
        UnreadableReply: it may be any holding.
    """
    if row.is_never_traded:
        return None
    symbol = session.contracts.names.called(row.number("con_id")) or _name_of(session, row)
    if not symbol:
        raise UnreadableReply(f"{session.options.broker}: cannot read {row}")
    account = session.accounts.label_of(row.get("account") or session.accounts.usual)
    return PositionReport(symbol=symbol, quantity=None, account_id=account, currency=row.get("currency"))


def _name_of(session: TwsSession, row: Spoiled) -> str | None:
    """Return the name in a row that cannot be read; a stock that may be in dollars is taken for the ticker."""
    if row.get("kind") in (None, "STK") and row.get("currency") in (None, "USD"):
        return from_ib_symbol(row.get("symbol") or "") or None
    return None if row.contract is None else _name(session, row.contract)


async def server_time(session: TwsSession) -> datetime:
    """Ask TWS for its time."""
    told: datetime = await session.read("the time", session.ib.reqCurrentTimeAsync)
    return told.astimezone(UTC)
