"""Where keys and orders may go: judged on the URL as it will be sent, the same way for every broker."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from urllib3.util import parse_url

from models.errors import ConfigurationError
from models.settings import BrokerSettings
from worker.brokers.address import address, is_loopback, without_secrets
from worker.brokers.alpaca.access import access_from
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.alpaca.stream import stream_url
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker

KEYS: dict[str, Any] = {"adapter": "x", "key_id": "k", "secret_key": "s"}
KEYS |= {"api_key": "k", "app_secret": "s", "refresh_token": "r"}
HTTP_BROKERS = [
    (AlpacaBroker, "base_url"),
    (AlpacaBroker, "data_url"),
    (TdaBroker, "base_url"),
    (SchwabBroker, "base_url"),
]
#: Each may be read as a host of real money by somebody, or is a host that nobody knows.
NOT_SIMULATED = [
    "https://api.alpaca.markets",
    "https://API.Alpaca.Markets:443/v2",
    "https://api.alpaca.markets./",
    "https://api%2Ealpaca.markets",
    "https://api%2ealpaca%2emarkets/v2",
    "https://api\u3002alpaca.markets",
    "https://api\uff0ealpaca\uff0emarkets",
    "https://\uff41pi.alpaca.markets",
    "https://paper-api.alpaca.markets@api.alpaca.markets",
    "https://u:S3cret@paper-api.alpaca.markets",
    "https://api.alpaca.markets\\@paper-api.alpaca.markets",
    "https://paper-api.alpaca.markets\\.api.alpaca.markets",
    "https://api.alpaca.markets#@paper-api.alpaca.markets",
    "https://api.alpaca.markets?@paper-api.alpaca.markets",
    "https://paper-api.alpaca.markets.example.com",
    "https://evilpaper-api.alpaca.markets",
    "https://paper-api.alpaca.markets%00.example.com",
    "https://paper-api.alpaca.markets\t.example.com",
    "https://example.com/paper-api.alpaca.markets",
    "https://127.0.0.1.example.com",
    "https://127.1",
    "https://0x7f.0.0.1",
    "https://2130706433",
    "https://0177.0.0.1",
    "https://0.0.0.0",
    "https://[::ffff:10.0.0.1]",
    "https://[fe80::1%25eth0]",
    "https://10.0.0.1",
    "https://proxy",
    "https://proxy.corp:8443/alpaca",
]


@pytest.mark.parametrize("url", NOT_SIMULATED)
@pytest.mark.parametrize(("adapter", "key"), HTTP_BROKERS)
def test_without_live_only_loopback_and_the_known_simulated_hosts_pass(adapter: Any, key: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=key) as raised:
        adapter.check_settings("x", BrokerSettings(**(KEYS | {key: url})))
    assert "S3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "http://localhost:8182/v2/",
        "https://[::1]:9/v2",
        "HTTP://LocalHost:1",
        "http://127.9.9.9:1",
    ],
)
@pytest.mark.parametrize(("adapter", "key"), HTTP_BROKERS)
def test_loopback_needs_no_live(adapter: Any, key: str, url: str) -> None:
    usual = {} if adapter is AlpacaBroker else {"base_url": url}
    adapter.check_settings("x", BrokerSettings(**(KEYS | usual | {key: url})))


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("url", ["http://api.alpaca.markets", "http://paper-api.alpaca.markets", "HTTP://gateway:1"])
@pytest.mark.parametrize(("adapter", "key"), HTTP_BROKERS)
def test_keys_leave_this_machine_only_over_tls(adapter: Any, key: str, url: str, live: bool) -> None:
    with pytest.raises(ConfigurationError, match="clear text"):
        adapter.check_settings("x", BrokerSettings(**(KEYS | {"live": live, key: url})))


@pytest.mark.parametrize("url", ["https://api.alpaca.markets", "https://gateway.corp:8443/alpaca", "https://10.0.0.1"])
@pytest.mark.parametrize(("adapter", "key"), HTTP_BROKERS)
def test_with_live_any_plain_host_passes(adapter: Any, key: str, url: str) -> None:
    adapter.check_settings("x", BrokerSettings(**(KEYS | {"live": True, key: url})))


@pytest.mark.parametrize("url", [url for url in NOT_SIMULATED if any(odd in url for odd in "@%\\#?\t")])
def test_a_url_that_two_parsers_could_read_differently_is_refused_with_live_too(url: str) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        access_from("x", BrokerSettings(**(KEYS | {"live": True, "base_url": url})))


@pytest.mark.parametrize(
    "url",
    [
        "https://paper-api.alpaca.markets",
        "HTTPS://Paper-API.alpaca.markets:443/v2/",
        "http://[::1]:80/a/b",
        "https://a.b:8443",
    ],
)
def test_what_is_judged_is_what_is_sent(url: str) -> None:
    judged = address("x", "base_url", url)
    sent = parse_url(requests.Request("GET", judged.url + "/orders").prepare().url or "")
    default = 443 if sent.scheme == "https" else 80
    assert (judged.scheme, judged.host, judged.port) == (
        sent.scheme,
        (sent.host or "").strip("[]"),
        sent.port or default,
    )
    assert stream_url(judged.url).startswith("wss://" if sent.scheme == "https" else "ws://")


@pytest.mark.parametrize(
    "url",
    ["https://h:0", "https://h:70000", "https://h:", "https://", "https:///v2", "ftp://h", "h", "", "https://[::1"],
)
def test_what_is_no_url_is_refused_by_its_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"brokers\.x\.base_url"):
        address("x", "base_url", url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:S@h/v2", "https://***@h/v2"),
        ("https://u:p@S@h", "https://***@h"),
        ("u:S@h", "***@h"),
        ("https://u:a/S@h", "https://***@h"),
        ("https://h/v2?token=S#S", "https://h/v2?***"),
        ("https://h", "https://h"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_only_plain_addresses_are_loopback() -> None:
    assert [host for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1") if not is_loopback(host)] == []
    assert [host for host in ("localhost.evil", "127.1", "0", "::ffff:1.2.3.4", "lo", "") if is_loopback(host)] == []
