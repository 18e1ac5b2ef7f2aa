"""`corro check` on how the house is kept: files, ways without TLS, passwords, roles, the clock; and real money."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from models.record.database import Database
from models.record.postgres import RolePowers
from models.record.ways import is_here, unguarded
from models.risk.names import RiskSettings
from models.settings import BrokerSettings, SecuritySettings, Settings, load_settings
from worker.checks.house import (
    is_open_to_others,
    judge_clock,
    judge_files,
    judge_notify,
    judge_own_key,
    judge_password,
    judge_powers,
    judge_way,
    private_paths,
)
from worker.checks.steps import CheckState
from worker.checks.system import System, look_at_settings
from worker.risk.live import objection
from worker.runtime.clock import utcnow

DATABASE = "postgresql+psycopg://corro@db.example.com/corro"


def settings_of(*, live: bool = True, **more: Any) -> Settings:
    table = BrokerSettings(adapter="fake", live=live)
    return load_settings(brokers={"fake": table}, risk=RiskSettings(max_quantity=5, max_value=5), **more)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("database", "queue", "open_"),
    [
        ("", "", []),
        (DATABASE, "", ["database at db.example.com has sslmode=prefer"]),
        (f"{DATABASE}?sslmode=require", "", ["database at db.example.com has sslmode=require"]),
        (f"{DATABASE}?sslmode=verify-full", "", []),
        ("postgresql+psycopg://corro@127.0.0.1/corro", "redis://localhost/0", []),
        ("postgresql+psycopg://corro@/corro?host=/run/postgresql", "redis://[::1]/0", []),
        ("", "redis://queue.example.com/0", ["queue at queue.example.com is without TLS"]),
        ("", "rediss://queue.example.com/0", []),
        ("", "rediss://queue.example.com/0?ssl_cert_reqs=none", ["a certificate that is not verified"]),
        ("", "sentinel://a.example.com;sentinel://localhost", ["queue at a.example.com is without TLS"]),
    ],
)
def test_a_way_that_leaves_this_machine_is_guarded_where_the_certificate_is_verified(
    database: str, queue: str, open_: list[str]
) -> None:
    found = unguarded(settings_of(database_url=database, redis_url=queue))
    assert [words in one for words, one in zip(open_, found, strict=True)] == [True] * len(open_)
    mine = SecuritySettings(private_network=True)
    assert unguarded(settings_of(database_url=database, redis_url=queue, security=mine)) == []


def test_real_money_waits_for_tls_and_simulated_money_is_warned(database: Database, bare: Path) -> None:
    url = "redis://queue.example.com/0"
    why = objection(settings_of(home=bare, redis_url=url), database, "fake")
    assert "fake trades real money and the way to the queue at queue.example.com is without TLS" in (why or "")
    mine = SecuritySettings(private_network=True)
    assert objection(settings_of(home=bare, redis_url=url, security=mine), database, "fake") is None
    assert objection(settings_of(home=bare, redis_url=url, live=False), database, "fake") is None
    states = [judge_way(settings_of(redis_url=url, live=live), "queue").state for live in (True, False)]
    assert states == ["fail", "warn"]


@pytest.mark.parametrize(
    ("host", "here"),
    [("", True), ("/run/pg", True), ("localhost", True), ("127.0.0.9", True), ("::1", True), ("10.0.0.1", False),
     ("localhost.example.com", False), ("postgres", False)],
)  # fmt: skip
def test_only_this_machines_own_addresses_are_here(host: str, here: bool) -> None:
    assert is_here(host) == here


@pytest.mark.usefixtures("bare")
def test_a_queue_elsewhere_that_asks_for_no_password_is_a_remark_where_money_is_real() -> None:
    urls = ("rediss://queue.example.com/0", "rediss://worker:secret-word@queue.example.com/0", "redis://localhost/0")
    assert [judge_password(settings_of(redis_url=url)).state for url in urls] == ["warn", "ok", "ok"]
    assert judge_password(settings_of(redis_url=urls[0], live=False)).state == "ok"


@pytest.mark.usefixtures("bare")
def test_a_role_that_may_do_more_than_its_work_needs_is_named() -> None:
    for powers, words in (
        (RolePowers("corro", True, True, True), "the role corro is a superuser and owns the tables"),
        (RolePowers("corro", False, False, True), "the role corro may change the journals"),
        (RolePowers("corro_worker", False, False, False), ""),
    ):
        assert judge_powers(powers, settings_of()).words == words
        assert judge_powers(powers, settings_of(live=False)).state == "ok"


@pytest.mark.parametrize(("ahead", "state"), [(0.4, "ok"), (-1.9, "ok"), (2.5, "warn"), (-4.0, "warn"), (5.5, "fail")])
def test_a_clock_is_held_against_the_databases(ahead: float, state: str) -> None:
    assert judge_clock(ahead, 0.1).state == state


def test_what_others_can_read_is_named_with_the_command_that_mends_it(bare: Path) -> None:
    file, folder = bare / "corro.toml", bare / "open"
    file.write_text('[brokers.alpaca]\nkey_id = "a"\nsecret_key = "s3cr3t-word"\n')
    folder.mkdir(mode=0o700)
    (folder / "key").write_text("x")
    for path, mode in ((folder / "key", 0o644), (file, 0o644)):
        path.chmod(mode)
    settings = load_settings(home=bare)
    assert {bare, file} <= set(private_paths(settings, file))
    assert not is_open_to_others(folder / "key"), "nobody else comes as far as that"
    bare.chmod(0o755)
    shut = [parent for parent in bare.parents if not parent.stat().st_mode & 0o011]
    verdict = look_at_settings(System(settings, 1.0))
    assert (verdict.state == "ok") == bool(shut)
    file.chmod(0o600)
    bare.chmod(0o700)
    assert judge_files([file, bare]).state == "ok"


@pytest.mark.usefixtures("bare")
def test_where_money_is_real_somebody_has_to_be_told() -> None:
    assert judge_notify(settings_of()).state == "warn"


# -- KEYS ---
@pytest.mark.parametrize(
    ("bounds", "state", "words"),
    [
        (None, CheckState.FAIL, "have no key"),
        ({}, CheckState.OK, "signs what workers order"),
        ({"strategies": ["dip"]}, CheckState.WARN, "bounded in strategies"),
        ({"symbols": ["KO"]}, CheckState.WARN, "bounded in symbols"),
        ({"needs_approval": True}, CheckState.WARN, "needs approval"),
        ({"brokers": ["nobody"]}, CheckState.FAIL, "not for"),
        ({"not_after": utcnow() - timedelta(days=1)}, CheckState.FAIL, "not_after"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_where_all_is_signed_the_check_says_whether_workers_can(
    bounds: dict[str, Any] | None, state: CheckState, words: str
) -> None:
    settings = Settings.model_validate({"brokers": {"alpaca": {}}, "security": {"require": "all"}})
    usual = dict.fromkeys(("strategies", "symbols", "brokers", "not_before", "not_after", "revoked_at"))
    row: Any = None if bounds is None else {**usual, "key_id": "workers", "needs_approval": False, **bounds}
    verdict = judge_own_key(settings, row, utcnow())
    assert verdict.state is state
    assert words in verdict.words
