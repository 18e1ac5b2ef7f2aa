"""Text on its way out steers no terminal and tells no secret; what a reader needs stays readable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models import outward
from models.errors import OrderRejected
from models.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql+psycopg://corro:S3cr3t@db/corro", "S3cr3t"),
        ("postgresql://db/corro?user=u&password=S3cr3t", "S3cr3t"),
        ("postgresql://db/corro?sslpassword=S3cr3t&x=1", "S3cr3t"),
        ("redis://:S3cr3t@host:6379/0", "S3cr3t"),
        ("redis://:S3/c@r3t@host:6379/0", "c@r3t"),
        ("connection to 'https://u:S3cr3t@h/v1' failed", "S3cr3t"),
        ("host=db password=S3cr3t dbname=corro", "S3cr3t"),
        ("APCA_API_SECRET_KEY=S3cr3t", "S3cr3t"),
        ("Authorization: Bearer S3cr3tS3cr3t", "S3cr3tS3cr3t"),
        ("GET https://api.schwabapi.com/trader/v1/accounts/83BDE8E83A/orders", "83BDE8E83A"),
        ("sentinel://:S3cr3t@a:1;sentinel://:S3cr3t@b:1", "S3cr3t"),
    ],
)
def test_a_secret_is_hidden_wherever_it_stands_in_a_text(text: str, secret: str) -> None:
    assert secret not in outward.discreet(text)
    assert "***" in outward.discreet(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://corro@localhost/corro",
        "http://127.0.0.1:8182/v2/orders?status=open",
        "brokers.tda.refresh_token is missing",
        "HTTP 403: insufficient buying power for 10 AAPL @ 101.50",
        "symbol=AAPL side=buy",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert outward.outward(text) == text


def test_a_known_secret_is_hidden_without_any_sign_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "_known", ())
    outward.hide(["correct-horse-battery", "sandbox"])
    assert (
        outward.outward("the key correct-horse-battery was refused by sandbox") == "the key *** was refused by sandbox"
    )


@pytest.mark.parametrize(
    "sign", ["\x1b[31m", "\x07", "\x08", "\r", "\n", "\t", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028"]
)
def test_what_steers_a_terminal_is_written_out(sign: str) -> None:
    shown = outward.printable(f"a{sign}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")


def test_what_people_write_stays_what_it_is() -> None:
    assert outward.printable("Öl für 10 €, 東京, naïve") == "Öl für 10 €, 東京, naïve"


# -- LOGS ---
_LOGGING = """
import logging, threading, warnings, structlog
from models import logs
logs.configure("INFO", json_lines={json})
structlog.get_logger().info("order_recorded", client_order_id="o-1", words="\\x1b]0;x\\x07", told={{"a": "\\u202eb"}})
logging.getLogger("celery.worker").error("Connection to broker lost: %s", "redis://:S3cr3t@h/0")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise ValueError("postgresql://u:S3cr3t@h/db")
"""


def logged(*, json_lines: bool) -> str:
    code = _LOGGING.format(json=json_lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stderr


def test_every_line_of_a_log_is_json_also_celerys_warnings_and_what_a_thread_or_the_process_dies_of() -> None:
    recorded, celery, warning, thread, died = map(json.loads, logged(json_lines=True).splitlines())
    assert (recorded["event"], recorded["client_order_id"]) == ("order_recorded", "o-1")
    assert celery["event"] == "Connection to queue lost: redis://:***@h/0"
    assert "old" in warning["event"]
    assert "ZeroDivisionError" in thread["exception"]
    assert "ValueError: postgresql://u:***@h/db" in died["exception"]


def test_a_log_at_a_terminal_shows_neither_secrets_nor_control_characters() -> None:
    said = logged(json_lines=False)
    assert "order_recorded" in said
    assert "S3cr3t" not in said
    assert said.replace("\n", "").isprintable()


def test_secrets_of_settings_are_hidden_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "_known", ())
    monkeypatch.setenv("APCA_API_SECRET_KEY", "from-the-environment")
    load_settings(
        home=tmp_path,
        database_url="postgresql+psycopg://corro:p%2Fassword1@db/corro",
        redis_url="redis://:queue-password@host:6379/0",
        brokers={
            "alpaca": {"secret_key": "alpaca-secret"},
            "schwab": {"base_url": "https://u:url-password@h", "token_path": "/home/ana/schwab.json"},
        },
    )
    for secret in (
        "p%2Fassword1", "p/assword1", "queue-password", "alpaca-secret", "url-password", "from-the-environment",
    ):  # fmt: skip
        assert outward.outward(f"somebody said {secret} aloud") == "somebody said *** aloud"
        assert str(OrderRejected(f"no such key: {secret}")) == "no such key: ***"
    assert outward.outward("/home/ana/schwab.json is missing") == "/home/ana/schwab.json is missing"
