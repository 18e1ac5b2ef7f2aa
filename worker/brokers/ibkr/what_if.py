"""What an order would do to the account, by IB's what-if: an order message that asks and places nothing.

Its answer is an openOrder with `whatIf`, which nothing here takes for an order (`previews`): no permId, no status and
no code of it reaches the book of orders. Source: docs/facts/ibkr.md#9.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import structlog

from models.errors import DataError, QuotaExhausted
from models.groups import GroupKind
from models.lookups import PreviewReport
from models.messages import OrderRequest
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.account import base_currency
from worker.brokers.ibkr.orders import contract_for
from worker.brokers.ibkr.previews import Preview
from worker.brokers.ibkr.sdk import SdkOrderState
from worker.brokers.ibkr.session import TwsSession, paced
from worker.brokers.values import fee, number, soft

_log = structlog.get_logger()

#: Reference of every what-if: should TWS ever take one for an order, everybody sees whence it came.
REF = "corro.preview"


async def what_if(session: TwsSession, order: OrderRequest) -> PreviewReport:
    """Ask what an order would do to the account's margin, and what it would cost.

    Raises:
        Unsupported, InstrumentUnknown: it cannot be said there.
        NotConnected, DataError, PacingViolation: it could not be asked, or nobody answered.
    """
    session.check()
    loop, broker = asyncio.get_running_loop(), session.options.broker
    contract = await contract_for(session, order, loop.time() + session.options.request_timeout_s)
    account = session.accounts.for_order(order.account, broker)
    fields = terms.order_fields(order, REF, account)
    question = session.sdk.Order(**fields, whatIf=True)
    try:
        await session.budget.turn()
    except QuotaExhausted as error:
        raise paced(error) from None
    await session.numbers.free()
    session.check()
    order_id = session.next_order_id()
    with session.feed.previews.asking(order_id) as preview:
        session.send(lambda: session.client.placeOrder(order_id, contract, question))
        try:
            async with asyncio.timeout(session.options.request_timeout_s):
                await preview.done
        except TimeoutError:
            said = "; ".join(preview.notices) or "nor said why"
            raise DataError(f"{broker}: TWS has not answered the what-if of {order.symbol}, {said}") from None
    if preview.became_order:
        _log.error("ibkr.preview_became_an_order", broker=broker, order_id=order_id, symbol=order.symbol)
        session.send(lambda: session.client.cancelOrder(order_id, ""))
        raise DataError(f"{broker}: TWS took the what-if of {order.symbol} for an order; its cancel is asked for")
    return _report(session, preview, account or session.accounts.usual)


async def of_all(session: TwsSession, legs: Sequence[OrderRequest]) -> PreviewReport:
    """Ask what an order would do, or linked ones, each by itself: a what-if has no parent.

    Raises:
        As `what_if`.
    """
    told = [await what_if(session, leg) for leg in legs]
    return together(legs, told) if len(legs) > 1 else told[0]


def together(legs: Sequence[OrderRequest], told: Sequence[PreviewReport]) -> PreviewReport:
    """Make one report of those about the legs of a group: pure.

    The margin is the lead's: what exits do is told as if nothing were held, and they close; what would be refused of an
    exit by itself is a warning. Orders that exclude each other all work at once: what is refused of one is refused, one
    is paid for, the dearer, and the margin is the larger, where each is known.

    Args:
        legs: the orders, the lead first.
        told: what was said of each.
    """
    lead, rest = told[0], told[1:]
    kind = GroupKind.OTO if legs[0].group is None else legs[0].group.kind
    every = list(zip((str(leg.group and leg.group.leg) for leg in legs), told, strict=True))
    warnings = [f"{name}: {words}" for name, report in every for words in report.warnings]
    refusals = [report.refused and f"{name}, asked by itself: {report.refused}" for name, report in every]
    if kind is GroupKind.OCO:
        refused, whose = "; ".join(filter(None, refusals)) or None, "the larger"
        margins = [report.margin_after for report in told if report.margin_after is not None]
        margin = max(margins) if len(margins) == len(told) else None
    else:
        refused, margin, whose = lead.refused, lead.margin_after, "the first one's"
        warnings += filter(None, refusals[1:])
    warnings.append(f"IB was asked about each leg by itself; the margin is {whose}")
    costs = [report.commission for report in told]
    known = [cost for cost in costs if cost is not None]
    is_whole = len(known) == len(costs) and len({report.currency for report in told}) == 1
    paid = {GroupKind.BRACKET: lambda: known[0] + max(known[1:]), GroupKind.OCO: lambda: max(known)}
    return replace(
        lead,
        supported=lead.supported and all(report.supported for report in rest),
        refused=refused,
        margin_after=margin,
        commission=paid.get(kind, lambda: sum(known, Decimal(0)))() if is_whole else None,
        warnings=tuple(warnings),
    )


def _report(session: TwsSession, preview: Preview, account: str) -> PreviewReport:
    """Read what was said; `account`: the number of the one that was asked about."""
    if preview.state is None:
        return PreviewReport(refused=preview.refused, warnings=tuple(preview.notices))
    pushed = [row for row in session.ib.wrapper.accountValues.values() if row.account == account]
    try:
        base = base_currency([], pushed)
    except ValueError:
        base = ""
    return read_state(preview.state, base if len(base) == 3 else None, preview.notices)


def read_state(state: SdkOrderState, base: str | None, notices: Sequence[str] = ()) -> PreviewReport:
    """Read the answer to a what-if: pure.

    Args:
        state: margins in the account's base currency, the commission in its own.
        base: the base currency; None where TWS has not told it.
        notices: what IB said besides.
    """
    warnings = [words for words in (*notices, str(state.warningText or "").strip()) if words]
    commission, money = soft(fee, state.commission), str(state.commissionCurrency or "") or None
    if commission is None:
        least, commission = soft(fee, state.minCommission), soft(fee, state.maxCommission)
        if commission is not None and least is not None and least != commission:
            warnings.append(f"commission: {commission} at most, {least} at least")
    if commission is not None and base not in (None, money):
        warnings.append(f"commission: {commission} {money or 'of some currency'}, while margins are in {base}")
        commission = None
    return PreviewReport(
        margin_before=soft(number, state.initMarginBefore),
        margin_after=soft(number, state.initMarginAfter),
        commission=commission,
        currency=base or money,
        warnings=tuple(warnings),
    )
