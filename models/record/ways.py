"""The ways to the database and to the queue: does TLS guard each that leaves this machine?

Whoever can listen on such a way learns what is traded; whoever can write on it trades. A way is guarded where the
server's certificate is verified, with its name: `sslmode=verify-full`, `rediss://`. `[security] private_network` says
that the network itself is guarded: one of compose, of a VPN.
"""

from __future__ import annotations

import os
from ipaddress import ip_address

from models.record.database import make_url
from models.settings import Settings


def unguarded(settings: Settings) -> list[str]:
    """Return what is wrong with the ways that leave this machine, one line each; none where all are guarded."""
    if settings.security.private_network:
        return []
    return [words for words in (_to_database(settings.database), _to_queue(settings)) if words]


def _to_database(url: str) -> str | None:
    read = make_url(url)
    if read.get_backend_name() != "postgresql":
        return None
    given = {name: str(value) for name, value in read.query.items()}
    hosts = (given.get("host") or read.host or os.environ.get("PGHOST", "")).split(",")
    mode = given.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
    away = [host for host in hosts if not is_here(host)]
    if not away or mode == "verify-full":
        return None
    return f"the way to the database at {', '.join(away)} has sslmode={mode}: set sslmode=verify-full in database_url"


def _to_queue(settings: Settings) -> str | None:
    address = settings.queue_address
    away = [host for host, _ in address.hosts if not is_here(host)]
    verified = address.tls is not None and address.tls.get("ssl_cert_reqs", "required") == "required"
    if not away or verified:
        return None
    how = "without TLS" if address.tls is None else "with a certificate that is not verified"
    return f"the way to the queue at {', '.join(away)} is {how}: use rediss:// in redis_url"


def is_here(host: str) -> bool:
    """Tell whether an address is this machine's alone: a socket's path, a loopback address, or none at all."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
