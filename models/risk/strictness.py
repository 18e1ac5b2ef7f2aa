"""Whether a change of limits only tightens: a pure decision. Over HTTP and on the page no other change is taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from models.errors import Untrusted
from models.risk.decision import PRICE_MAX_AGE_S
from models.risk.names import NAMES, Limit, in_force, scope_words
from models.vocabulary import Denial

#: Limits that rows may have; `max_lifetime` is read from the settings alone.
OF_ROWS = tuple(name for name in NAMES if name != "max_lifetime")
#: Those that a change can be seen to tighten: of several `repeat_seconds` the shortest window counts, which is the
#: loosest.
ONLY_TIGHTENED = tuple(name for name in OF_ROWS if name != "repeat_seconds")
#: How loose a value is that is no number, and a limit that nobody has set; an amount is as loose as it is large.
_LOOSENESS: dict[str, int] = {"regular": 0, "extended": 1, "any": 2, "deny": 0, "allow": 1}
_UNSET: dict[str, Decimal | int] = {
    "restricted": 1, "allow_short": 1, "self_trade": 1, "session": 2, "price_max_age": PRICE_MAX_AGE_S,
}  # fmt: skip
_NO_LIMIT = Decimal("Infinity")


def must_only_tighten(
    seeds: Mapping[tuple[str, str, str], Limit], before: Sequence[Limit], after: Sequence[Limit], now: datetime
) -> None:
    """See that no limit becomes looser by a change of rows: at once, or when the time of one of them is over.

    Args:
        seeds: the limits of the settings.
        before: the rows, as they were.
        after: as they are to be.
        now: the moment.

    Raises:
        Untrusted: one does; names it, and what was in force.
    """
    ends = {row.until for row in (*before, *after) if row.until is not None and row.until > now}
    for at in sorted({now} | ends):
        old, new = _by_place(in_force(seeds, before, at)), _by_place(in_force(seeds, after, at))
        for place in sorted(old.keys() | new.keys()):
            if _looseness(place, new) > _looseness(place, old):
                raise _no(place, old.get(place), None if at == now else at)


def _by_place(limits: Iterable[Limit]) -> dict[tuple[str, str, str], Limit]:
    return {limit.place: limit for limit in limits}


def _looseness(place: tuple[str, str, str], limits: Mapping[tuple[str, str, str], Limit]) -> Decimal | int:
    name = place[-1]
    if (limit := limits.get(place)) is None:
        return _UNSET.get(name, _NO_LIMIT)
    if isinstance(limit.value, bool):
        return int(limit.value is (name != "restricted"))
    return limit.value if isinstance(limit.value, Decimal) else _LOOSENESS[limit.value]


def _no(place: tuple[str, str, str], old: Limit | None, at: datetime | None) -> Untrusted:
    kind, scope, name = place
    was = f"{old.words}, by {old.set_by}" if old else f"{name} of {scope_words(kind, scope)}, as it is where unset"
    when = f" from {at:%Y-%m-%d %H:%M:%S} UTC on" if at else ""
    words = f"{was}: would be looser{when}; over HTTP limits are only tightened, `corro limits` loosens and ends them"
    return Untrusted(words, Denial.NOT_PERMITTED)
