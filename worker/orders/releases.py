"""Held orders: released when their time has come, approved or denied by a person, and given up when nobody does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import chain

from sqlalchemy import and_, or_, select

from models import encoding
from models.encoding import to_json
from models.errors import InvalidRequest
from models.four_eyes import must_be_another
from models.instruments import Instrument
from models.legs import stored_legs
from models.lifecycle import Fact
from models.messages import MAX_BATCH
from models.record.batch import OrderBatch, change_one
from models.record.database import Database
from models.record.holds import APPROVAL, LONGEST_HOLD_S, NOT_BEFORE, SESSION, let_wait, reasons, release
from models.record.keys import read_ring
from models.record.order import OrderRecord
from models.record.rows import ReadableOrder, by_name
from models.record.statements import Query
from models.record.tables import orders
from models.settings import Settings
from models.signing import Signer
from models.trust import must_be_valid
from models.vocabulary import Denial, Status
from producers.client import OrderClient
from worker.control.controls import journal
from worker.orders.batches import Batches
from worker.risk.hours import OrderHours, traded
from worker.runtime.clock import utcnow

#: An order whose instrument's hours nobody knows is looked at again after this.
_ASK_AGAIN = timedelta(minutes=1)


class Releases:
    """Releases held orders; the leader's of any broker.

    Args:
        settings: for how long an order may be held.
        database: the record.
        batches: for transactions, and the rings behind them.
    """

    def __init__(self, settings: Settings, database: Database, batches: Batches) -> None:
        self.database, self.batches = database, batches
        longest = settings.risk.max_lifetime
        self.longest = timedelta(seconds=float(longest) if longest else LONGEST_HOLD_S)
        o = orders.c
        self._held = o.status == str(Status.HELD)
        self._approved = ~o.held_for.contains(APPROVAL)

    def look(self) -> None:
        """Release what is due, and end what has been held for too long."""
        now, o = utcnow(), orders.c
        due = and_(self._held, or_(and_(o.available_at <= now, self._approved), o.created_at <= now - self.longest))
        with self.database.read() as connection:
            if connection.execute(select(o.client_order_id).where(due).limit(1)).first() is None:
                return
        found = (
            select(orders)
            .where(due)
            .order_by(o.available_at)
            .limit(MAX_BATCH)
            .with_for_update(skip_locked=True, key_share=True)
        )
        query = Query(found, ReadableOrder)

        def work(batch: OrderBatch) -> None:
            wanted = {id_: _awaited(entry) for id_, entry in batch.entries.items()}
            hours = OrderHours(batch.connection, chain.from_iterable(wanted.values()), batch.now)
            for id_, entry in batch.entries.items():
                self._judge(entry, wanted[id_], hours)

        _, effects = self.batches.over(lambda c: OrderBatch.of(c, query.rows(c), utcnow()), work)
        self.batches.follow_up(effects)

    def _judge(self, entry: OrderRecord, awaited: tuple[Instrument, ...], hours: OrderHours) -> None:
        row = entry.order
        if row["created_at"] <= entry.now - self.longest:
            days = self.longest.total_seconds() / 86_400
            entry.happen(Fact.EXPIRED, detail=f"held for {days:g} days, longer than an order may be: {row['reason']}")
            return
        session = hours.session(awaited)
        if session == "regular":
            release(entry, "its time has come")
            return
        opens = hours.opens(awaited) if session is not None else None
        if opens is None:
            hours.ask(row["broker"], awaited)
            opens, words = entry.now + _ASK_AGAIN, f"held: {row['broker']} is asked when {row['symbol']} trades"
        else:
            words = f"held: the regular session opens at {opens:%Y-%m-%d %H:%M} UTC"
        is_news = words != row["reason"]
        let_wait(entry, [name for name in reasons(entry) if name != NOT_BEFORE], opens, words)
        if is_news:
            entry.note("held", words)


def _awaited(entry: OrderRecord) -> tuple[Instrument, ...]:
    """Return whose session an order waits for; nothing of one that waits for none."""
    row = entry.order
    return traded(row["symbol"], row["asset_class"], stored_legs(row["legs"])) if SESSION in reasons(entry) else ()


# -- WHAT PEOPLE SAY ---
def approve(
    client: OrderClient, client_order_id: str, *, by: str, reason: str | None = None, signer: Signer | None = None
) -> ReadableOrder:
    """Approve an order that is held for it; it is released if nothing else holds it.

    Args:
        client: of the record, which rings the order's broker.
        client_order_id: the order.
        by: who.
        reason: why, in their words.
        signer: the approver's key; what it has signed is kept in the journal.

    Raises:
        NotFound: there is no such order.
        InvalidRequest: it is not held for approval, or the name is blank.
        Untrusted: whoever approves may not, or has submitted it (`models.four_eyes`).
    """
    security = client.settings.security

    def work(entry: OrderRecord) -> None:
        left = [name for name in _asked_about(entry) if name != APPROVAL]
        ring = read_ring(entry.batch.connection, security, client.database.deployment or "")
        word = None if signer is None else signer.sign("approve", _content(entry))
        key = None if word is None else ring.key_of(word, "approve")
        if key is not None:
            must_be_valid(key, entry.now)
        if not security.self_approval:
            must_be_another(ring.keys, entry.order["key_id"], by, key, entry.now)
        entry.note("approved", f"by {by}" + (f": {reason}" if reason else ""))
        signed = None if word is None else encoding.text(word.to_wire())
        journal(entry.batch.connection, "approve", "order", entry.id, by=by, reason=reason, detail=signed)
        if left:
            entry.set(held_for=",".join(left), reason=f"approved by {by}; held: {', '.join(left)}")
        else:
            release(entry, f"approved by {by}")

    return _decided(client, client_order_id, work)


def deny(client: OrderClient, client_order_id: str, *, by: str, reason: str | None = None) -> ReadableOrder:
    """Deny an order that is held for approval.

    Raises:
        As `approve`.
    """

    def work(entry: OrderRecord) -> None:
        _asked_about(entry)
        journal(entry.batch.connection, "deny", "order", entry.id, by=by, reason=reason)
        words = f"not approved by {by}" + (f": {reason}" if reason else "")
        if entry.happen(Fact.DENIED, detail=words).changed:
            entry.set(reason_code=str(Denial.NOT_APPROVED), held_for=None)

    return _decided(client, client_order_id, work)


def _content(entry: OrderRecord) -> dict[str, object]:
    """Return what an approver signs: the order on its terms as they are now."""
    order = entry.order
    terms = ("symbol", "side", "quantity", "notional", "order_type", "limit_price", "stop_price", "time_in_force")
    told: dict[str, object] = {name: to_json(by_name(order)[name]) for name in terms}
    return {"client_order_id": entry.id, "body_hash": order["body_hash"], **told, "at": to_json(entry.now)}


def _asked_about(entry: OrderRecord) -> list[str]:
    """Return what an order is held for.

    Raises:
        InvalidRequest: nobody was asked to approve it.
    """
    held_for = reasons(entry)
    if entry.status is not Status.HELD or APPROVAL not in held_for:
        raise InvalidRequest(f"{entry.id} is not held for approval: it is {entry.status}")
    return held_for


def _decided(client: OrderClient, client_order_id: str, how: Callable[[OrderRecord], None]) -> ReadableOrder:
    """Do what somebody has decided about an order, and ring its broker if it is released."""
    entry, effects = change_one(client.database, client_order_id, how)
    client.ring(effects)
    return entry.order
