"""Linked orders at Interactive Brokers: several placeOrder messages in one burst, and what is left of half a burst.

| kind    | the first order     | each other one         | which exclude each other | what lets them go      |
|---------|---------------------|------------------------|--------------------------|------------------------|
| bracket | transmit false      | parentId of the first  | one OCA group, type 1    | transmit of the last   |
| oto     | transmit false      | parentId of the first  |                          | transmit of the second |
| oco     | transmit            | transmit               | one OCA group, type 1    | each its own           |

Source: docs/facts/ibkr.md#10.1 to #10.4. Every order has a reference and an order id of its own; the ids are reserved,
and in the record, before the first byte. An order that was not transmitted stands in no listing, and a person can send
it on with a click: it counts as sent until it is taken back by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import TypedDict

from models.crash_points import reached
from models.errors import BrokerError, NotSent, OutcomeUnknown, QuotaExhausted, Unmapped
from models.groups import EXCLUSIVE, WAITING, GroupKind
from models.messages import OrderRequest
from models.reports import Ambiguous, BrokerStatus, Found, Missing, OrderReport, Report, Sighting
from models.vocabulary import TimeInForce
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.codes import CANCELED, Proof
from worker.brokers.ibkr.listings import find
from worker.brokers.ibkr.orders import (
    CANCEL_WAIT_S,
    answering,
    as_accepted,
    contract_for,
    listen_on,
    put,
    verdict_on,
)
from worker.brokers.ibkr.pending import PendingCancel, PendingOrder
from worker.brokers.ibkr.session import TwsSession
from worker.brokers.ibkr.verdicts import WireVerdict
from worker.brokers.lookups import LinkRule

#: Of the adapter: what IB links, and that the record knows the order ids before the first byte.
CAPABILITIES: LinkedAbilities = {"groups": frozenset(GroupKind), "numbers_groups": True}
#: "Cancel all remaining orders with block": one order of the group at a time is at an exchange.
OCA_TYPE = 1
#: A group waits so long for those before it to leave, seconds.
RESERVE_S = 5.0
#: Once one order of a group is refused, the others have so long to show themselves.
ASIDE_S = 1.0
_TIMES = (TimeInForce.DAY, TimeInForce.GTC)
_ANY: LinkRule = (
    lambda lead, legs: all(one.time_in_force in _TIMES for one in (lead, *legs)),
    "is asked to link orders that are day or gtc only",
)
_ATTACHED: LinkRule = (
    lambda lead, legs: all(leg.symbol == lead.symbol for leg in legs),
    "attaches orders to one in the same symbol only",
)
#: Of the adapter: what each kind of group has to be.
LINK_RULES = {kind: (_ANY, *((_ATTACHED,) if WAITING[kind] else ())) for kind in GroupKind}


def links(orders: Sequence[OrderRequest], position: int, parent_id: int, name: str) -> dict[str, str | int | bool]:
    """Return the fields of the SDK's Order that link one order of a group to the others.

    Args:
        orders: of the group, the lead first.
        position: which of them.
        parent_id: order id of the lead.
        name: of the OCA group; one that was used once is used up, so it is the reference of the lead.
    """
    linked = orders[position].group
    assert linked is not None
    waits = bool(WAITING[linked.kind])
    fields: dict[str, str | int | bool] = {"transmit": not waits or position == len(orders) - 1}
    if waits and position:
        fields["parentId"] = parent_id
    if linked.leg in EXCLUSIVE[linked.kind]:
        fields |= {"ocaGroup": name, "ocaType": OCA_TYPE}
    return fields


class LinkedAbilities(TypedDict):
    """The part of `Capabilities` about linked orders."""

    groups: frozenset[GroupKind]
    numbers_groups: bool


# -- PLACE ---
async def reserve(session: TwsSession, count: int) -> list[str]:
    """Return so many order ids that nobody else is given, over reconnects as well; nothing overtakes them.

    Raises:
        QuotaExhausted: other groups hold the lane, and whoever waited for it has sent nothing.
    """
    try:
        async with asyncio.timeout(RESERVE_S):
            await session.numbers.free()
    except TimeoutError:
        words = f"other groups were given order ids, and had not left within {RESERVE_S:g} s; nothing was sent"
        raise QuotaExhausted(f"{session.options.broker}: {words}", broker=session.options.broker) from None
    numbers = [session.next_order_id() for _ in range(count)]
    session.numbers.hold(numbers[0])
    return [str(number) for number in numbers]


async def place_group(
    session: TwsSession, lead: PendingOrder, ticket: Ticket, emit: Callable[[Report], None]
) -> OrderReport:
    """Send the orders of a group in one burst, and wait for evidence about each.

    Args:
        session: the live connection.
        lead: shared with the calling thread, which may forbid a send that has not begun.
        ticket: the lead, with the others.
        emit: takes a verdict that arrives after the outcome was called unknown.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    others = [PendingOrder(ref=one.broker_client_order_id, broker=lead.broker, until=lead.until) for one in ticket.legs]
    everyone, orders = [lead, *others], ticket.orders
    for pending in everyone:
        pending.linked = True
    with ExitStack() as stack:
        for pending in (*others, lead):
            stack.enter_context(answering(session, pending, "placing a group"))
        try:
            try:
                await _send(session, everyone, orders, ticket)
            finally:
                session.numbers.leave(int(ticket.session_order_id or 0))
            verdicts = await _verdicts(everyone)
            if verdicts[0] is WireVerdict.DONE:
                return _answer(session, everyone, orders, verdicts)
            raise await _failure(session, everyone, verdicts, loop.time() - started)
        except (OutcomeUnknown, asyncio.CancelledError):
            for pending in everyone:
                listen_on(session, pending, emit)
            raise


