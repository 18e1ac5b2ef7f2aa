"""One broker's table in the settings: its adapter, that adapter's own keys, and the accounts behind its login."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from models.decimals import exact
from models.destinations import ACCOUNT
from models.errors import ConfigurationError
from models.secret_files import content

#: What the name of a secret speaks of.
SECRET = re.compile(r"key|secret|token|password", re.IGNORECASE)


class BrokerSettings(BaseModel):
    """One `[brokers.<name>]` table: `adapter`, `live`, and whatever keys that adapter takes.

    Keys whose name speaks of a key, secret, token or password become `SecretStr`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    #: Entry point in the group `corro.brokers`; defaults to the broker's name.
    adapter: str
    #: Real money. Without it a live URL, port or account is refused.
    live: bool = False

    @model_validator(mode="before")
    @classmethod
    def _hide_secrets(cls, data: object) -> object:
        """Keep keys, tokens and passwords where nothing prints them."""
        if not isinstance(data, dict):
            return data
        found = {
            key: SecretStr(str(value)) if SECRET.search(key) and not isinstance(value, SecretStr) else value
            for key, value in _from_files(data).items()
        }
        return found | ({"accounts": _hidden_numbers(found["accounts"])} if found.get("accounts") else {})

    def get(self, key: str, default: object = None) -> Any:
        """Return an adapter's own key; secrets come as plain text, so keep them out of logs."""
        value = (self.__pydantic_extra__ or {}).get(key, default)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Return a number among an adapter's own keys.

        Raises:
            ValueError: it is none, or outside of its range.
        """
        given = self.get(key)
        try:
            found = exact(default if given in (None, "") else given)
        except ValueError as error:
            raise ValueError(f"{key}: {error}, was {given!r}") from None
        if not least <= found <= most:
            raise ValueError(f"{key}: must be {least:.10g} to {most:.10g}, was {given!r}")
        return float(found)

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number among an adapter's own keys.

        Raises:
            ValueError: it is none, or outside of its range.
        """
        found = self.number(key, default, least, most)
        if found != int(found):
            raise ValueError(f"{key}: must be a whole number, was {self.get(key)!r}")
        return int(found)

    @property
    def accounts(self) -> dict[str, str]:
        """The numbers of several accounts behind this login, by their names; empty where it is used as one account."""
        found: Mapping[str, SecretStr] = (self.__pydantic_extra__ or {}).get("accounts") or {}
        return {name: number.get_secret_value() for name, number in found.items()}

    @property
    def usual_account(self) -> str | None:
        """The account of orders that name none: the one that `account` or `account_id` names, or the only one."""
        named, accounts = str(self.get("account") or self.get("account_id") or ""), self.accounts
        found = [name for name, number in accounts.items() if named in (name, number)]
        return found[0] if found else next(iter(accounts)) if len(accounts) == 1 else None

    def secrets(self) -> list[str]:
        """Return the keys of this table that are secret."""
        return [key for key, value in (self.__pydantic_extra__ or {}).items() if isinstance(value, SecretStr)]

    def need(self, key: str, broker: str) -> str:
        """Return a key that the adapter cannot do without.

        Raises:
            ConfigurationError: names the setting and the environment variable that is missing.
        """
        value = self.get(key)
        if value in (None, ""):
            raise ConfigurationError(
                f"brokers.{broker}.{key} is missing: set it in corro.toml or as "
                f"CORRO_BROKERS__{broker.upper()}__{key.upper()}"
            )
        return str(value)


def _from_files(table: Mapping[str, object]) -> dict[str, object]:
    """Return a broker's table in which a secret whose file is named (`secret_key_file`) is what the file holds.

    Raises:
        ConfigurationError: both are given, or the file cannot be read.
    """
    found = dict(table)
    for name in [name for name in found if name.endswith("_file") and SECRET.search(name)]:
        base, path = name.removesuffix("_file"), str(found.pop(name))
        if found.get(base):
            raise ConfigurationError(f"settings: {base} and {name} are both set; take one of them away")
        found[base] = content(name, path)
    return found


def _hidden_numbers(accounts: object) -> dict[str, SecretStr]:
    """Return the accounts of a broker with their numbers where nothing prints them.

    Raises:
        ValueError: they are no names with numbers, or two names have one number.
    """
    if not isinstance(accounts, Mapping):
        raise ValueError('accounts: must be names with numbers, such as ira = "U1234567"')
    for name in accounts:
        if not ACCOUNT.fullmatch(str(name)):
            raise ValueError(f"accounts: {name!r} must be lower case letters, digits, - and _, 24 at most")
    numbers = {str(n): v.get_secret_value() if isinstance(v, SecretStr) else str(v) for n, v in accounts.items()}
    if "" in numbers.values() or len(set(numbers.values())) < len(numbers):
        raise ValueError("accounts: each name needs a number of its own")
    return {name: SecretStr(number) for name, number in numbers.items()}
