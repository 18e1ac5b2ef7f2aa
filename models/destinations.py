"""Where an order can go: a broker, or one of several accounts behind a broker's login.

A destination is one text, as it stands in routes, in the scopes of accounts and in the tables of positions: `alpaca`,
`ibkr:ira`. The number of an account is in the settings alone; everywhere else it has the name that stands there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

#: Stands between a broker and its account; no name of either contains it.
BETWEEN = ":"
#: The name of an account.
ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,23}")
#: Characters of a destination: it stands in columns of this size.
LONGEST = 32


def _named(value: str) -> str:
    if not ACCOUNT.fullmatch(value):
        raise ValueError("must be the name of an account in the settings, such as ira; never its number")
    return value


AccountName = Annotated[str, AfterValidator(_named)]


def joined(broker: str, account: str | None) -> str:
    """Return the destination of a broker and an account; None is the only one there."""
    return broker if account is None else f"{broker}{BETWEEN}{account}"


def split(destination: str) -> tuple[str, str | None]:
    """Return the broker and the account of a destination."""
    broker, _, account = destination.partition(BETWEEN)
    return broker, account or None


def names_account(destination: str) -> bool:
    """Tell whether a destination names a broker and one of its accounts."""
    return all(part.strip() for part in destination.partition(BETWEEN))


def broker_of(destination: str) -> str:
    """Return the broker of a destination: whose queue and whose worker an order goes through."""
    return destination.partition(BETWEEN)[0]


def destination_of(row: Mapping[str, object]) -> str:
    """Return where a row is: an order, an attempt, an execution."""
    account = row["account"]
    return joined(str(row["broker"]), None if account is None else str(account))


def shown_number(number: str) -> str:
    """Return an account's number as people may see it: its last two characters."""
    return f"***{number[-2:]}" if len(number) > 4 else "***"
