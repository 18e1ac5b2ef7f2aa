"""Settings: `corro.toml`, then the environment above it, then what code passes in.

Secrets are `SecretStr` everywhere, so neither a log nor a repr shows them. Where no broker is configured at all, the
three sandbox brokers on loopback are used; as soon as one is configured, only the configured ones exist, so that a
simulated fill can never stand beside a real one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from models.broker_settings import SECRET as _SECRET
from models.broker_settings import BrokerSettings as BrokerSettings
from models.destinations import LONGEST, broker_of, joined, names_account, split
from models.environment import Environment, as_list
from models.errors import ConfigurationError
from models.explaining import explain
from models.group_settings import GroupSettings as GroupSettings
from models.notify import NotifySettings as NotifySettings
from models.outward import hide
from models.private import must_be_ours
from models.queue_url import QueueAddress, parse
from models.risk.names import RiskSettings
from models.sandbox_note import SANDBOX_FILE as SANDBOX_FILE
from models.sandbox_note import SandboxNote, SandboxSettings, read_note, sandbox_brokers
from models.secret_files import variable
from models.security import SecuritySettings as SecuritySettings
from models.timing import TimingSettings as TimingSettings
from models.vocabulary import ArrivalQuotes, LotMethod
from models.web import WebSettings

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
#: The password of a URL, before its host or among its parameters.
_PASSWORD = re.compile(r"(?<=:)[^\s:/][^\s]*(?=@)|(?<=password=)[^\s&]+")
#: Settings whose value may hold a password.
_URLS = frozenset({"database_url", "redis_url", "urls", "heartbeat_url"})
#: Databases and their drivers.
_DATABASES = frozenset({"sqlite", "sqlite+pysqlite", "postgresql+psycopg"})
#: Alpaca's own names for its keys.
ALPACA_KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
#: Order of preference where no route is configured.
_USUAL_ROUTE = ("ibkr", "alpaca", "tda", "schwab")


class RoutingSettings(BaseModel):
    """`[routing]`: which brokers an order tries, in which order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    route: Annotated[tuple[str, ...], NoDecode] = ()
    #: closes: `sell` and `buy_to_cover` are sent only where the broker holds the position. as_ordered: the first broker
    #: gets them unseen; only their fallback asks who holds it.
    sell: Literal["closes", "as_ordered"] = "closes"

    @field_validator("route", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return as_list(value)


class HistorySettings(BaseModel):
    """`[history]`: how the analyst's figures are reckoned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Which lots a closing execution closes: fifo is the oldest first, average has them all at their mean price.
    lots: LotMethod = LotMethod.FIFO
    #: For which orders the quote at arrival is read, after the send: asked are those that name a decision price.
    arrival: ArrivalQuotes = ArrivalQuotes.ASKED
    #: Seconds between readings of dividends, interest, fees, transfers and splits, where the broker tells them.
    cash_every: float = Field(default=3600.0, gt=0)


class Settings(BaseSettings):
    """Everything corro can be told from outside."""

    model_config = SettingsConfigDict(
        env_prefix="CORRO_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    #: SQLAlchemy URL; default: SQLite in `home`.
    database_url: str = Field(default="", repr=False)
    #: redis://, rediss://, redis+socket://, unix:// or sentinel://; default: an embedded server in `home`.
    redis_url: str = Field(default="", repr=False)
    #: Name of the master behind sentinel:// URLs.
    redis_master: str = "mymaster"
    #: Where the embedded queue, the database and the sandbox keep their files.
    home: Path = Path(".corro")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    routing: RoutingSettings = RoutingSettings()
    timing: TimingSettings = TimingSettings()
    risk: RiskSettings = RiskSettings()
    security: SecuritySettings = SecuritySettings()
    history: HistorySettings = HistorySettings()
    groups: GroupSettings = GroupSettings()
    notify: NotifySettings = NotifySettings()
    web: WebSettings = WebSettings()
    sandbox: SandboxSettings = SandboxSettings()
    brokers: dict[str, BrokerSettings] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put code above environment above file."""
        return (init_settings, Environment(settings_cls), TomlConfigSettingsSource(settings_cls, config_file()))

    @field_validator("home", mode="before")
    @classmethod
    def _is_somewhere(cls, value: object) -> object:
        return value if str(value) else cls.model_fields["home"].default

    @field_validator("brokers", mode="before")
    @classmethod
    def _adapters_default_to_the_name(cls, value: object) -> object:
        """Let `[brokers.ibkr]` need no `adapter = "ibkr"`."""
        if not isinstance(value, dict):
            return value
        tables = {}
        for name, table in value.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"broker name {name!r} must be lower case letters, digits, - and _")
            tables[name] = {"adapter": name, **table} if isinstance(table, dict) else table
            for account in (table.get("accounts") or ()) if isinstance(table, dict) else ():
                if len(joined(name, str(account))) > LONGEST:
                    raise ValueError(f"{joined(name, account)}: the names of a broker and its account are too long")
        return tables

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _queue_can_be_read(cls, value: str) -> str:
        if value:
            parse(value)
        return value

    @field_validator("database_url")
    @classmethod
    def _driver_is_ours(cls, value: str) -> str:
        """Take the names that others give PostgreSQL: the driver that comes with corro is psycopg."""
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", value)
        kind = re.match(r"([\w+.-]+):", url)
        if kind and kind[1] not in _DATABASES:
            raise ValueError(
                f"{kind[1]}:// is no database that corro can use: there are sqlite:///FILE and "
                "postgresql://USER@HOST/NAME"
            )
        return url

    @model_validator(mode="after")
    def _route_names_brokers(self) -> Self:
        unknown = [name for name in self.routing.route if broker_of(name) not in self.all_brokers]
        if unknown:
            raise ValueError(
                f"routing.route names {', '.join(unknown)}, but the brokers are {', '.join(sorted(self.all_brokers))}"
            )
        for name in self.routing.route:
            try:
                self.destination(name)
            except ConfigurationError as error:
                raise ValueError(f"routing.route: {error}") from None
        return self

    @model_validator(mode="after")
    def _limits_name_brokers(self) -> Self:
        accounts = {broker_of(name) for name in self.risk.account}
        unknown = sorted((self.risk.broker.keys() | accounts) - self.all_brokers.keys())
        if unknown:
            raise ValueError(
                f"risk names the broker {unknown[0]!r}, but the brokers are {', '.join(sorted(self.all_brokers))}"
            )
        for name in self.risk.account:
            if (known := self.all_brokers[broker_of(name)].accounts) and split(name)[1] not in known:
                raise ValueError(
                    f"risk names the account {name!r}, but {broker_of(name)} has {', '.join(sorted(known)) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _socket_is_ours(self) -> Self:
        self.must_own_socket()
        return self

    def must_own_socket(self) -> None:
        """See that the embedded queue's socket is nobody else's; again before every connect, for it may come late.

        Raises:
            ConfigurationError: its folder in the temporary directory is somebody else's.
        """
        if self.embedded_queue and (folder := embedded_socket(self.home).parent) != self.home.absolute():
            must_be_ours(folder)

    @property
    def is_sandbox(self) -> bool:
        """No broker is configured: the simulated ones are used."""
        return not self.brokers

    @cached_property
    def all_brokers(self) -> dict[str, BrokerSettings]:
        """The configured brokers, or the sandbox's."""
        return self.brokers or sandbox_brokers(self.sandbox_note, self.sandbox)

    @cached_property
    def sandbox_note(self) -> SandboxNote | None:
        """What the sandbox of this home says of itself; None while none runs."""
        return read_note(self.home)

    @cached_property
    def route(self) -> tuple[str, ...]:
        """The default route: as configured, or every broker in the usual order."""
        if self.routing.route:
            return self.routing.route
        known = self.all_brokers
        usual = [name for name in _USUAL_ROUTE if name in known]
        return tuple(usual + sorted(set(known) - set(usual)))

    @cached_property
    def destinations(self) -> tuple[str, ...]:
        """Everywhere an order can go: the brokers, and of those with several accounts each of these."""
        tables = self.all_brokers.items()
        return tuple(joined(name, account) for name, table in tables for account in (table.accounts or (None,)))

    def destination(self, wanted: str, account: str | None = None) -> str:
        """Return where an order goes that names a broker, or an account there.

        Args:
            wanted: as in a route: `alpaca`, `ibkr:ira`.
            account: of the order; holds where `wanted` names none.

        Raises:
            ConfigurationError: there is no such broker or account, or nothing says which one is meant; names those
                there are.
        """
        name, named = split(wanted)
        table = self.broker(name)
        if named is None and wanted != name:
            raise ConfigurationError(f"{wanted!r} names no account behind the colon")
        if (asked := named or account) is None and not table.accounts:
            return name
        found = asked or table.usual_account
        known = ", ".join(sorted(table.accounts)) or "none by name"
        if found is None:
            raise ConfigurationError(f"{name} has several accounts, and this names none: say {name}:ACCOUNT ({known})")
        if found not in table.accounts:
            raise ConfigurationError(f"{name} has no account {found!r}; it has {known}")
        return joined(name, found)

    def must_know(self, place: str) -> None:
        """Raise ConfigurationError where a place, `alpaca` or `ibkr:ira`, is no broker and no account of one."""
        (self.destination if names_account(place) else self.broker)(place)

    @property
    def brokers_in_order(self) -> tuple[str, ...]:
        """The brokers of the default route, each once, whatever accounts it names there."""
        return tuple(dict.fromkeys(map(broker_of, self.route)))

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'corro.db').absolute()}"

    @property
    def embedded_queue(self) -> bool:
        """Whether corro runs the queue's server itself."""
        return not self.redis_url

    @property
    def queue_url(self) -> str:
        """The queue's URL in force."""
        return self.redis_url or f"redis+socket://{quote(str(embedded_socket(self.home)))}"

    @cached_property
    def queue_address(self) -> QueueAddress:
        """The same, read: what every client of the queue is made from."""
        return parse(self.queue_url)

    def broker(self, name: str) -> BrokerSettings:
        """Return one broker's settings.

        Raises:
            ConfigurationError: there is no such broker; names those there are.
        """
        if name not in self.all_brokers:
            raise ConfigurationError(
                f"no broker {name!r} is configured; there are {', '.join(sorted(self.all_brokers))}"
            )
        return self.all_brokers[name]


