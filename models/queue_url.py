"""The queue's address: one reading of `redis_url`, checked with the settings and handed to every client.

redis-py and kombu read the same URL differently: `rediss://host/0` is verified by the one and not by the other, a query
parameter that the one refuses is dropped by the other. So neither of them reads it. Both get what is parsed here.

| scheme                          | leads to                                                                     |
|---------------------------------|------------------------------------------------------------------------------|
| redis://[user:password@]host    | host, [:port], [/database]                                                   |
| rediss://                       | the same over TLS, the certificate verified unless `ssl_cert_reqs=none`      |
| redis+socket://, unix://        | a unix socket by its absolute path; `?db=N` (kombu writes `virtual_host=N`)  |
| sentinel://host;sentinel://host | the master that these sentinels name                                         |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

Kind = Literal["tcp", "socket", "sentinel"]

#: How each scheme is reached.
KINDS: dict[str, Kind] = {
    "redis": "tcp",
    "rediss": "tcp",
    "redis+socket": "socket",
    "unix": "socket",
    "socket": "socket",
    "sentinel": "sentinel",
}
_PORT = {"tcp": 6379, "sentinel": 26379}
#: Longest path of a unix socket in bytes: sockaddr_un holds 108, one of them the closing NUL.
_LONGEST_PATH = 107
_PASSWORD = re.compile(r"(://[^:@/;]*):.*@")
_DB = re.compile(r"[0-9]{1,5}", re.ASCII)


def _file(value: str) -> str:
    if not Path(value).is_file():
        raise ValueError(f"there is no file {value!r}")
    return value


def _yes_or_no(value: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if value.lower() not in words:
        raise ValueError(f"must be true or false, was {value!r}")
    return words[value.lower()]


def _certificate(value: str) -> str:
    word = value.lower().removeprefix("cert_")
    if word not in ("none", "optional", "required"):
        raise ValueError(f"must be none, optional or required, was {value!r}")
    return word


#: Query parameters of rediss://, by redis-py's own names, each with what reads it.
_TLS: dict[str, Callable[[str], object]] = {
    "ssl_cert_reqs": _certificate,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_check_hostname": _yes_or_no,
}


@dataclass(frozen=True)
class QueueAddress:
    """Where the queue is.

    Attributes:
        kind: tcp, socket or sentinel.
        hosts: (host, port): one of the queue, or several of sentinels; none for a socket.
        path: of the unix socket.
        db: number of the database.
        username: None for the default user.
        password: of that user.
        tls: what redis-py takes for TLS; None without.
        shown: the URL for people, without the password.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = None
    shown: str = ""


def parse(url: str) -> QueueAddress:
    """Read a URL of the queue.

    Raises:
        ValueError: what is wrong with it, without its password.
    """
    try:
        return _parse(url)
    except ValueError as error:
        raise ValueError(f"{error} (in {without_password(url)!r})") from None


def without_password(url: str) -> str:
    """Return a URL, or several joined by `;`, as it may be shown."""
    parts = url.split(";") if url.startswith("sentinel:") else [url]
    return ";".join(_PASSWORD.sub(r"\1:***@", part) for part in parts)


def _parse(url: str) -> QueueAddress:
    """Read a URL; as `parse`, but the error does not name the URL."""
    if not url.isprintable() or " " in url:
        raise ValueError("a URL holds no blanks and no control characters")
    scheme = url.partition("://")[0].lower()
    if "://" not in url or scheme not in KINDS:
        raise ValueError(f"unknown scheme {scheme[:32]!r}; known are redis, rediss, redis+socket, unix and sentinel")
    kind = KINDS[scheme]
    urls = [part for part in url.split(";") if part] if kind == "sentinel" else [url]
    parts = [_split(part, scheme) for part in urls]
    query = _query([part.query for part in parts], scheme)
    users = {_user(part) for part in parts} - {(None, None)}
    if len(users) > 1:
        raise ValueError("the sentinels name different users or passwords")
    username, password = users.pop() if users else (None, None)
    found: dict[str, Any] = {"username": username, "password": password, "shown": without_password(url)}
    if kind == "socket":
        return QueueAddress(kind, path=_path(parts[0]), db=_db({query.get("db", "")}), **found)
    return QueueAddress(
        kind,
        hosts=tuple((part.hostname or "127.0.0.1", part.port or _PORT[kind]) for part in parts),
        db=_db({*(part.path.strip("/") for part in parts), query.get("db", "")}),
        tls=_tls(query) if scheme == "rediss" else None,
        **found,
    )


def _split(url: str, scheme: str) -> SplitResult:
    """Split a URL.

    Raises:
        ValueError: it holds what would be read as something else than it was meant to be.
    """
    parts = urlsplit(url)
    if parts.scheme != scheme:
        raise ValueError(f"every part must begin with {scheme}://")
    if parts.fragment or "#" in url:
        raise ValueError("a # must be written as %23, also in a password (and / as %2F, ? as %3F)")
    try:
        _ = parts.port
    except ValueError:  # whose words may be the beginning of a password
        raise ValueError("the port must be a number up to 65535 (a / in a password must be written as %2F)") from None
    return parts


def _user(parts: SplitResult) -> tuple[str | None, str | None]:
    name, word = parts.username, parts.password
    return (unquote(name) if name else None, unquote(word) if word else None)


def _query(texts: list[str], scheme: str) -> dict[str, str]:
    """Return the parameters of all URLs together.

    Raises:
        ValueError: one is unknown, or has two values.
    """
    known = ("db", "virtual_host", *(_TLS if scheme == "rediss" else ()))
    found: dict[str, str] = {}
    for name, value in (pair for text in texts for pair in parse_qsl(text, keep_blank_values=True)):
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}; {scheme} takes {', '.join(known)}")
        name = "db" if name == "virtual_host" else name
        if found.setdefault(name, value) != value:
            raise ValueError(f"{name} is given twice")
    return found


def _db(given: set[str]) -> int:
    """Return the number of the database.

    Raises:
        ValueError: several are named, or it is no number.
    """
    numbers = given - {""}
    if len(numbers) > 1:
        raise ValueError(f"several databases are named: {', '.join(sorted(numbers))}")
    text = numbers.pop() if numbers else "0"
    if not _DB.fullmatch(text):
        raise ValueError("the database must be a number, such as /0 (a / in a password must be written as %2F)")
    return int(text)


def _path(parts: SplitResult) -> str:
    """Return the path of a socket.

    Raises:
        ValueError: it is not absolute, or longer than a socket's may be.
    """
    path = unquote(parts.path)
    if parts.hostname or not path.startswith("/") or path == "/":
        raise ValueError("a socket is named by its absolute path, after three slashes")
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError(f"the path of a socket may have {_LONGEST_PATH} bytes")
    return path


def _tls(query: Mapping[str, str]) -> dict[str, object]:
    """Return what redis-py takes for TLS; certificates are required unless the URL says otherwise.

    Raises:
        ValueError: a parameter cannot be read.
    """
    found: dict[str, object] = {"ssl_cert_reqs": "required"}
    for name, read in _TLS.items():
        if name in query:
            try:
                found[name] = read(query[name])
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
    verified = found["ssl_cert_reqs"] != "none"
    return {"ssl_check_hostname": verified, **found}
