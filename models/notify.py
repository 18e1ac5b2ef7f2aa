"""`[notify]`: who is told when something needs a person, of what, and how long it may last before anybody is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from models.encoding import fitted
from models.environment import as_list


class NewsKind(StrEnum):
    """What people are told of."""

    UNRESOLVED = "unresolved"
    WORKER_SILENT = "worker_silent"
    BROKER_DISCONNECTED = "broker_disconnected"
    LOCKED = "locked"
    TRIPPED = "tripped"
    KILLED = "killed"
    DEAD_LETTER = "dead_letter"
    QUEUE_DOWN = "queue_down"
    DATABASE_DOWN = "database_down"
    UNPROTECTED = "unprotected"
    OVERFILLED = "overfilled"
    RECONCILIATION = "reconciliation"


@dataclass(frozen=True, slots=True)
class Topic:
    """How news of one kind are told.

    Args:
        words: what has happened, for a person.
        look: the command that shows it.
        lasts: it stands until it is over, and that is told too; else it happens, once.
        delay_s: what is over sooner is told to nobody.
    """

    words: str
    look: str
    lasts: bool = True
    delay_s: float = 0.0


TOPICS: dict[NewsKind, Topic] = {
    NewsKind.UNRESOLVED: Topic("nobody knows what became of an order", "corro unresolved"),
    NewsKind.WORKER_SILENT: Topic("a worker is silent", "corro fleet"),
    NewsKind.BROKER_DISCONNECTED: Topic("a broker takes no orders", "corro fleet", delay_s=60.0),
    NewsKind.LOCKED: Topic("a symbol is locked, as its position is not explained", "corro locks"),
    NewsKind.TRIPPED: Topic("a limit has stopped trading", "corro controls"),
    NewsKind.KILLED: Topic("somebody has stopped trading and canceled what was live", "corro controls"),
    NewsKind.DEAD_LETTER: Topic("a message could not be read", "corro dead-letters", lasts=False),
    NewsKind.QUEUE_DOWN: Topic(
        "the queue takes no messages; orders go on from the database", "corro check", delay_s=5.0
    ),
    NewsKind.DATABASE_DOWN: Topic("the database does not answer: nothing is sent", "corro check", delay_s=5.0),
    NewsKind.UNPROTECTED: Topic("a position stands without its exits", "corro order ID", lasts=False),
    NewsKind.OVERFILLED: Topic("more was filled than was ordered", "corro order ID", lasts=False),
    NewsKind.RECONCILIATION: Topic("the record and a broker differ", "corro order ID", lasts=False),
}
#: Events of orders that are news.
OF_EVENTS: dict[str, NewsKind] = {
    "unprotected": NewsKind.UNPROTECTED,
    "group_partial": NewsKind.UNPROTECTED,
    "overfilled": NewsKind.OVERFILLED,
    "overclosed": NewsKind.OVERFILLED,
    "legs_uneven": NewsKind.UNPROTECTED,
    "fill_unexplained": NewsKind.RECONCILIATION,
    "replaced_outside": NewsKind.RECONCILIATION,
}


#: Characters that the record keeps of what a concern is about.
LONGEST_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that a person should know of.

    Args:
        kind: of the news.
        subject: what it is about: an order, a worker, a symbol at a broker ...
        since: since when it stands, or when it happened.
        words: what is known of it.
    """

    kind: NewsKind
    subject: str
    since: datetime
    words: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same as before."""
        return str(self.kind), fitted(self.subject, LONGEST_SUBJECT)


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_BETWEEN = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
#: Hosts that are no secret; of many services the host of such a URL is a token.
_PLACE = re.compile(r"localhost|[\w-]+(\.[\w-]+)+|\[?[0-9a-fA-F:]+\]?")


def _must_be_an_address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and not _ADDRESS.fullmatch(text):
        raise ValueError("must be a URL such as json://HOST/PATH, mailto://... or https://...")
    return value


class NotifySettings(BaseModel):
    """`[notify]`: who is told, and of what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Where to, as apprise writes it: one URL for each service.
    urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    #: Of which kinds; none named is all.
    events: Annotated[tuple[NewsKind, ...], NoDecode] = ()
    #: A broker that is back sooner, seconds, is nobody's concern.
    disconnected_after: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60.0
    #: Asked for once a minute while all is well, so that somebody elsewhere sees when this stops.
    heartbeat_url: SecretStr = SecretStr("")

    @field_validator("urls", mode="before")
    @classmethod
    def _one_by_one(cls, value: object) -> object:
        if not isinstance(value, str) or value.strip().startswith("["):
            return as_list(value)
        return [part for part in _BETWEEN.split(value.strip()) if part]

    @field_validator("events", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return as_list(value)

    @field_validator("urls")
    @classmethod
    def _can_be_read(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        return tuple(map(_must_be_an_address, value))

    @field_validator("heartbeat_url")
    @classmethod
    def _is_http(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return _must_be_an_address(value)

    @property
    def wanted(self) -> frozenset[NewsKind]:
        """Kinds that somebody is told of."""
        return frozenset(self.events or NewsKind)

    @property
    def is_used(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.urls or self.heartbeat_url.get_secret_value())

    @property
    def addresses(self) -> list[str]:
        """The URLs as they are: to be used, never to be shown."""
        return [url.get_secret_value() for url in self.urls]

    def delay(self, kind: NewsKind) -> float:
        """Return how long something has to last before anybody is told, seconds."""
        return self.disconnected_after if kind is NewsKind.BROKER_DISCONNECTED else TOPICS[kind].delay_s

    def secrets(self) -> Iterator[str]:
        """Yield every part of the URLs that may be shown nowhere."""
        for url in (*self.addresses, self.heartbeat_url.get_secret_value()):
            yield from _secret_parts(url)


def _secret_parts(url: str) -> Iterator[str]:
    """Yield a URL and what of it may be a token: its user, its path, its query, and a host that is no place."""
    yield url
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    login, _, place = parts.netloc.rpartition("@")
    host = place.partition(":")[0] if not place.startswith("[") else ""
    pieces = [*login.split(":"), *parts.path.split("/"), *re.split("[&=]", parts.query), parts.fragment]
    pieces += [host] if host and not _PLACE.fullmatch(host) else []
    for piece in pieces:
        yield from {piece, unquote(piece)}
