"""Whose work a live order is: some brokers let only the session that placed an order cancel or change it.

At IB a session is a client id. Each worker has its own, and TWS gives a client id to one connection at a time. The
record knows the session of every order (`attempts.session`) and of every living worker (`workers.session`), so nobody
has to find out by trying.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from models.record.order import OrderRecord, is_changing
from models.vocabulary import TERMINAL, WAITS_FOR_OWNER


def takes(session: str | None, me: str | None, leads: bool, alive: Collection[str]) -> bool:
    """Tell whether a worker takes work on an order.

    | the order's session           | who takes it                       |
    |-------------------------------|------------------------------------|
    | none                          | the leader                         |
    | a living worker's             | that worker, whoever leads         |
    | of nobody who is alive        | the leader, under that session     |

    Args:
        session: the one that placed the order; None where every connection may change it.
        me: this worker's own.
        leads: this worker leads.
        alive: sessions of the workers that live and are connected.
    """
    if session is not None and session == me:
        return True
    return leads and (session is None or session not in alive)


def waiting(wish: str, broker: str, kind: str, session: str, why: str) -> str:
    """Say who has to be alive for a wish.

    Args:
        wish: cancel or replace.
        broker: name.
        kind: how the broker calls a session, such as client id.
        session: the order's.
        why: why nobody can stand in for its worker.
    """
    return f"{wish} waits for a worker of {broker} with {kind} {session}: {why.removeprefix(f'{broker}: ')}"


def is_wished(wish: str, entry: OrderRecord, since: datetime) -> bool:
    """Tell whether a wish is still to be carried out: its owner may have been late, and quicker than who stood in.

    Args:
        wish: cancel or replace.
        entry: the order as it is now.
        since: when standing in for its owner began.
    """
    order = entry.order
    if entry.status in TERMINAL:
        return False
    if wish == "replace":
        return bool(order["replace_request"]) and not is_changing(entry)
    sent_at = order["cancel_sent_at"]
    return order["cancel_requested_at"] is not None and (sent_at is None or sent_at < since)


def is_told_to_wait(wish: str, entry: OrderRecord) -> bool:
    """Tell whether an order says already that a wish waits for its owner."""
    return entry.order["reason_code"] == WAITS_FOR_OWNER and (entry.order["reason"] or "").startswith(f"{wish} ")
