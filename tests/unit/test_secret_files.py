"""Secrets from files: `NAME_FILE`, a directory of them, and `secret_key_file` in a broker's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ConfigurationError
from models.outward import outward
from models.settings import load_settings
from worker.brokers.alpaca.access import access_from

SECRET = "a-Secret-of-a-file"


@pytest.fixture
def secret(bare: Path) -> Path:
    file = bare / "secret"
    file.write_text(f"{SECRET}\n")
    return file


def test_a_file_stands_for_a_variable(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret.write_text("postgresql://corro:a-Secret-of-a-file@localhost/corro\r\n")
    monkeypatch.setenv("CORRO_DATABASE_URL_FILE", str(secret))
    settings = load_settings()
    assert settings.database == "postgresql+psycopg://corro:a-Secret-of-a-file@localhost/corro"
    assert SECRET not in outward(settings.database)


@pytest.mark.parametrize("way", ["environment", "table"])
def test_a_brokers_secret_comes_from_its_file(secret: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("CORRO_BROKERS__ALPACA__KEY_ID", "key")
    if way == "environment":
        monkeypatch.setenv("CORRO_BROKERS__ALPACA__SECRET_KEY_FILE", str(secret))
    else:
        Path("corro.toml").write_text(f'[brokers.alpaca]\nsecret_key_file = "{secret}"\n')
    table = load_settings().broker("alpaca")
    assert access_from("alpaca", table).secret_key == SECRET
    assert SECRET not in outward(f"{table!r} {SECRET}")


def test_alpacas_own_names_have_files_too(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "key")
    monkeypatch.setenv("APCA_API_SECRET_KEY_FILE", str(secret))
    table = load_settings(brokers={"alpaca": {}}).broker("alpaca")
    assert access_from("alpaca", table).secret_key == SECRET
    assert outward(f"it was {SECRET}") == "it was ***"


def test_a_directory_has_a_file_for_each(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bare / "secrets"
    folder.mkdir()
    (folder / "CORRO_REDIS_URL").write_text("redis://:a-Secret-of-a-file@localhost/0\n")
    (folder / "corro_brokers__tda__api_key").write_text(SECRET)
    (folder / "somebody_elses").write_text("x")
    monkeypatch.setenv("CORRO_SECRETS_DIR", str(folder))
    settings = load_settings()
    assert settings.queue_address.password == SECRET
    assert settings.broker("tda").get("api_key") == SECRET


def test_a_keys_file_stays_a_setting_of_its_own(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_SECURITY__KEY_FILE", str(secret))
    security = load_settings().security
    assert (security.key, security.key_file) == ("", str(secret))


@pytest.mark.parametrize(
    ("name", "made", "words"),
    [
        ("CORRO_REDIS_URL_FILE", None, "which cannot be read"),
        ("CORRO_REDIS_URL_FILE", b"", "which is empty"),
        ("CORRO_REDIS_URL_FILE", b"\xff\xfe", "which is no text"),
        ("CORRO_REDIS_URL_FILE", b"x" * 70_000, "which is too long"),
        ("CORRO_BROKERS__TDA__API_KEY_FILE", None, "which cannot be read"),
        ("CORRO_SECRETS_DIR", b"x", "cannot be read"),
        ("CORRO_DATABSE_URL_FILE", b"x", "did you mean CORRO_DATABASE_URL"),
    ],
)
def test_a_file_that_will_not_do_is_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str, made: bytes | None, words: str
) -> None:
    file = bare / "secret"
    if made is not None:
        file.write_bytes(made)
    monkeypatch.setenv(name, str(file))
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert words in str(refused.value)


def test_a_variable_and_its_file_are_not_both_taken(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_REDIS_URL", "redis://localhost/0")
    monkeypatch.setenv("CORRO_REDIS_URL_FILE", str(secret))
    with pytest.raises(ConfigurationError, match="are both set"):
        load_settings()
