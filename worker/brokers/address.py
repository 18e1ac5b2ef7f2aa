"""Where an account's keys and orders may go: one judgement of every URL, host, port and account in the settings.

Two parsers may read two hosts out of one URL (`https://a%2Eb`, `https://paper@live`, IDNA, backslashes), so a URL is
first held to a grammar in which no two can differ, and then compared with what the HTTP library makes of it. Without
`live = true` only loopback and the hosts known for simulated money pass: an unknown host may be a way to real money.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from models.errors import ConfigurationError

#: Scheme, host (a name or a bracketed IPv6 address), port and path, each in the letters that every parser reads alike.
_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])"
    r"(:(?P<port>[0-9]{1,5}))?(?P<path>(/[a-z0-9._~-]*)*)",
    re.IGNORECASE | re.ASCII,
)
_HTTP_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A URL of the settings that was judged."""

    scheme: str
    #: Lower case, without the dot that may end a name, IPv6 without brackets.
    host: str
    port: int
    #: What requests are made of: no trailing slash.
    url: str

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine; only `localhost` and plain addresses, no other spelling of one."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def address(broker: str, key: str, url: object) -> Address:
    """Read a URL of the settings as the HTTP library will send it.

    Raises:
        ConfigurationError: it is more than scheme, host, port and path, or is not read by everybody alike.
    """
    text, setting = str(url).strip(), f"brokers.{broker}.{key}"
    found = _PLAIN.fullmatch(text)
    if found is None:
        note = " (a user or password has no place in it)" if "@" in text else ""
        shown = f"{without_secrets(text)!r}{note}"
        raise ConfigurationError(f"{setting} must be an http:// or https:// URL of host, port and path, was {shown}")
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = int(found["port"] or _HTTP_PORTS[scheme])
    sent = _as_sent(text)
    if not 0 < port < 65_536 or sent != (scheme, host, found["port"] and port):
        raise ConfigurationError(f"{setting} {text!r} would be sent to {sent}: write host and port plainly")
    return Address(scheme, host.strip("[]").rstrip("."), port, f"{scheme}{text[len(scheme) :].rstrip('/')}")


def _as_sent(text: str) -> tuple[str | None, str | None, int | None]:
    """Return scheme, host and port as the HTTP library reads them; Nones where it does not."""
    try:
        parts = parse_url(requests.Request("GET", text).prepare().url or "")
    except (requests.RequestException, HTTPError):
        return None, None, None
    return parts.scheme, parts.host, parts.port


def judge(
    broker: str, key: str, url: object, *, live: bool, real: Collection[str], simulated: Collection[str]
) -> Address:
    """Read a URL, and refuse one that keys or orders must not be sent to.

    Args:
        broker: name from the settings.
        key: of the setting.
        url: its value.
        live: real money is meant.
        real: the broker's own hosts behind which real money is; for the words.
        simulated: hosts known for simulated money, or for none.

    Raises:
        ConfigurationError: it is no plain URL, leaves this machine in the clear, or needs `live = true`.
    """
    found = address(broker, key, url)
    if found.is_loopback:
        return found
    setting = f"brokers.{broker}.{key}"
    if found.scheme != "https":
        raise ConfigurationError(f"{setting} {found.url} sends keys in clear text: plain http is for loopback only")
    if not live and found.host not in simulated:
        what = f"the live host {found.host}" if found.host in real else f"{found.host}, which nobody knows as simulated"
        raise real_money(setting, what, ", ".join(["loopback", *sorted(simulated)]))
    return found


def real_money(setting: str, what: str, instead: str) -> ConfigurationError:
    """Return the refusal of possible real money: the same words for a host, a port and an account."""
    return ConfigurationError(
        f"{setting} is {what}: real money. Set live = true on this broker if it is meant; without it: {instead}"
    )


def without_secrets(url: object) -> str:
    """Return a URL, or a text meant as one, as it may be shown: without user, password, query and fragment."""
    text = str(url)
    head, at, tail = text.rpartition("@")
    scheme = re.match(r"[a-z0-9+.-]*://", head, re.IGNORECASE)
    shown = f"{scheme[0] if scheme else ''}***@{tail}" if at else text
    return re.sub(r"[?#].*", "?***", shown, flags=re.DOTALL)
