"""How long an order may wait: its producer's clock is heard, and not believed.

| the order says                                    | what follows                                             |
|---------------------------------------------------|----------------------------------------------------------|
| created more than 5 s after our clock             | refused: the clock that dates it is wrong                |
| a life of more than `timing.longest_life`         | refused: counted from creation, or from our first sight  |
| created a little after our clock                  | its life is counted from our first sight                 |
| created before our clock                          | its life is counted from its creation                    |

Ours is the database's clock, which all producers and workers of one fleet share.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from models.clock import utcnow
from models.errors import InvalidOrder
from models.record.database import Database
from models.record.reading import server_clock

#: Seconds that a producer's clock may be ahead of ours.
AHEAD_S = 5.0
#: Seconds between two looks at the database's clock.
_LOOK_EVERY_S = 60.0
#: Seconds by which our two clocks may drift apart before the database's is looked at again: one of them was set.
_STEP_S = 0.5


def expiry(created_at: datetime, expires_at: datetime, seen: datetime, longest_s: float) -> datetime:
    """Return until when an order may be sent.

    Args:
        created_at: as the order says.
        expires_at: as the order says.
        seen: when it was first seen, by our clock.
        longest_s: seconds that an order may wait at most.

    Raises:
        InvalidOrder: names the field, the value and our clock.
    """
    ahead = (created_at - seen).total_seconds()
    if ahead > AHEAD_S:
        raise InvalidOrder(
            f"created_at: {created_at.isoformat()} is {ahead:.0f} s ahead of our clock ({seen.isoformat()}); "
            f"at most {AHEAD_S:g} s are taken: set the clock of the machine that makes the orders"
        )
    life = expires_at - created_at
    if life.total_seconds() > longest_s:
        raise InvalidOrder(
            f"expires_at: {expires_at.isoformat()} is more than {longest_s:g} s (timing.longest_life) after created_at "
            f"{created_at.isoformat()}"
        )
    return min(created_at, seen) + life


class DatabaseClock:
    """The database's clock, as good as a look a minute makes it; that of this machine where the database is a file.

    Args:
        database: the record.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._offset = timedelta(0)
        #: By both clocks of this machine: when the database was last asked.
        self._asked: tuple[float, float] | None = None

    def now(self) -> datetime:
        """Return the time, aware, UTC.

        Raises:
            DatabaseUnavailable: it had to be asked, once a minute or after a step of this machine's clock.
        """
        if self._database.is_sqlite:
            return utcnow()
        with self._lock:
            if self._is_due():
                with self._database.read() as connection:
                    self._offset = server_clock(connection) - utcnow()
                self._asked = time.time(), time.monotonic()
            return utcnow() + self._offset

    def _is_due(self) -> bool:
        if self._asked is None:
            return True
        wall, steady = (now - then for now, then in zip((time.time(), time.monotonic()), self._asked, strict=True))
        return steady > _LOOK_EVERY_S or abs(wall - steady) > _STEP_S