def config_file() -> Path | None:
    """Return the settings file in force, if there is one.

    Raises:
        ConfigurationError: CORRO_CONFIG names a file that does not exist.
    """
    named = os.environ.get("CORRO_CONFIG")
    path = Path(named or "corro.toml")
    if named and not path.is_file():
        raise ConfigurationError(f"CORRO_CONFIG names {named}, but there is no such file")
    return path if path.is_file() else None


def load_settings(**overrides: object) -> Settings:
    """Read the settings.

    Raises:
        ConfigurationError: one line that names the setting, the value and what is wrong.
    """
    make: Callable[..., Settings] = Settings  # what does not fit is said by itself
    try:
        settings = make(**overrides)
    except ValidationError as error:
        raise ConfigurationError(f"settings: {explain(error, values=_harmless)}") from None
    except ValueError as error:  # of a source: its own words are in the cause, where there is one
        raise ConfigurationError(f"settings: {error.__cause__ or error}") from None
    hide(_secrets(settings))
    return settings


def _secrets(settings: Settings) -> Iterator[str]:
    """Yield what stands in these settings and may be shown nowhere: keys, tokens, passwords of URLs."""
    for table in settings.brokers.values():
        for key, value in (table.__pydantic_extra__ or {}).items():
            if isinstance(value, SecretStr) and not key.endswith("_path"):
                yield value.get_secret_value()
            elif isinstance(value, str):
                yield from _passwords(value)
        yield from table.accounts.values()
    for url in (settings.database_url, settings.redis_url):
        yield from _passwords(url)
    yield from settings.notify.secrets()
    yield from filter(None, (variable(name) for name in (*ALPACA_KEYS, "APCA_API_OAUTH_TOKEN")))


def _passwords(text: str) -> Iterator[str]:
    """Yield the passwords of a URL as they are written and as they are sent."""
    for url in re.split(r"[;,]", text):
        for raw in _PASSWORD.findall(url):
            yield from {raw, unquote(raw)}


def _harmless(field: str, value: object) -> bool:
    """Tell whether a value may be shown: not a whole table, nor what stands where a secret may stand."""
    path = field.split(".")
    outside = path[0] != "brokers" or len(path) > 2
    return outside and not isinstance(value, (dict, list)) and _URLS.isdisjoint(path) and not _SECRET.search(field)


def embedded_socket(home: Path) -> Path:
    """Return the unix socket of the embedded queue; a long home moves it to the temporary directory."""
    path = home.absolute() / "queue.sock"
    if len(os.fsencode(path)) < 100:  # sockaddr_un holds 108 bytes
        return path
    import hashlib
    import tempfile

    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"corro-{os.getuid()}-{digest}" / "queue.sock"
