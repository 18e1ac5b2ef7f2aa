"""URLs of databases that cannot be meant are refused in one line before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ConfigurationError
from models.record.database import Database
from models.settings import load_settings
from models.troubles import trouble
from producers.bell import connect
from tests.unit.words import Run

SERVER = "postgresql+psycopg://u:S3cr3tS3@127.0.0.1:1/db"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{SERVER}?sslmod=require", "unknown parameter 'sslmod'"),
        (f"{SERVER}?sslmode=require&bogus=1", "unknown parameter 'bogus'"),
        ("sqlite:///{home}/x.db?mode=ro", "has no parameters, had mode"),
        ("sqlite:///{home}", "is a folder"),
    ],
)
def test_a_url_that_cannot_be_meant_is_one_line_and_status_2(
    url: str, words: str, corro: Run, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRO_DATABASE_URL", url.replace("{home}", str(bare)))
    for command in (("orders",), ("submit", "KO", "buy", "1"), ("db", "check")):
        status, out, err = corro(*command)
        assert (status, words in out + err) == (2, True), (command, err)
        assert "Traceback" not in err
        assert "S3cr3tS3" not in out + err


def test_what_libpq_knows_is_taken() -> None:
    Database(f"{SERVER}?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem&application_name=x&host=other").close()
    with pytest.raises(ConfigurationError, match="unknown parameter"):
        Database(f"{SERVER}?ssl_mode=require")


def test_sentinels_that_do_not_answer_are_told_without_a_picture_of_a_client() -> None:
    settings = load_settings(redis_url="sentinel://127.0.0.1:1", redis_master="ours")
    with pytest.raises(Exception) as failed:  # noqa: PT011 -- redis-py's own, whichever
        connect(settings, connect_s=1, answer_s=1).ping()
    assert trouble(failed.value) == "no sentinel that answers knows the master 'ours' (redis_master names it)"