async def _send(
    session: TwsSession, everyone: Sequence[PendingOrder], orders: Sequence[OrderRequest], ticket: Ticket
) -> None:
    """Send the group: everything that takes time first, the last question and all the bytes at the end."""
    session.check()
    lead, account = everyone[0], session.accounts.for_order(ticket.order.account, everyone[0].broker)
    contracts = [await contract_for(session, order, lead.until) for order in orders]
    fields = [terms.order_fields(order, one.ref, account) for one, order in zip(everyone, orders, strict=True)]
    for _ in everyone:
        await session.turn(lead.until)
    given = [
        one for one in (ticket.session_order_id, *(leg.session_order_id for leg in ticket.legs)) if one is not None
    ]
    if not given:
        await session.numbers.free()
    # No await from here to the bytes: the claim is checked, then they leave.
    session.check()
    numbers = [int(one) for one in given] or [session.next_order_id() for _ in everyone]
    linked = [links(orders, position, numbers[0], lead.ref) for position in range(len(orders))]
    ready = [
        (contract, session.sdk.Order(**own | link))
        for contract, own, link in zip(contracts, fields, linked, strict=True)
    ]
    if session.book.id_floor > numbers[-1] + 1:
        words = f"order ids {numbers[0]} to {numbers[-1]} were overtaken, and TWS would refuse them"
        raise NotSent(f"{lead.broker}: {words}; nothing was sent", broker=lead.broker, code="overtaken")
    for pending, number in zip(everyone, numbers, strict=True):
        session.book.begin(pending, number)

    def burst() -> None:
        for pending, number, (contract, order) in zip(everyone, numbers, ready, strict=True):
            if pending is not lead:
                reached("between_legs")
                pending.begin()
            session.client.placeOrder(number, contract, order)

    put(session, lead, burst, ticket.still_mine)


async def _verdicts(everyone: Sequence[PendingOrder]) -> list[WireVerdict]:
    """Wait for the verdict about each order; once one is refused, no longer than `ASIDE_S` for the others."""
    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(verdict_on(pending)) for pending in everyone]
    try:
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() is WireVerdict.REFUSED for task in done):
                for pending in everyone:
                    pending.until = min(pending.until, loop.time() + ASIDE_S)
                    pending.changed.set()
    finally:
        for task in tasks:
            task.cancel()
    return [task.result() for task in tasks]


