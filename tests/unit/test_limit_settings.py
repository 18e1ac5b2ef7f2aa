"""What the settings say of limits: how much, how wrong, and at which hosts a limit is presumed."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import ConfigurationError
from models.settings import BrokerSettings
from worker.pacing.budget import Limits
from worker.pacing.window import Rate, digest, location, rate_from


# -- SETTINGS AND NAMES ---
def table(**keys: Any) -> BrokerSettings:
    return BrokerSettings(adapter="x", **keys)


def test_the_settings_say_how_much() -> None:
    assert rate_from("x", table(), "requests_per_minute", 190) == Rate(190, 60)
    assert rate_from("x", table(requests_per_minute=600, budget_window=5), "requests_per_minute", 1) == Rate(50, 5)
    assert rate_from("x", table(requests_per_minute="90"), "requests_per_minute", 1) == Rate(90, 60)
    assert rate_from("x", table(requests_per_minute=0), "requests_per_minute", 1) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"requests_per_minute": -1},
        {"requests_per_minute": "many"},
        {"budget_window": 0},
        {"requests_per_minute": 5, "budget_window": 2},
        {"requests_per_minute": float("nan")},
    ],
)
def test_a_wrong_setting_is_named(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"brokers\.x\.(requests_per_minute|budget_window)"):
        rate_from("x", table(**keys), "requests_per_minute", 100)


def test_names_do_not_matter_accounts_do() -> None:
    made = Limits()
    rate = Rate(10, 60)
    mine = made.budget("alpaca", "alpaca", "host key-1", rate)
    assert made.budget("alpaca_too", "alpaca", "host key-1", rate) is mine
    assert made.budget("alpaca", "alpaca", "host key-2", rate) is not mine
    assert not [key for key in made.budgets if "key-1" in key]
    assert "key" not in digest("host key-1")


def test_loopback_means_this_machine() -> None:
    here = location("http://127.0.0.1:8182")
    assert here == location("http://localhost:8182/v1") != location("http://localhost:8183")
    assert "127.0.0.1" not in here
    assert location("https://api.alpaca.markets") == "api.alpaca.markets:"


@pytest.mark.parametrize(
    ("given", "is_theirs", "presumed"), [({}, True, False), ({}, False, True), ({"per": 120}, False, False)]
)
def test_a_limit_is_presumed_only_at_other_hosts_and_only_if_nobody_set_it(
    given: dict[str, int], is_theirs: bool, presumed: bool
) -> None:
    rate = rate_from("x", BrokerSettings(adapter="x", **given), "per", 200, is_theirs=is_theirs)
    assert rate is not None
    assert rate.presumed is presumed
