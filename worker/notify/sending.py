"""The services that people are told by, through apprise; and the heartbeat. Bounded in time, and without a secret."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from urllib.parse import urljoin

import requests

from models.errors import ConfigurationError, CorroError
from models.extras import install
from models.outward import discreet
from models.troubles import trouble
from worker.brokers.rest.bodies import TooLarge
from worker.brokers.rest.exchanges import Adapter, exchange
from worker.notify.post import post

#: Seconds that the heartbeat's receiver has in all, and how often it may name another address.
_HEARTBEAT_S, _MOST_MOVES = 8.0, 5
_WHO = {"User-Agent": "corro"}
#: Characters of what a service said.
_LONGEST = 300
#: Apprise's words for how urgent it is.
WARNING, SUCCESS, INFO = "warning", "success", "info"


def is_installed() -> bool:
    """Tell whether the extra `notify` is there."""
    return importlib.util.find_spec("apprise") is not None


def digest(url: str) -> str:
    """Return what a URL is called in a row: nobody learns the URL from it."""
    return hashlib.sha256(b"corro notify\n" + url.encode()).hexdigest()[:16]


def shown(url: str) -> str:
    """Return a URL as people may see it: which service it is, and nothing of how to reach it."""
    return f"{url.partition('://')[0]}://***"


def must_be_usable(urls: Sequence[str]) -> None:
    """See that apprise is installed and knows every URL's service.

    Raises:
        ConfigurationError: says which one it does not know, by its place in the list.
    """
    if not is_installed():
        raise ConfigurationError(f"[notify] urls needs apprise: {install('notify')}")
    apprise = _apprise()
    for number, url in enumerate(urls, 1):
        if apprise.Apprise.instantiate(url, suppress_exceptions=True) is None:
            raise ConfigurationError(f"notify.urls: apprise cannot use number {number}, {shown(url)}")


def send(url: str, title: str, body: str, urgency: str) -> str | None:
    """Tell one service, in a process of its own.

    Args:
        url: as apprise writes it.
        title: a line.
        body: lines.
        urgency: WARNING, SUCCESS or INFO.

    Returns:
        None where it took it, else why not, without a secret.
    """
    said = post(url, title, body, urgency)
    return said if said is None else _told(said, url)


def notify(url: str, title: str, body: str, urgency: str) -> str | None:
    """Tell one service in this process, as `send`; what it said may name the URL."""
    try:
        apprise = _apprise()
        service = apprise.Apprise()
        if not service.add(url):
            return f"apprise cannot use {shown(url)}"
        with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:
            kind = apprise.NotifyType(urgency)
            taken = service.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
            words: str = said.getvalue()
    except Exception as error:  # a hundred services, each with a library of its own
        return trouble(error)
    return None if taken else words or "it was not taken"


@cache
def _apprise() -> ModuleType:
    """Load apprise with its services; what it warns of on its own account is not for operators."""
    logging.getLogger("apprise").propagate = False  # we say what failed, once and without the URL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apprise = import_module("apprise")
        apprise.Apprise.instantiate("json://localhost")
    return apprise


def beat(url: str) -> str | None:
    """Ask for the heartbeat's URL; returns why it was not taken, else None. Of an answer the head alone is read."""
    place = url
    try:
        with exchange(_HEARTBEAT_S), requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, Adapter(clear_by_proxy=True))
            for _ in range(_MOST_MOVES):
                request = session.prepare_request(requests.Request("GET", place, headers=_WHO))
                way = session.merge_environment_settings(place, {}, stream=True, verify=None, cert=None)
                # Not by the session itself: it reads the body of an answer that names another address.
                with session.get_adapter(place).send(request, timeout=_HEARTBEAT_S, **way) as answer:  # type: ignore[arg-type]
                    if not (moved := session.get_redirect_target(answer)):
                        return None if answer.ok else f"HTTP {answer.status_code}"
                place = urljoin(place, moved)
            return f"it has moved more than {_MOST_MOVES} times"
    except (requests.RequestException, TooLarge, CorroError) as error:
        return _told(trouble(error), url)


def _told(words: str, url: str) -> str:
    line = " ".join(discreet(words.replace(url, shown(url))).split())
    return line[:_LONGEST]
