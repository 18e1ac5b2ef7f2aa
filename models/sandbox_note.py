"""The simulated brokers: what a running sandbox says of itself in its home, and which accounts its doors have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.broker_settings import BrokerSettings
from models.destinations import AccountName
from models.environment import as_list

#: What a running sandbox writes to its home: where its doors are, and its name. There is no other way to find it, for
#: on its usual ports another home's may listen.
SANDBOX_FILE = "sandbox.json"
#: Doors that can have several accounts behind their login, with the number of the first one.
_FIRST = {"ibkr": "DU1000001", "tda": "123456789", "schwab": "12345678"}


class SandboxNote(BaseModel):
    """What a running sandbox says of itself in its home.

    Args:
        ports: by door.
        name: shown at every door: a sandbox that has taken over a port lets nobody in who names another one.
    """

    model_config = ConfigDict(frozen=True)

    ports: dict[str, int]
    name: str = Field(min_length=1)


class SandboxSettings(BaseModel):
    """`[sandbox]`: how the simulated brokers are opened."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Names of several accounts behind a door's login, the usual one first; a door that is not named has one account.
    accounts: dict[str, Annotated[tuple[AccountName, ...], Field(min_length=1)]] = {}

    @field_validator("accounts", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {door: as_list(names) for door, names in value.items()} if isinstance(value, dict) else value

    @field_validator("accounts")
    @classmethod
    def _fits_the_doors(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for door, names in value.items():
            if door not in _FIRST:
                raise ValueError(f"{door!r} has no accounts behind one login; these doors have: {', '.join(_FIRST)}")
            if len(set(names)) < len(names):
                raise ValueError(f"{door}: each account needs a name of its own, were {', '.join(names)}")
        return value

    def numbers(self, door: str) -> dict[str, str]:
        """Return the numbers of a door's accounts by their names: the usual number, and those that follow it."""
        first = _FIRST.get(door, "")
        letters = first.rstrip("0123456789")
        start = int(first[len(letters) :] or 0)
        return {name: f"{letters}{start + place}" for place, name in enumerate(self.accounts.get(door, ()))}

    @property
    def arguments(self) -> list[str]:
        """What the sandbox's process has to be told of it."""
        return [f"--accounts={door}={','.join(self.numbers(door).values())}" for door in self.accounts]


def read_note(home: Path) -> SandboxNote | None:
    """Return what the sandbox of a home has written there; None without one, or where nobody can read it."""
    try:
        return SandboxNote.model_validate_json((home / SANDBOX_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def sandbox_brokers(note: SandboxNote | None, opened: SandboxSettings) -> dict[str, BrokerSettings]:
    """Return settings for the sandbox's doors; without addresses while it is not known to run."""
    tables: dict[str, dict[str, object]] = {"ibkr": {}, "alpaca": {}, "tda": {}}
    if note is not None and tables.keys() <= note.ports.keys():
        urls = {name: f"http://127.0.0.1:{port}" for name, port in note.ports.items()}
        alpaca = {"base_url": urls["alpaca"], "data_url": urls["alpaca"], "key_id": "sandbox"}
        tda = {"base_url": f"{urls['tda']}/v1", "api_key": "sandbox", "account_id": _FIRST["tda"]}
        tables = {
            "ibkr": {"host": "127.0.0.1", "port": note.ports["ibkr"], "client_id": 1, "connect_options": note.name},
            "alpaca": {**alpaca, "secret_key": note.name},
            "tda": {**tda, "refresh_token": note.name},
        }
    for name in tables.keys() & opened.accounts.keys():
        key = "account" if name == "ibkr" else "account_id"
        tables[name] |= {"accounts": opened.numbers(name), key: opened.accounts[name][0]}
    return {name: BrokerSettings(adapter=name, **table) for name, table in tables.items()}
