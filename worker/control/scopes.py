"""What a control is about: everything, one broker, account, strategy, symbol or key, or two of these together.

A scope is two texts, as the tables have it: `scope_kind` ("*", "strategy", "strategy+symbol") and `scope` ("*", "dip",
"dip:KO"). An account is named with its broker, `ibkr:ira`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.destinations import broker_of, names_account
from models.errors import InvalidRequest

if TYPE_CHECKING:
    from models.record.controls import ControlRow
    from models.settings import Settings

#: In the order in which two of them are joined.
KINDS = ("broker", "account", "strategy", "symbol", "key")
#: Scopes of one broker: elsewhere an order may go on.
_OF_A_BROKER = frozenset({"broker", "account"})
#: Parts between colons that a name has; a strategy's may have any number.
_PARTS = {"broker": 1, "account": 2, "symbol": 1, "key": 1}
_LONGEST = 128
#: Where a row has the name of a kind.
COLUMNS = {"strategy": "strategy", "symbol": "symbol", "key": "key_id"}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a control is about.

    Args:
        kind: `*`, or one or two of `KINDS` joined by +.
        text: `*`, or their names joined by colons.
    """

    kind: str = "*"
    text: str = "*"

    @classmethod
    def of(cls, **names: str | None) -> Scope:
        """Return the scope of these names, by kind, without the blanks around them; of none it is everything.

        Raises:
            InvalidRequest: a name is blank, too long or none, an account has no broker, or they are too many.
        """
        given = {kind: name for kind in KINDS if (name := names.get(kind)) is not None}
        for kind, name in given.items():
            if not name.strip() or not name.isprintable():
                raise InvalidRequest(f"--{kind}: must be a name, was {name!r:.200}")
            if ":" in name and kind in ("broker", "symbol", "key"):
                raise InvalidRequest(f"--{kind}: has no colon, was {name!r:.200}")
        given = {kind: name.strip() for kind, name in given.items()}
        if "account" in given and (not names_account(given["account"]) or "broker" in given):
            raise InvalidRequest(f"--account: must be BROKER:ACCOUNT, and no --broker beside it: {given['account']!r}")
        if len(given) > 2:
            raise InvalidRequest(f"a scope has one or two of {', '.join(KINDS)}, not {', '.join(given)}")
        if "symbol" in given:
            given["symbol"] = given["symbol"].upper()
        text = ":".join(given.values())
        if len(text) > _LONGEST:
            raise InvalidRequest(f"a scope has {_LONGEST} characters at most, was {text!r:.200}")
        return cls("+".join(given), text) if given else cls()

    @property
    def everywhere(self) -> bool:
        """Whether it holds at every broker: an order that it stops has nowhere to go on to."""
        return _OF_A_BROKER.isdisjoint(self.kind.split("+"))

    @property
    def names(self) -> dict[str, str]:
        """The names by kind; empty for everything."""
        kinds, words = self.kind.split("+"), self.text.split(":")
        if kinds == ["*"]:
            return {}
        found = {}
        for place, kind in enumerate(kinds):
            after = sum(_PARTS.get(later, 1) for later in kinds[place + 1 :])
            size = _PARTS.get(kind, len(words) - after)
            found[kind], words = ":".join(words[:size]), words[size:]
        return found

    @property
    def words(self) -> str:
        """What it is, for a person."""
        told = [name if kind == "broker" else f"{kind} {name}" for kind, name in reversed(self.names.items())]
        return " at ".join(told) or "all brokers"

    @property
    def resume(self) -> str:
        """The command that lets it go on, as a shell takes it whoever chose the names: a person pastes it."""
        options = [f"--{kind} {shlex.quote(name)}" for kind, name in self.names.items()]
        return " ".join(["corro resume", *options, "--by NAME --reason WHY"])

    def covers(self, facts: Mapping[str, str | None]) -> bool:
        """Tell whether an order is in this scope.

        An order that names no account counts to each account of its broker, and a kind of scope that this version does
        not know covers everything: where nobody can tell, more is stopped rather than less.

        Args:
            facts: of the order, as `facts_of` returns them.
        """
        return all(_is(kind, name, facts) for kind, name in self.names.items() if kind in facts)


def _is(kind: str, name: str, facts: Mapping[str, str | None]) -> bool:
    if kind == "account" and facts[kind] is None:
        return name.startswith(f"{facts['broker']}:")
    return facts[kind] == name


def must_be_there(settings: Settings, scope: Scope) -> None:
    """Raise ConfigurationError where a scope names a broker, or an account of one that names its own, that is none."""
    place = scope.names.get("broker") or scope.names.get("account")
    if place and settings.broker(broker_of(place)).accounts:  # else every order there counts to whatever is said
        settings.must_know(place)


def scope_of(control: ControlRow) -> Scope:
    """Return what a control is about."""
    return Scope(control["scope_kind"], control["scope"])


def facts_of(order: Mapping[str, object], broker: str) -> dict[str, str | None]:
    """Return what an order is to the scopes.

    Args:
        order: its row.
        broker: where it is, or would be sent.
    """
    account = order.get("account")
    given = {kind: order.get(column) for kind, column in COLUMNS.items()}
    facts = {kind: str(value) if value is not None else None for kind, value in given.items()}
    return facts | {"broker": broker, "account": f"{broker}:{account}" if account else None}
