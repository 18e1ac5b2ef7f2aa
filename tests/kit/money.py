"""The money check: every order's shares are counted once, and the database says what the doors say."""

from __future__ import annotations

import time
from decimal import Decimal

from sqlalchemy import select

from models.record.database import Database
from models.record.tables import attempts, orders, position_locks
from models.vocabulary import Status
from worker.local.audit import audit
from worker.sandbox.control import SandboxControl

#: Seconds until the money check gives up: a last fill may be on its way.
MONEY_S = 20.0


class MoneyCheck:
    """Compares what the doors of a market did with what the record says."""

    def __init__(self, database: Database, control: SandboxControl) -> None:
        self._database, self._control = database, control
        self._reported: set[str] = set()
        #: Ids, the client's or the door's own, of orders that somebody else has placed.
        self.foreign: set[str] = set()

    def problems(self) -> list[str]:
        """Compare the doors with the database."""
        ids = ("client_order_id", "wire_id")
        ours = [o for o in self._control.orders() if self.foreign.isdisjoint(str(o[name]) for name in ids)]
        return audit(self._database, ours).problems + self._false_locks()

    def check(self, timeout: float = MONEY_S) -> None:
        """Σ(live + filled) <= ordered for every order, and the database says what the doors say.

        A problem is reported once, not again after every test that shares the world.
        """
        deadline = time.monotonic() + timeout
        while problems := set(self.problems()) - self._reported:
            if time.monotonic() > deadline:
                self._reported |= problems
                raise AssertionError(f"the money check failed: {sorted(problems)}")
            time.sleep(0.1)
        self._ours_add_up()

    def _false_locks(self) -> list[str]:
        """Where no position was moved by hand, every one is explained, so nothing may be locked."""
        with self._database.read() as connection:
            found = [dict(row) for row in connection.execute(select(position_locks)).mappings()]
        if not found:
            return []
        moved = {(e["door"], e["symbol"]) for e in self._control.ledger() if e["event"] == "position"}
        return [f"locked without a reason: {row}" for row in found if (row["broker"], row["symbol"]) not in moved]

    def _ours_add_up(self) -> None:
        """What may be working or has traded, over all attempts, never exceeds what was ordered."""
        with self._database.read() as connection:
            rows = connection.execute(select(orders)).mappings().all()
            tries = connection.execute(select(attempts)).mappings().all()
        for row in rows:
            reserving = [
                t
                for t in tries
                if t["client_order_id"] == row["client_order_id"] and t["outcome"] in ("sending", "unknown", "accepted")
            ]
            assert len(reserving) <= 1 or row["filled_quantity"] <= row["quantity"], (row, reserving)
            if row["quantity"] is not None and row["status"] != Status.DENIED:
                assert Decimal(row["filled_quantity"]) <= Decimal(row["quantity"]), row
