"""The accounts that are traded of those that a login at Interactive Brokers manages, and their names.

A login manages one account, or several: a family's, an advisor's (docs/facts/ibkr.md#1.9 tells paper ones from live
ones). Each order then has to name its own. Where the settings name several, only these are traded, and told by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.destinations import shown_number
from models.errors import ConfigurationError, Unsupported
from worker.brokers.address import real_money


@dataclass(frozen=True, slots=True)
class TradedAccounts:
    """Whose orders are sent, and whose rows count.

    Args:
        usual: the number of the account that is meant where nobody says which; empty until the login has told.
        names: name -> number, where there are several; empty where one is traded that needs no name.
        is_sole: the login manages no other account, so orders need not say which.
    """

    usual: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    is_sole: bool = True

    @property
    def numbers(self) -> list[str]:
        """The numbers of all that are traded."""
        return list(self.names.values()) or [self.usual]

    def is_mine(self, number: str) -> bool:
        """Tell whether a row with this number is of an account that is traded, or may be."""
        return not self.usual or not number or number in self.numbers

    def name_of(self, number: str) -> str | None:
        """Return the name of an account; None where it has none."""
        return next((name for name, theirs in self.names.items() if theirs == number), None)

    def label_of(self, number: str) -> str:
        """Return what an account is called: its name, or its number where it has none."""
        return self.name_of(number) or number

    def for_order(self, name: str | None, broker: str) -> str:
        """Return the number that an order carries; empty where it need not name its account.

        Raises:
            Unsupported: no account has that name.
        """
        if name is None and not self.names:
            return "" if self.is_sole else self.usual
        if name is None or name not in self.names:
            words = f"no account {name!r} here; there are {', '.join(sorted(self.names)) or 'none by name'}"
            raise Unsupported(f"{broker}: {words}", broker=broker)
        return self.names[name]


def traded_accounts(
    broker: str, managed: Sequence[str], account: str, names: Mapping[str, str], *, live: bool
) -> TradedAccounts:
    """Return what is traded of the accounts that a login manages.

    Args:
        broker: name from the settings.
        managed: numbers, as TWS tells them.
        account: the setting of that name: a number, or one of the names.
        names: the setting `accounts`: name -> number.
        live: real money is meant.

    Raises:
        ConfigurationError: that is not clear, or not allowed.
    """
    where = f"brokers.{broker}.{'accounts' if names else 'account'}"
    if missing := [name for name, number in names.items() if number not in managed]:
        raise ConfigurationError(f"{where}.{missing[0]} is none of the {len(managed)} accounts that this login manages")
    wanted = names.get(account, account) or (next(iter(names.values())) if names else "")
    if wanted and wanted not in managed:
        raise ConfigurationError(f"{where} is {account}, but this login manages {', '.join(managed)}")
    if not wanted and len(managed) > 1:
        words = f"this login manages {', '.join(managed)}; name one, or several as [brokers.{broker}.accounts]"
        raise ConfigurationError(f"{where} is missing: {words}")
    found = TradedAccounts(wanted or managed[0], names, is_sole=len(managed) == 1)
    if not live and (real := [number for number in found.numbers if not number.startswith("D")]):
        shown = shown_number(real[0]) if names else real[0]
        raise real_money(where, f"{shown}, a live account", "paper accounts begin with D")
    return found