def _answer(
    session: TwsSession,
    everyone: Sequence[PendingOrder],
    orders: Sequence[OrderRequest],
    verdicts: Sequence[WireVerdict],
) -> OrderReport:
    """Return the lead's report with those of the legs of which something is known; the others are asked for later."""
    told = []
    for pending, order, verdict in zip(everyone, orders, verdicts, strict=True):
        if verdict is WireVerdict.DONE:
            told.append(as_accepted(session.book.answer(pending, order), pending))
        elif verdict is WireVerdict.REFUSED:
            told.append(_refused(pending, order))
    return replace(told[0], legs=tuple(told[1:]))


def _refused(pending: PendingOrder, order: OrderRequest) -> OrderReport:
    code = pending.told.code
    return OrderReport(
        broker_order_id=None,
        status=BrokerStatus.REJECTED,
        broker_client_order_id=pending.ref,
        symbol=order.symbol,
        side=order.side,
        order_type=order.order_type,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        filled_quantity=Decimal(0),
        code=str(code.number) if code else None,
        message=code.text if code else None,
        raw_status=pending.told.status or None,
    )


async def _failure(
    session: TwsSession, everyone: Sequence[PendingOrder], verdicts: Sequence[WireVerdict], waited_s: float
) -> BrokerError:
    """Return the error of a group whose lead IB does not show; a refusal only if nothing of the group can live.

    What is refused leaves the others staged, or about to be ended: each that is not dead by the wire's word is taken
    back by its id.
    """
    refused = next(
        (p for p, verdict in zip(everyone, verdicts, strict=True) if verdict is WireVerdict.REFUSED), everyone[0]
    )
    if WireVerdict.REFUSED not in verdicts:
        return everyone[0].error(verdicts[0], waited_s)
    ends = []
    for pending, verdict in zip(everyone, verdicts, strict=True):
        end = LegEnd.CANCELED if verdict is WireVerdict.REFUSED or _is_dead(session, pending) else None
        if end is None:
            try:
                end = await _take_back(session, pending.order_id, pending.ref)
            except NotSent:  # its cancel was not: the order itself has left
                end = LegEnd.OPEN
        if end is LegEnd.OPEN:  # it lived: the wire has to show its end
            await _end_of(pending)
            end = LegEnd.CANCELED if _is_dead(session, pending) else end
        ends.append(end)
    error = refused.error(WireVerdict.REFUSED, waited_s)
    if are_gone(ends):
        return error
    return Unmapped(f"{error}; not every order of its group is known to be dead", broker=refused.broker)


