"""Secrets in the settings that nobody sees, and that arrive letter for letter."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import ConfigurationError
from models.settings import BrokerSettings, load_settings
from tests.unit.settings_file import SECRET, refusal, write

pytestmark = pytest.mark.usefixtures("bare")
KEYS = ("secret_key", "key_id", "api_key", "refresh_token", "password", "SECRET")


def shown(found: Any) -> str:
    return " ".join((repr(found), str(found), str(found.model_dump()), found.model_dump_json()))


@pytest.mark.parametrize("key", KEYS)
def test_a_brokers_secret_is_never_shown(key: str) -> None:
    write(f'[brokers.alpaca]\n{key} = "{SECRET}"\nbase_url = "http://127.0.0.1"')
    found = load_settings()
    assert SECRET not in shown(found)
    assert SECRET not in shown(found.broker("alpaca"))
    assert found.broker("alpaca").get(key) == SECRET
    assert "127.0.0.1" in repr(found)


def test_a_secret_from_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_BROKERS__ALPACA__SECRET_KEY", SECRET)
    assert SECRET not in shown(load_settings())


@pytest.mark.parametrize("key", ["database_url", "redis_url"])
def test_a_password_in_a_url_is_not_shown_by_a_repr(key: str) -> None:
    url = f"postgresql://u:{SECRET}@h/d" if key == "database_url" else f"redis://:{SECRET}@h:6379/0"
    found = load_settings(**{key: url})
    assert SECRET in (found.database if key == "database_url" else found.queue_url)
    assert SECRET not in repr(found)
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "text",
    [
        f'[brokers."Not A Name"]\nsecret_key = "{SECRET}"',
        f'[alpaca]\nsecret_key = "{SECRET}"',
        f'[brokers]\nalpaca = "{SECRET}"',
        f'[brokers.alpaca]\nlive = "perhaps"\nsecret_key = "{SECRET}"',
        f'[routing]\nroute = ["nobody"]\n[brokers.alpaca]\nsecret_key = "{SECRET}"',
        f'brokers = ["{SECRET}"]',
        f'secret_key = "{SECRET}"',
    ],
    ids=["bad broker name", "table at the top", "text for a table", "bad flag", "bad route", "list", "key at the top"],
)
def test_a_mistake_beside_a_secret_does_not_print_it(text: str) -> None:
    write(text)
    assert SECRET not in refusal()


@pytest.mark.parametrize("value", ["007", "1e5", "1.50", "true", "null", "[1]", "12345678901234567890", '{"a": 1}'])
def test_a_secret_from_the_environment_arrives_letter_for_letter(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_BROKERS__ALPACA__SECRET_KEY", value)
    assert load_settings().broker("alpaca").get("secret_key") == value


def test_a_missing_key_is_named_for_file_and_environment() -> None:
    with pytest.raises(ConfigurationError) as caught:
        BrokerSettings(adapter="alpaca").need("key_id", "alpaca")
    assert "brokers.alpaca.key_id" in str(caught.value)
    assert "CORRO_BROKERS__ALPACA__KEY_ID" in str(caught.value)
