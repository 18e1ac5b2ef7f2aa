"""Keys as rows: reading them where an order is judged, adding and revoking them, and whose token somebody shows."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, exists, insert, or_, select, update

from models.record.database import Database
from models.record.key_rows import KeyRow
from models.record.statements import Query
from models.record.tables import WISHED, keys, orders
from models.security import SecuritySettings
from models.signing import digest_of, key_of
from models.trust import KeyRing

#: There are keys that sign, revoked ones too; a token is shown at a door, and requires nothing.
HAS_KEYS = exists(select(keys.c.key_id).where(keys.c.alg != "token"))
#: It has to be asked who stands behind an order, or behind a wish that was left on it. Where this is false of an order,
#: and `require` is not `all`, nothing more need be looked at.
GUARDED = or_(orders.c.key_id.is_not(None), WISHED, HAS_KEYS)
_ALL = Query(select(keys).order_by(keys.c.key_id), KeyRow)
#: Seconds that a reading of the keys is good for at the door of the queue; a claim reads them anew.
_GOOD_S = 1.0


def read_ring(connection: Connection, security: SecuritySettings, marker: str) -> KeyRing:
    """Read all keys.

    Args:
        connection: of the transaction that judges by them.
        security: what is required, and the name of this deployment.
        marker: the id of the database: its name where the settings have none.
    """
    found = {row["key_id"]: row for row in _ALL.rows(connection)}
    return KeyRing(found, security.deployment or marker, frozenset({marker}), security.require)


class KeyReader:
    """The keys as they were a moment ago, for what is judged before it has a row.

    Args:
        database: the record.
        security: as for `read_ring`.
    """

    def __init__(self, database: Database, security: SecuritySettings) -> None:
        self.database, self.security = database, security
        self._lock = threading.Lock()
        self._read: tuple[float, KeyRing] | None = None

    def ring(self) -> KeyRing:
        """Return the keys, by a reading that is a second old at most.

        Raises:
            DatabaseUnavailable: nobody can say.
        """
        with self._lock:
            if self._read is None or not 0 <= time.monotonic() - self._read[0] <= _GOOD_S:
                begun = time.monotonic()
                with self.database.read() as connection:
                    self._read = begun, read_ring(connection, self.security, self.marker(connection))
            return self._read[1]

    def ring_with(self, key_id: str) -> KeyRing:
        """Return the keys; where this one is not among them, by a reading of now: it may have been added since."""
        if key_id not in (known := self.ring()).keys:
            with self._lock:
                self._read = None
            return self.ring()
        return known

    def required(self) -> str:
        """Return what is required now: off, bare or all; where the settings say, nothing is read."""
        return self.ring().required if self.security.require == "auto" else self.security.require

    def approval(self, key_id: str) -> str | None:
        """Say why somebody has to approve an order of this key; None where nobody has to."""
        key = self.ring_with(key_id).keys.get(key_id)
        return f"orders of key {key_id} need approval" if key is not None and key["needs_approval"] else None

    def marker(self, connection: Connection) -> str:
        """Return the id of the database."""
        if self.database.deployment is None:
            from models.record.deployment import identity

            return identity(connection)
        return self.database.deployment


# -- WHAT PEOPLE DO ---
def all_keys(connection: Connection) -> list[KeyRow]:
    """Return every key, revoked ones too."""
    return _ALL.rows(connection)


def named(connection: Connection, key_id: str) -> KeyRow | None:
    """Return a key, revoked or not; None where there is none of that name."""
    return next((row for row in _ALL.rows(connection) if row["key_id"] == key_id), None)


def add(connection: Connection, row: KeyRow) -> None:
    """Add a key; the transaction's caller has seen that its id is new."""
    connection.execute(insert(keys).values(**row))


def revoke(connection: Connection, key_id: str, now: datetime) -> None:
    """Let a key be good for nothing from now on."""
    connection.execute(update(keys).where(keys.c.key_id == key_id).values(revoked_at=now))


def by_token(connection: Connection, token: str) -> KeyRow | None:
    """Return the key of a token that somebody shows; None where there is no such token. Its validity is the caller's.

    Args:
        connection: to read with.
        token: the whole of it.
    """
    return whose(_ALL.rows(connection), token)


def whose(rows: Iterable[KeyRow], token: str) -> KeyRow | None:
    """Return whose of these keys a token is; None where it is nobody's."""
    name = key_of(token)
    row = next((row for row in rows if row["key_id"] == name and row["alg"] == "token"), None)
    if row is None or row["digest"] is None or not hmac.compare_digest(row["digest"], digest_of(token)):
        return None
    return row