async def _end_of(pending: PendingOrder) -> None:
    """Wait until the wire shows the end of an order, or `CANCEL_WAIT_S` are over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_WAIT_S):
            while pending.told.ended_at is None:
                pending.changed.clear()
                await pending.changed.wait()


def _is_dead(session: TwsSession, pending: PendingOrder) -> bool:
    """Tell whether the wire has shown the end of an order of which nothing was filled."""
    known = session.book.by_perm_id(pending.perm_id)
    filled = known is not None and session.book.report(known).filled_quantity  # its status may be ahead of executions
    return pending.told.ended_at is not None and not filled and not session.book.executions_of(pending.perm_id)


# -- TAKE BACK ---
class LegEnd(StrEnum):
    """What TWS says of an order that is canceled by its id."""

    #: 202, and no listing ever showed it: it was held back in TWS, and is no more.
    CANCELED = "canceled"
    #: TWS knows none under this id.
    NOT_FOUND = "not_found"
    #: Anything else: it may live.
    OPEN = "open"


def are_gone(ends: Sequence[LegEnd], *, is_group: bool = True) -> bool:
    """Tell whether nothing can live of orders that were canceled by their ids, in the order in which they were sent.

    | the lead                     | each other one        | gone |
    |------------------------------|-----------------------|------|
    | canceled                     | canceled or not found | yes  |
    | not found                    | any                   | no: the whole burst may stand before a person |
    | any                          | open                  | no   |

    Of one leg alone, whose lead lives, not found will do: what came after the lead in one burst would be there. So it
    will of a group where no order waits before a person.
    """
    if LegEnd.OPEN in ends:
        return False
    return ends[0] is LegEnd.CANCELED or not is_group


async def _take_back(session: TwsSession, order_id: int, ref: str) -> LegEnd:
    """Cancel an order by its id alone, and return what TWS says; never that of another order under a reissued id."""
    known = session.book.by_order_id(order_id)
    if known is not None and known.line.ref != ref:
        return LegEnd.OPEN
    loop = asyncio.get_running_loop()
    await session.turn(loop.time() + session.options.request_timeout_s)
    pending = PendingCancel(ref=ref, broker=session.options.broker)
    session.book.begin(pending, order_id)
    with answering(session, pending, "taking back an order"):
        put(session, pending, lambda: session.client.cancelOrder(order_id, ""), still_mine=lambda: None)
        pending.until = loop.time() + CANCEL_WAIT_S
        await verdict_on(pending)
    code = pending.told.code
    if code is not None and code.number == CANCELED and session.book.by_order_id(order_id) is None:
        return LegEnd.CANCELED
    is_unknown = code is not None and code.number in (135, 10147) and code.proof is Proof.CANCEL_FAILED
    return LegEnd.NOT_FOUND if is_unknown else LegEnd.OPEN


async def withdraw(own: TwsSession, owner: TwsSession, ref: OrderRef, *, listings_prove: bool) -> Sighting:
    """Take back a group, or one leg, by the ids under which it was sent, and look for it once more.

    Args:
        own: the connection that reads.
        owner: one under the client id that sent it.
        ref: the lead with its legs, or one leg.
        listings_prove: no order waits before a person there, by the settings: what TWS does not know is not there.

    Raises:
        NotSent: `owner` is somebody else; nothing was canceled.
    """
    broker, numbered = own.options.broker, [(ref.session_order_id, ref.broker_client_order_id)]
    if str(owner.options.client_id) != ref.session:
        raise NotSent(f"{broker}: it belongs to client id {ref.session}, which has to take it back", broker=broker)
    numbered += [(leg.session_order_id, leg.broker_client_order_id) for leg in ref.legs]
    ends = [await _take_back(owner, int(id_), theirs) for id_, theirs in numbered if id_ is not None]
    seen = (await find_groups(own, [ref]))[0]
    gone = len(ends) == len(numbered) and are_gone(ends, is_group=bool(ref.legs) and not listings_prove)
    if isinstance(seen, Missing) and gone:
        words = ", ".join(f"{id_} {end}" for (id_, _), end in zip(numbered, ends, strict=True))
        return replace(seen, withdrawn=True, evidence=f"{seen.evidence}; taken back by order id: {words}")
    return seen


# -- FIND ---
async def find_groups(session: TwsSession, refs: Sequence[OrderRef]) -> list[Sighting]:
    """Look for orders, and for the legs of those that lead groups, in one reading."""
    legs = [[ref.of(one) for one in ref.legs] for ref in refs]
    seen = iter(await find(session, [*refs, *(leg for found in legs for leg in found)]))
    leads = [next(seen) for _ in refs]
    return [_of_group(lead, [next(seen) for _ in found]) for lead, found in zip(leads, legs, strict=True)]


def _of_group(lead: Sighting, legs: Sequence[Sighting]) -> Sighting:
    """Return what is seen of a group: its lead with the legs that are there; legs without it are for a person."""
    shown = tuple(seen.report for seen in legs if isinstance(seen, Found))
    if isinstance(lead, Found):
        return Found(report=replace(lead.report, legs=shown))
    if isinstance(lead, Missing) and shown:
        ids = ", ".join(f"{report.broker_client_order_id} ({report.broker_order_id})" for report in shown)
        return Ambiguous(candidates=shown, words=f"its lead is in no listing, but of its group are there: {ids}")
    return next((seen for seen in legs if isinstance(seen, Ambiguous)), lead) if isinstance(lead, Missing) else lead
