"""What a list is asked for, read strictly: the empty answer to a filter that nothing can fit would be no fact."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from models.errors import InvalidRequest
from models.record.database import Database
from models.record.reading import must_know_broker
from models.settings import Settings
from models.vocabulary import OPEN, Outcome, Status
from producers.cli.app import placed

_DIGITS = re.compile(r"-?[0-9]+", re.ASCII)
#: Filters whose words are counted.
_KINDS: dict[str, type[StrEnum]] = {"status": Status, "outcome": Outcome}
#: Words of a filter that stand for several.
_MEANT = {("status", "open"): sorted(map(str, OPEN))}


def digits(value: object) -> object:
    """Take a whole number as its digits: Python would also read `1_0`, which nobody else does.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number")
    return value


class Filters:
    """Reads filters.

    Args:
        settings: which brokers there are.
        database: knows of brokers that there were.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database

    def chosen(self, **equal: str | None) -> dict[str, Any]:
        """Return what columns have to be, of the filters that are given; an account is one as the commands write it.

        Raises:
            InvalidRequest: nothing can fit one of them.
        """
        if (account := equal.pop("account", None)) is not None:
            where = placed(equal.pop("broker", None), account, self.settings.destinations)
            return self.chosen(**equal) | where
        return {name: self.read(name, text) for name, text in equal.items() if text is not None}

    def read(self, name: str, text: str) -> list[str]:
        """Return what a column has to be one of, of words with commas between.

        Raises:
            InvalidRequest: there is no word, or one of them can be nothing that is in the record.
        """
        found = [word.strip() for word in text.split(",") if word.strip()]
        if not found:
            raise InvalidRequest(f"{name}: is blank; leave it out where everything is meant")
        if name == "broker":
            for word in found:
                must_know_broker(self.database, self.settings.all_brokers, word)
        if name not in _KINDS:
            return found
        meant = [word for given in found for word in _MEANT.get((name, given), [given])]
        for word in meant:
            if word not in set(_KINDS[name]):
                short = "".join(f"{word}, or " for kind, word in _MEANT if kind == name)
                raise InvalidRequest(f"{name}: must be {short}one of {', '.join(_KINDS[name])}, was {word!r}")
        return list(dict.fromkeys(meant))
