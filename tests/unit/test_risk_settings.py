"""`[risk]`: what is read, what is refused and in which words, and which of a setting and a row is in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from models.errors import ConfigurationError, InvalidRequest
from models.risk.names import NAMES, Limit, from_settings, in_force, read_value
from models.settings import load_settings

NOW = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
ALL_CODES = (
    "order_quantity", "order_value", "price_collar", "no_price", "rate", "repeat", "position", "open_orders",
    "open_value", "day_value", "day_loss", "restricted", "session", "self_trade", "short", "skew",
)  # fmt: skip


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "corro.toml"
    path.write_text("")
    monkeypatch.setenv("CORRO_CONFIG", str(path))
    return path


def test_every_scope_has_its_table(told: Path) -> None:
    told.write_text("""
[risk]
max_value = 20000
session = "regular"
[risk.broker.alpaca]
max_open_orders = 50
[risk.account."ibkr:ira"]
allow_short = false
[risk.strategy.dip]
max_day_loss = 2000.50
[risk.symbol." ko"]
max_quantity = "500"
[risk.key."dividends-2"]
orders_per_minute = 20
""")
    limits = from_settings(load_settings().risk)
    assert {place: limit.value for place, limit in limits.items()} == {
        ("*", "*", "max_value"): Decimal(20000),
        ("*", "*", "session"): "regular",
        ("broker", "alpaca", "max_open_orders"): Decimal(50),
        ("account", "ibkr:ira", "allow_short"): False,
        ("strategy", "dip", "max_day_loss"): Decimal("2000.5"),
        ("symbol", "KO", "max_quantity"): Decimal(500),
        ("key", "dividends-2", "orders_per_minute"): Decimal(20),
    }


def test_without_a_table_nothing_is_limited(told: Path) -> None:
    assert from_settings(load_settings().risk) == {}


def test_the_environment_has_limits_too(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_RISK__MAX_VALUE", "500")
    monkeypatch.setenv("CORRO_RISK__BROKER__ALPACA__MAX_QUANTITY", "5")
    limits = from_settings(load_settings().risk)
    assert {place[1:]: limit.value for place, limit in limits.items()} == {
        ("*", "max_value"): 500, ("alpaca", "max_quantity"): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[risk]\nmax_valu = 5", "risk.max_valu: no such field"),
        ("[risk]\nmax_value = -5", "risk.max_value: must not be less than zero, was -5"),
        ("[risk]\nmax_value = true", "risk.max_value: must be a decimal number, was true"),
        ("[risk]\nmax_value = inf", "risk.max_value: must be a finite number, was inf"),
        ("[risk]\nmax_open_orders = 2.5", "risk.max_open_orders: must be a whole number, was 2.5"),
        ("[risk]\nprice_max_age = 0", "risk.price_max_age: must be seconds, more than 0 and at most 30 days, was 0"),
        ("[risk]\nsession = 'night'", "risk.session: must be 'any', 'regular' or 'extended', was 'night'"),
        ("[risk]\nday_timezone = 'Mars/Base'", "risk.day_timezone: must be a time zone such as America/New_York"),
        ("[risk]\ncurrency = 'dollars'", "risk.currency: "),
        ("[risk.broker.etrade]\nmax_value = 5", "risk names the broker 'etrade', but the brokers are"),
        ('[risk.account."nobody:ira"]\nmax_value = 5', "risk names the broker 'nobody'"),
        ("[risk.account.ira]\nmax_value = 5", "must be named by broker and account"),
        ("[risk.strategy.dip]\nunlimited = true", "risk.strategy.dip.unlimited: no such field"),
        ("[risk]\nbroker = 5", "risk.broker: "),
        ("[risk.symbol.ko]\nmax_value = 5\n[risk.symbol.KO]\nmax_value = 9", "risk.symbol: KO has two tables"),
        ('[risk.strategy.dip]\nmax_value = 5\n[risk.strategy."dip "]\nmax_value = 9', "dip has two tables"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_and_value(told: Path, text: str, words: str) -> None:
    told.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert words in str(error.value)


def test_a_row_beats_the_setting_while_it_is_in_force() -> None:
    seed = Limit("*", "*", "max_value", Decimal(10))
    row = Limit("*", "*", "max_value", Decimal(20), until=NOW + timedelta(seconds=1), set_by="ann")
    other = Limit("strategy", "dip", "max_value", Decimal(5), set_by="ann")
    assert in_force({seed.place: seed}, [other, row], NOW) == (row, other)
    assert in_force({seed.place: seed}, [other, row], NOW + timedelta(seconds=1)) == (seed, other)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("max_valu", "5", "max_valu: no such limit; there are max_quantity"),
        ("max_value", "lots", "max_value: must be a decimal number, was 'lots'"),
        ("allow_short", "maybe", "allow_short: "),
    ],
)
def test_a_row_takes_what_the_setting_takes(name: str, text: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_value(name, text)
    assert words in str(error.value)


# -- THE PAGE ---
PAGE = (Path(__file__).parents[2] / "docs" / "risk.md").read_text()


def test_the_page_has_every_limit_and_every_code() -> None:
    rows = {line.split("|")[1].strip(" `"): line for line in PAGE.splitlines() if line.startswith("| `")}
    assert set(NAMES) <= set(rows)
    for code in ALL_CODES:
        assert f"`{code}`" in PAGE, code


def test_the_example_of_the_page_is_read(told: Path) -> None:
    told.write_text(PAGE.split("```toml\n")[1].split("```")[0])
    limits = from_settings(load_settings().risk)
    assert {place[1:]: int(limit.value) for place, limit in limits.items()} == {
        ("*", "max_value"): 20000, ("*", "max_position"): 500,
        ("dip", "orders_per_minute"): 20, ("dip", "max_day_loss"): 2000,
    }  # fmt: skip
