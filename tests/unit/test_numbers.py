"""Numbers of settings, options and addresses: within their ranges, in digits that every reader reads alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.errors import ConfigurationError
from models.settings import BrokerSettings, load_settings
from tests.unit.page_site import Site
from tests.unit.words import Run
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.tda.adapter import TdaBroker

#: Of adapters' numbers, what none of them can be.
NONE = ("nan", "inf", "-1", "1e999", "1_0", "\u0667\u0664", "loud", True, float("nan"), float("inf"))
IBKR = ("port", "client_id", "connect_timeout", "request_timeout", "messages_per_second", "history_per_10_minutes")
HTTP = {"base_url": "http://127.0.0.1:9/v1", "api_key": "k", "refresh_token": "r", "account_id": "1"}


def table(adapter: str, **keys: Any) -> BrokerSettings:
    return BrokerSettings(adapter=adapter, **keys)


@pytest.mark.parametrize("value", NONE, ids=repr)
@pytest.mark.parametrize("key", [*IBKR, "heartbeat"])
def test_an_adapters_number_that_is_none_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"brokers.mine: {key}: must be"):
        IbkrBroker.check_settings("mine", table("ibkr", **{key: value}))


@pytest.mark.parametrize(
    "keys",
    [{"port": 65_536}, {"port": 0}, {"client_id": 2**31}, {"request_timeout": 0}, {"heartbeat": 1e9}, {"port": 7497.5}],
    ids=repr,
)
def test_an_adapters_number_out_of_its_range_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(keys))}: must be"):
        IbkrBroker.check_settings("mine", table("ibkr", **keys))


@pytest.mark.parametrize("value", NONE, ids=repr)
@pytest.mark.parametrize("key", ["poll_s", "requests_per_minute", "budget_window"])
def test_so_are_those_of_brokers_behind_http(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{key}"):
        TdaBroker.check_settings("mine", table("tda", **HTTP, **{key: value}))


def test_numbers_from_the_environment_are_texts_and_fine() -> None:
    IbkrBroker.check_settings("mine", table("ibkr", port="7497", client_id="7", heartbeat="0.5", request_timeout=" 2 "))
    TdaBroker.check_settings("mine", table("tda", **HTTP, poll_s="0.3", requests_per_minute="0"))


@pytest.mark.parametrize("number", ["1_0", "\u0663", "+1", "1e1", " 1"])
def test_a_whole_number_of_an_option_is_digits(corro: Run, number: str) -> None:
    for command in (
        ("orders", "--limit", number), ("events", "--since", number), ("web", "--port", number),
        ("worker", "ibkr", "--concurrency", number), ("up", "--port", number), ("dead-letters", "--limit", number),
    ):  # fmt: skip
        status, _, err = corro(*command)
        assert (status, len(err.splitlines())) == (2, 1), (command, err)


@pytest.mark.parametrize("number", ["1_0", "\u0663"])
def test_seconds_are_digits_too(corro: Run, number: str) -> None:
    assert corro("quote", "KO", "--timeout", number)[0] == 2
    assert corro("submit", "KO", "buy", "1", "--expires-in", number)[0] == 2


def test_so_are_numbers_in_an_address(corro: Run, bare: Path) -> None:
    site = Site(load_settings(home=bare))
    try:
        for path in ("/api/v1/orders?limit=1_0", "/?limit=1_0", "/api/v1/events?since=0_0", "/api/v1/fills?limit=+1"):
            assert site.ask(path)[0].status == 422, path
        assert site.json("/api/v1/orders?limit=10") == []
    finally:
        site.close()


def test_a_blank_is_no_orders_id_in_the_logs(corro: Run) -> None:
    assert corro("logs", " ")[0] == 2
