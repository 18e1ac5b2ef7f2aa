"""What somebody asks for of a limit, on the command line or on the page: its scope, and until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from models.destinations import names_account
from models.errors import InvalidRequest
from models.risk.names import EVERYTHING

#: Characters of the longest name that anything has.
_LONGEST = 128
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def limit_scope(given: Mapping[str, str | None], mark: str = "") -> tuple[str, str]:
    """Return the kind and name of a limit's scope.

    Args:
        given: names by kind; None is not given.
        mark: before a name in words, such as `--`.

    Raises:
        InvalidRequest: a name is blank, too long or none, or there are several that make no scope.
    """
    named = {kind: name.strip() for kind, name in given.items() if name is not None}
    for kind, name in named.items():
        if not name or not name.isprintable() or len(name) > _LONGEST:  # a blank would be a limit of everything
            raise InvalidRequest(f"{mark}{kind}: must be a name, was {given[kind]!r:.200}")
    if "symbol" in named:
        named["symbol"] = named["symbol"].upper()
    for kind in {"broker", "symbol", "key"} & named.keys():  # of a symbol, a part would be the strategy's
        if ":" in named[kind]:
            raise InvalidRequest(f"{mark}{kind}: has no colon, was {given[kind]!r}")
    if "account" in named and not names_account(named["account"]):
        raise InvalidRequest(f"{mark}account: must be BROKER:ACCOUNT, was {given['account']!r}")
    if named.keys() == {"strategy", "symbol"}:
        return "strategy+symbol", f"{named['strategy']}:{named['symbol']}"
    if len(named) > 1:
        raise InvalidRequest(
            f"a limit has one scope, or {mark}strategy with {mark}symbol; had {', '.join(sorted(named))}"
        )
    return next(iter(named.items()), (EVERYTHING, EVERYTHING))


def names_of(kind: str, scope: str) -> list[tuple[str, str]]:
    """Return the names in a limit's scope, each with its kind; of everything there are none."""
    if kind == EVERYTHING:
        return []
    if "+" not in kind:
        return [(kind, scope)]
    names = scope.rpartition(":")[::2]  # no symbol has a colon
    return list(zip(kind.split("+"), names, strict=True))


def limit_until(text: str | None, now: datetime, mark: str = "") -> datetime | None:
    """Return until when a limit holds: an ISO time, a date, or a span from now such as 8h; None: until it is ended.

    Raises:
        InvalidRequest: it is none of these, or past.
    """
    if text is None:
        return None
    try:
        span = _SPAN.fullmatch(text)
        when = now + timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(text)
        when = (when.replace(tzinfo=UTC) if when.tzinfo is None else when).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{mark}until: must be an ISO time, a date, or a span such as 8h, was {text!r}") from None
    if when <= now:
        raise InvalidRequest(f"{mark}until: must be a time to come, was {text!r}")
    return when
