"""Who stands behind an order: asked in the claim's transaction, of every order at every broker it comes to.

So whoever can write to the queue, and whoever can write to the table of orders, can have nothing sent that no key has
signed, where signatures are required; and nothing else than what it has signed, wherever one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Literal

import structlog
from sqlalchemy import Connection

from models.errors import Denied, InvalidOrder, Untrusted
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.intake import request_of
from models.record.keys import KeyReader, read_ring
from models.record.order import OrderRecord, cancel
from models.record.replaces import request_replace
from models.record.rows import Json
from models.record.steps import journal_of
from models.settings import Settings
from models.signing import Envelope
from models.trust import Journaled, KeyRing, must_be_its, must_be_valid, must_be_vouched_for, must_reach
from models.vocabulary import Denial
from models.wishes import SignedWish, read_cancel, read_replace

log = structlog.get_logger()
Kind = Literal["cancel", "replace"]
_READ = {"cancel": read_cancel, "replace": read_replace}
#: Says why an order may not be sent, if it may not.
Doubt = Callable[[OrderRecord], Denied | None]


class Vouching:
    """Judges orders by the keys as they are in the transaction that judges.

    Args:
        database: the record.
        settings: what is required, and where an order goes whose text leaves that open.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.settings, security = settings, settings.security
        self.security, self.reader = security, KeyReader(database, security)
        #: Every order has to be signed, whether there are keys or not.
        self.always = security.require == "all"

    def over(self, batch: OrderBatch, *, guarded: bool) -> Doubt | None:
        """Take the wishes that were left on orders, and return what has to be asked of each; None: nothing has to be.

        Args:
            batch: the orders.
            guarded: of one of them it is, see `models.record.keys.GUARDED`.
        """
        if not guarded and not self.always:
            return None
        ring = self.ring(batch.connection)
        take_left(ring, batch)
        told = journal_of(batch.connection, batch.entries, batch)
        for entry in batch.entries.values():
            be_as_asked(entry, told[entry.id])
        return partial(_denial, ring, self.settings, told)

    def ring(self, connection: Connection) -> KeyRing:
        """Read the keys in a transaction."""
        return read_ring(connection, self.security, self.reader.marker(connection))


def _denial(ring: KeyRing, settings: Settings, told: Mapping[str, Journaled], entry: OrderRecord) -> Denied | None:
    order, broker, everywhere = entry.order, entry.order["broker"], True
    try:
        key = must_be_vouched_for(ring, order, request_of(order), entry.now, told[entry.id], settings)
        everywhere = False  # another broker may be within the key's bounds
        if key is not None:
            must_reach(key, brokers=broker)
    except Untrusted as error:
        return Denied(f"{broker}: {error}", broker=broker, code=str(error.code), everywhere=everywhere)
    return None


# -- WISHES ---
def be_as_asked(entry: OrderRecord, told: Journaled) -> None:
    """Set right whether a cancel is wished of an order: whoever writes the table can write what its row says."""
    row_says, asked_at = entry.order["cancel_requested_at"], told.at.get("cancel_requested")
    if row_says is not None and asked_at is None:
        entry.set(cancel_requested_at=None)
        entry.note("cancel_refused", "nobody is known to have asked for it")
    elif row_says is None and asked_at is not None:
        entry.set(cancel_requested_at=asked_at)
        entry.note("cancel_requested", f"asked for at {asked_at.isoformat()}; its row said nothing of that any more")


def take_left(ring: KeyRing, batch: OrderBatch) -> None:
    """Judge and record the wishes that producers have left on the rows of orders; why not stands in their events."""
    for entry in batch.entries.values():
        for wish in entry.order["wishes"] or ():
            _take_one(ring, entry, wish)
        if entry.order["wishes"]:
            entry.set(wishes=None)


def _take_one(ring: KeyRing, entry: OrderRecord, wish: Json) -> None:
    kind: Kind = "replace" if wish.get("kind") == "replace" else "cancel"
    sealed = {name: value for name, value in wish.items() if name in ("signed", "key", "sig", "deployment")}
    try:
        envelope = Envelope.of(sealed)
        if envelope is not None:
            signed = judged(ring, kind, envelope, lambda: entry.now)
            if signed.ids != [entry.id] and (kind == "replace" or entry.id not in signed.ids):
                raise Untrusted(f"signed for {', '.join(signed.ids[:3])}", Denial.BAD_SIGNATURE)
            carry(entry, signed, cancel if kind == "cancel" else None)
        elif ring.required == "all":
            raise Untrusted(f"a {kind} has to be signed, here ([security] require is all)", Denial.NOT_SIGNED)
        elif kind == "cancel":
            cancel(entry)
        else:
            request_replace(entry, wish.get("terms") or {})
    except Untrusted as error:
        deny(entry, error)
    except InvalidOrder as error:
        entry.note_once(f"{kind}_refused", str(error))


def judged(ring: KeyRing, kind: Kind, envelope: Envelope, now: Callable[[], datetime]) -> SignedWish:
    """Return the wish in an envelope.

    Raises:
        Untrusted: nobody who may trade stands behind it.
        InvalidOrder: it cannot be read, or is not good at this time.
    """
    key = ring.key_of(envelope, kind)
    must_be_valid(key, now())
    return _READ[kind](envelope, key, now())


def carry(entry: OrderRecord, wish: SignedWish, how: Callable[[OrderRecord], None] | None = None) -> None:
    """Do what a key wants of an order, as far as it may.

    Args:
        entry: the order.
        wish: of which key, and with which terms.
        how: does it; None replaces the order's terms.
    """
    try:
        order = entry.order
        must_be_its(wish.key, order)
        must_reach(wish.key, strategies=order["strategy"], symbols=order["symbol"], brokers=order["broker"])
        if how is not None:
            how(entry)
        elif order["amended_at"] is not None and wish.created_at is not None and wish.created_at <= order["amended_at"]:
            entry.note_once("replace_refused", f"made at {wish.created_at.isoformat()}, not after the last change")
        else:
            request_replace(entry, wish.terms, wish.created_at, needs_approval=wish.key["needs_approval"])
    except Untrusted as error:
        deny(entry, error)
    except InvalidOrder as error:
        entry.note_once("replace_refused", str(error))


def deny(entry: OrderRecord, error: Untrusted) -> None:
    """Note on an order that a wish about it was not taken, and why."""
    entry.note_once("wish_denied", f"{error.code}: {error}")
    log.warning("wish_denied", client_order_id=entry.id, code=str(error.code), reason=str(error))
