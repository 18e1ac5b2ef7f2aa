"""The queue's URL: read once, for strategies and workers; what cannot be meant is refused with the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from models.errors import ConfigurationError
from models.queue_url import _TLS, parse
from models.settings import load_settings
from producers.bell import connect, pool_of
from worker.messaging.transport import SCHEME, Transport, install

SECRET = "hunter2-hunter2"
GOOD: dict[str, dict[str, Any]] = {
    "redis://h": {"kind": "tcp", "hosts": (("h", 6379),), "db": 0, "tls": None},
    "redis://": {"hosts": (("127.0.0.1", 6379),)},
    "redis://[::1]:6380/2": {"hosts": (("::1", 6380),), "db": 2},
    "redis://u:p%40s%2Fs@h/3": {"username": "u", "password": "p@s/s", "db": 3},
    "redis://:p@ss@h/0": {"username": None, "password": "p@ss"},
    "redis://h?db=4": {"db": 4},
    "rediss://h": {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}},
    "rediss://h?ssl_cert_reqs=CERT_NONE": {"tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}},
    "rediss://h?ssl_check_hostname=false": {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": False}},
    "redis+socket:///a/q.sock?virtual_host=3": {"kind": "socket", "path": "/a/q.sock", "db": 3},
    "unix://:pw@/a/q%20%23.sock": {"path": "/a/q #.sock", "password": "pw"},
    "sentinel://:pw@a:1/5;sentinel://b": {
        "kind": "sentinel", "hosts": (("a", 1), ("b", 26379)), "db": 5, "password": "pw"
    },
}  # fmt: skip
BAD = [
    "rdis://x", "amqp://h", "http://h", "h:6379", "localhost", "://h", "redis:/h", "redis//h", f"redis://:{SECRET}/b#c@h/0",
    f"redis://:{SECRET}/b@h/0", f"redis://:{SECRET}#c@h/0", "redis://127.0.0.1:1/0?ssl=yes", "redis://h:port/0",
    "redis://h:70000/0", "redis://h/zero", "redis://h/-1", "redis://h/0/1", "redis://h/0?db=1", "redis://[::1/0",
    "redis://h/0 ", "redis://h/\n0", "redis://h/0#1", "redis://h/٣", "redis://h?socket_timeout=5", "redis://h?db=1&db=2",
    "rediss://h?ssl_cert_reqs=maybe", "rediss://h?ssl_ca_certs=/no/such/file", "rediss://h?ssl_check_hostname=perhaps",
    "redis+socket://tmp/q.sock", "redis+socket:///", "redis+socket://", f"unix:///{'x' * 120}", "unix:///q?ssl=1",
    "sentinel://a/0;redis://b", "sentinel://a/0;sentinel://b/1", "sentinel://:a@x;sentinel://:b@y", "sentinel://a?x=1",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_a_url_is_read_as_it_is_meant(url: str) -> None:
    found = parse(url)
    assert {name: getattr(found, name) for name in GOOD[url]} == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_leads_nowhere_is_refused_with_the_settings(bare: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis_url") as caught:
        load_settings(home=bare, redis_url=url)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_url_for_people_has_no_password() -> None:
    for url in (f"redis://u:{SECRET}@h/0", f"sentinel://:{SECRET}@a;sentinel://:{SECRET}@b", f"redis://:{SECRET};x@h"):
        assert SECRET not in parse(url).shown
        assert SECRET not in repr(parse(url))


def test_a_home_of_any_name_has_its_queue(tmp_path: Path) -> None:
    home = tmp_path / "a #?%41 b"
    assert load_settings(home=home).queue_address.path == str(home / "queue.sock")


@pytest.mark.parametrize("url", GOOD)
def test_strategies_and_workers_get_the_same_connections(bare: Path, url: str) -> None:
    """kombu would read `rediss://host` as unverified, redis-py as verified."""
    install()
    from kombu import Connection

    settings = load_settings(home=bare, redis_url=url)
    with connect(settings, connect_s=0.3, answer_s=0.5) as client:
        theirs = client.connection_pool
        options = {"address": settings.queue_address, "master": settings.redis_master}
        connection = Connection(f"{SCHEME}://queue", transport_options=options)
        channel: Any = object.__new__(Transport.Channel)
        channel.connection = connection.transport
        channel.address, channel.master = options.values()
        ours = channel._get_pool()
    shared = ("host", "port", "path", "db", "username", "password", "client_name", *_TLS)
    assert ours.connection_class is theirs.connection_class
    for name in shared:
        assert ours.connection_kwargs.get(name) == theirs.connection_kwargs.get(name), name


def test_a_certificate_is_verified_unless_it_is_said_otherwise() -> None:
    def made(url: str) -> Any:
        pool = pool_of(parse(url), "mymaster", 0.3, 0.5)
        assert issubclass(pool.connection_class, redis.SSLConnection)
        return pool.make_connection()

    assert (made("rediss://h").cert_reqs.name, made("rediss://h").check_hostname) == ("CERT_REQUIRED", True)
    unverified = made("rediss://h?ssl_cert_reqs=none")
    assert (unverified.cert_reqs.name, unverified.check_hostname) == ("CERT_NONE", False)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_the_usual_names_of_postgresql_are_understood(bare: Path, scheme: str) -> None:
    found = load_settings(home=bare, database_url=f"{scheme}://u@h/d")
    assert found.database == "postgresql+psycopg://u@h/d"
