"""`corro web`: serve metrics, health, lists and events over HTTP, on this machine."""

import importlib.util
import socket
from ipaddress import ip_address
from typing import Annotated

import typer

from models.errors import ConfigurationError, InvalidRequest
from producers.cli import show
from producers.cli.app import opened

#: What the extra brings.
_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(web)


def web(
    host: Annotated[str, typer.Option(help="an address of this machine alone: 127.0.0.1 or ::1")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8190,
) -> None:
    """Serve /metrics, /healthz and /api/v1 until Ctrl-C; reads only, and is reached from this machine only."""
    listener = _listener(host, port)
    with listener, opened() as (settings, database):
        from models.logs import configure
        from worker.page.serving import server

        configure("WARNING")
        name, number = listener.getsockname()[:2]
        show.say(f"corro web: http://{f'[{name}]' if ':' in name else name}:{number}; Ctrl-C stops it")
        server(settings, database).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this machine alone.

    Raises:
        ConfigurationError: what the page needs is not installed, or the port is taken.
        InvalidRequest: the address is not this machine's alone.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise ConfigurationError(f"corro web needs {', '.join(missing)}: pip install 'corro[web]'")
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise InvalidRequest(f"--host: must be an address such as 127.0.0.1, was {host!r}") from None
    if not address.is_loopback:
        raise InvalidRequest(
            f"--host: must be an address of this machine alone, was {host}: whoever reaches the page sees every order. "
            "From elsewhere: a tunnel (`ssh -L 8190:127.0.0.1:8190 HOST`), or a proxy with a login"
        )
    try:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        return socket.create_server((str(address), port), family=family)
    except OSError as error:
        raise ConfigurationError(f"{host}:{port} cannot be used: {error.strerror}") from None
