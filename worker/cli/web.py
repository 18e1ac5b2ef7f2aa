"""`corro web`: the operator's pages, lists, metrics, events and a door for orders; here, or behind keys and HTTPS."""

import os
import socket
import threading
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import ConfigurationError, InvalidRequest
from models.extras import must_have
from producers.cli import show
from producers.cli.app import client, whole
from worker.runtime.celery_command import PARENT

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from uvicorn import Server

    from models.record.database import Database
    from models.web import WebSettings

#: What the extra brings.
_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "jinja2")
#: Where it is asked for if nobody says.
PORT = 8190
#: Seconds between two looks for the process that has started this one.
_PARENT_EVERY_S = 0.5


def web(
    host: Annotated[str, typer.Option(help="an address of this machine; not loopback: keys and HTTPS")] = "127.0.0.1",
    port: Annotated[int, typer.Option(parser=whole(0, 65_535), metavar="N", help="0: any that is free")] = PORT,
) -> None:
    """Serve the operator's page, /metrics and /api/v1 until Ctrl-C; without a token this machine alone may read."""
    must_be_installed()
    with client() as c:
        _must_be_safe(host, c.settings.web, c.database)
        with _listener(host, port) as listener:
            from models.logs import configure
            from worker.page.serving import server

            configure("WARNING")
            name, number = listener.getsockname()[:2]
            scheme = "https" if c.settings.web.tls_cert else "http"
            show.say(f"corro web: {scheme}://{f'[{name}]' if ':' in name else name}:{number}; Ctrl-C stops it")
            serving = server(c.settings, c)
            if parent := int(os.environ.get(PARENT) or 0):
                threading.Thread(target=_end_with, args=(parent, serving), name="parent", daemon=True).start()
            serving.run(sockets=[listener])


def _end_with(parent: int, serving: "Server") -> None:
    """End the page as after SIGTERM when `corro up`, which started it, is gone."""
    while os.getppid() == parent:
        time.sleep(_PARENT_EVERY_S)
    serving.should_exit = True


def must_be_installed() -> None:
    """See that the extra is there.

    Raises:
        ConfigurationError: something that the page needs is not installed.
    """
    must_have("corro web", "web", *_NEEDED)


def _must_be_safe(host: str, web: "WebSettings", database: "Database") -> None:
    """See that whoever reaches the page from elsewhere needs a token, and that nobody reads it on its way.

    Raises:
        InvalidRequest: the address is none, or not this machine's alone without keys, and HTTPS or a proxy.
        ConfigurationError: there is half of what HTTPS needs.
    """
    for given, path in (("tls_cert", web.tls_cert), ("tls_key", web.tls_key)):
        if bool(web.tls_cert) != bool(web.tls_key):
            raise ConfigurationError("[web] tls_cert and tls_key: HTTPS needs both of them")
        if path and not Path(path).is_file():
            raise ConfigurationError(f"[web] {given}: there is no file {path}")
    if _address(host).is_loopback:
        return
    if not (web.tls_cert or web.proxies):
        raise InvalidRequest(
            f"--host {host}: from other machines it is asked over HTTPS: set [web] tls_cert and tls_key, or in [web] "
            "proxies the address of a proxy that speaks it. From elsewhere without either: a tunnel (`ssh -L "
            "8190:127.0.0.1:8190 HOST`)"
        )
    from models.record.keys import all_keys

    with database.read() as connection:
        found = any(row["alg"] == "token" and row["revoked_at"] is None for row in all_keys(connection))
    if not found:
        raise InvalidRequest(
            f"--host {host}: from other machines it takes a key's token, and there is none: `corro keys add NAME --alg "
            "token --operator`"
        )


def _address(host: str) -> "IPv4Address | IPv6Address":
    try:
        return ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise InvalidRequest(f"--host: must be an address such as 127.0.0.1, was {host!r}") from None


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        ConfigurationError: the port is taken.
    """
    address = _address(host)
    try:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        return socket.create_server((str(address), port), family=family)
    except OSError as error:
        raise ConfigurationError(f"{host}:{port} cannot be used: {error.strerror}") from None
