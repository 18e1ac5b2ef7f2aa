"""Connections under client ids whose workers are gone.

IB knows an order by the client id that placed it, and order ids begin anew with each client id: a cancel or a change
sent by another client may name an order of its own. So a second connection is made under the owner's client id, which
TWS gives to one socket at a time: while the owner is connected it is turned away (326), and the owner does it. Recorded
live: a client may cancel what it placed over an earlier connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

import structlog

from models.errors import BrokerError, CorroError, NotSent
from worker.brokers.base import OrderRef
from worker.brokers.ibkr import orders
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.session import TwsSession

_log = structlog.get_logger()
_IN_USE = "326"


class Substitutes:
    """Connections under other client ids beside our own: one for each, as long as somebody needs it.

    Args:
        session: our own connection.
    """

    def __init__(self, session: TwsSession) -> None:
        self.session = session
        self._held: dict[int, TwsSession] = {}
        self._users: dict[int, int] = {}
        self._lock = asyncio.Lock()

    def held(self, owner: int) -> TwsSession | None:
        """Return the connection under a client id, if it is held."""
        return self._held.get(owner)

    async def hire(self, owner: int) -> TwsSession:
        """Hold a connection under a client id until `dismiss`.

        Raises:
            NotSent: somebody is connected under it, and has to do the work; or no connection could be made.
        """
        async with self._lock:
            substitute = self._held.get(owner)
            if substitute is None or not substitute.up:
                substitute = self._held[owner] = await self._open(owner)
            self._users[owner] = self._users.get(owner, 0) + 1
            return substitute

    async def dismiss(self, owner: int) -> None:
        """Close a connection once nobody needs it."""
        async with self._lock:
            self._users[owner] = self._users.get(owner, 1) - 1
            if self._users[owner] <= 0 and (substitute := self._held.pop(owner, None)):
                await substitute.close()

    async def close(self) -> None:
        """Close all of them; never raises."""
        for owner in list(self._held):
            await self._held.pop(owner).close()

    async def cancel(self, ref: OrderRef) -> None:
        """Cancel an order, under whichever client id it was placed; see `IbkrBroker.cancel_order`.

        Raises:
            NotSent: its owner is connected, and has to cancel it itself; or no connection could be made.
            Refused, OutcomeUnknown: as for the cancel of an order of our own.
        """
        try:
            await orders.cancel(self.session, ref)
        except orders.Foreign as foreign:
            substitute = await self.hire(foreign.owner)
            try:
                _log.info(
                    "ibkr.cancel_for_another", client_id=foreign.owner, ref=ref.broker_client_order_id,
                    broker=self.session.options.broker,
                )  # fmt: skip
                await orders.cancel(substitute, ref)
            finally:
                await self.dismiss(foreign.owner)

    async def _open(self, owner: int) -> TwsSession:
        """Open a session under another client id, beside ours.

        Raises:
            BrokerError: somebody else holds that id, or TWS does not answer.
        """
        ours, broker = self.session, self.session.options.broker
        options = dataclasses.replace(ours.options, client_id=owner)
        substitute = TwsSession(ours.sdk, options, OrderBook(broker, _ignore, time.monotonic), ours.budget, _ignore)
        try:
            await substitute.open()
        except BaseException as error:
            await substitute.close()
            if not isinstance(error, CorroError):
                raise
            in_use = isinstance(error, BrokerError) and error.code == _IN_USE
            why = ", under which somebody is connected, who has to do it" if in_use else f": {error}"
            raise NotSent(f"{broker}: it belongs to client id {owner}{why}", broker=broker) from None
        return substitute


def _ignore(_: object) -> None:
    """Nobody waits for the substitute's messages: the order is read again by whoever asked."""
