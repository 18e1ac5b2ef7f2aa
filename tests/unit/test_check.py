"""`corro check` without a network: the advice table, the calendar, the judgements, and lanes that cannot hang."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from models.errors import ConfigurationError, DataNotPermitted, NotConnected
from models.extras import install
from models.reports import AccountReport, Bar, QuoteReport
from models.settings import BrokerSettings, Settings
from worker import checks as check
from worker.brokers.address import real_money
from worker.checks.advice import PORT_OPEN, PORT_SILENT, ROWS, advice_for
from worker.checks.broker import CLIENT_ID_APART, table_for
from worker.checks.judge import (
    TOKEN_WARN_DAYS,
    judge_account,
    judge_bars,
    judge_flags,
    judge_quote,
    judge_skew,
    judge_token,
)
from worker.checks.steps import CheckLane, CheckState, CheckStep, Finding, Verdict, fail, ok, skip, warn, worst
from worker.checks.system import secrets_of
from worker.runtime.calendar import market_at

NOW = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
FACTS = {
    "name": "ib", "adapter": "ibkr", "env": "CORRO_BROKERS__IB__", "host": "127.0.0.1", "port": 7497, "client_id": 101,
    "url": "https://paper-api.alpaca.markets",
}  # fmt: skip


# -- ADVICE ---
@pytest.mark.parametrize(
    ("adapter", "words", "advised"),
    [
        (
            "ibkr",
            "ConnectionRefusedError(111, \"Connect call failed ('127.0.0.1', 7497)\"); is TWS or Gateway up?",
            ["Nothing listens on 127.0.0.1:7497", "Enable ActiveX and Socket Clients", "7497 paper, 7496 live",
             "4002 paper, 4001 live", "brokers.ib.port"],
        ),
        ("ibkr", "321 Error validating request: API interface is currently in Read-Only mode.",
         ["Read-Only API OFF", "untick"]),
        ("ibkr", f"not connected: TimeoutError(); {PORT_OPEN}", ["Accept incoming connection", "Trusted IPs"]),
        ("ibkr", "Peer closed connection.", ["Trusted IPs"]),
        ("ibkr", f"not connected: TimeoutError(); {PORT_SILENT}", ["firewall", "localhost only"]),
        ("ibkr", "not connected: 326 Unable to connect as the client id is already in use.",
         ["Client id 101", "brokers.ib.check_client_id"]),
        ("ibkr", "TWS is cut off from IB (1100)", ["nightly reset"]),
        ("ibkr", "354 Requested market data is not subscribed.", ["Market Data Subscriptions", "delayed_quotes"]),
        ("ibkr", str(real_money("brokers.ib.port", "the live port 7496", "paper")), ["7497 paper"]),
        ("ibkr", str(real_money("brokers.ib.account", "U1, a live account", "paper")), ["paper account"]),
        ("ibkr", "ib_insync or ib_async is not installed", [install("worker", "ibkr")]),
        ("alpaca", "refuses the keys: alpaca: HTTP 401: unauthorized.",
         ["do not open https://paper-api.alpaca.markets", "live keys only https://api.alpaca.markets",
          "APCA_API_SECRET_KEY"]),
        ("alpaca", "HTTP 403: forbidden.", ["Paper keys open only"]),
        ("alpaca", "HTTP 403: subscription does not permit querying recent SIP data", ['feed = "iex"']),
        ("schwab", "brokers.ib.refresh_token is refused (HTTP 400): log in again",
         ["seven days", "https://api.schwabapi.com/v1/oauth/authorize", "CORRO_BROKERS__IB__REFRESH_TOKEN"]),
        ("schwab", "refresh_token is refused (schwab: HTTP 401: invalid_client)", ["Ready For Use"]),
        ("tda", "refresh_token is refused (HTTP 400: invalid_grant)", ["May 2024", 'adapter = "schwab"']),
        ("tda", "[Errno 111] Connection refused", ["May 2024", "schwab"]),
        ("tda", "Failed to resolve 'api.tdameritrade.com'", ["May 2024", "schwab"]),
        ("database", "database X cannot be used", ["CORRO_DATABASE_URL"]),
        ("queue", "AuthenticationError: invalid username-password pair", ["user and password"]),
        ("queue", "Error 111 connecting to localhost:6379", ["CORRO_REDIS_URL"]),
        ("mine", "HTTP 429: too many requests", ["wait a minute"]),
        ("mine", "Failed to resolve 'x.example'", ["DNS"]),
        ("mine", "SSLError: certificate verify failed", ["TLS"]),
    ],
)  # fmt: skip
def test_the_advice_says_what_to_change(adapter: str, words: str, advised: list[str]) -> None:
    advice = advice_for(adapter, words, FACTS) or ""
    assert [part for part in advised if part not in advice] == [], advice
    assert "{" not in advice


def test_words_that_no_row_knows_get_no_advice() -> None:
    assert advice_for("mine", "brokers.mine.colour must be green", FACTS) is None


def test_the_sandbox_is_started_not_configured() -> None:
    for adapter in ("ibkr", "alpaca", "tda"):
        assert "corro sandbox" in (advice_for(adapter, "Connection refused", FACTS, sandbox=True) or "")


def test_no_row_tells_anybody_to_switch_the_read_only_mode_on() -> None:
    told = [row.advice for row in ROWS if "Read-Only" in row.advice]
    assert told
    assert all("OFF" in advice and "untick 'Read-Only API'" in advice for advice in told)


# -- CALENDAR ---
@pytest.mark.parametrize(
    ("at", "is_open", "words"),
    [
        ("2026-11-23T16:00Z", True, "open, closes Mon 2026-11-23 16:00 New York (in 5 h 00 min)"),
        ("2026-11-23T14:29Z", False, "closed, opens Mon 2026-11-23 09:30 New York (in 0 h 01 min)"),
        ("2026-11-23T14:30Z", True, "open, closes Mon 2026-11-23 16:00 New York (in 6 h 30 min)"),
        ("2026-11-23T21:00Z", False, "closed, opens Tue 2026-11-24 09:30 New York (in 17 h 30 min)"),
        ("2026-11-26T16:00Z", False, "closed for Thanksgiving, opens Fri 2026-11-27 09:30 New York (in 22 h 30 min), "
         "then closes early at 13:00"),
        ("2026-11-27T17:30Z", True, "open, closes Fri 2026-11-27 13:00 New York, early (in 0 h 30 min)"),
        ("2026-11-27T18:00Z", False, "closed, opens Mon 2026-11-30 09:30 New York (in 2 d 20 h)"),
        ("2026-11-28T16:00Z", False, "closed, opens Mon 2026-11-30 09:30 New York (in 1 d 22 h)"),
        ("2026-03-09T13:30Z", True, "open, closes Mon 2026-03-09 16:00 New York (in 6 h 30 min)"),  # summer time
        ("2026-12-31T22:00Z", False, "closed, opens Mon 2027-01-04 09:30 New York (in 3 d 16 h)"),
        ("2025-01-09T16:00Z", False, "closed for a holiday, opens Fri 2025-01-10 09:30 New York (in 22 h 30 min)"),
    ],
)  # fmt: skip
def test_the_market_is_open_when_new_york_is(at: str, is_open: bool, words: str) -> None:
    market = market_at(datetime.fromisoformat(at))
    assert (market.is_open, market.words) == (is_open, words)
    assert market.next_open > market.at
    assert market.next_close > market.at


# -- JUDGEMENTS ---
@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0, "ok"), (2.4, "ok"), (-2.4, "ok"), (2.6, "warn"), (-10, "warn"), (30.4, "warn"), (31, "fail"), (-3600, "fail")],
)
def test_a_wrong_clock_is_told_beyond_doubt_only(ahead: float, state: str) -> None:
    verdict = judge_skew(ahead, 0.5)
    assert verdict.state == state
    assert (verdict.advice is None) == (state == "ok")
    assert ("ahead of" if ahead >= 0 else "behind") in verdict.words


@pytest.mark.parametrize(
    ("account", "live", "state"),
    [
        (AccountReport(account_id="DU1", buying_power=Decimal(5), paper=True), False, "ok"),
        (AccountReport(account_id="DU1", buying_power=Decimal(5)), True, "ok"),
        (AccountReport(account_id="DU1", buying_power=Decimal(0), paper=True), False, "warn"),
        (AccountReport(account_id="DU1", buying_power=Decimal(5), paper=True), True, "warn"),
        (AccountReport(account_id="U1", buying_power=Decimal(5), paper=False), False, "warn"),
    ],
)
def test_an_account_is_judged_by_its_money_and_its_kind(account: AccountReport, live: bool, state: str) -> None:
    assert judge_account(account, live=live).state == state


def test_flags_of_an_account_are_judged_by_the_worst() -> None:
    good = {"account_blocked": False, "trading_blocked": False, "shorting_enabled": True, "status": "ACTIVE"}
    assert worst(judge_flags(good), "fine") == ok("fine")
    assert worst(judge_flags(good | {"shorting_enabled": False}), "fine").state is CheckState.WARN
    bad = worst(judge_flags(good | {"shorting_enabled": False, "trading_blocked": True}), "fine")
    assert bad.state is CheckState.FAIL
    assert "trading is blocked; short selling is off" in bad.words
    assert worst(judge_flags({"status": "ONBOARDING"}), "fine").state is CheckState.FAIL
    assert judge_flags({}) == []


@pytest.mark.parametrize(
    ("days", "state"), [(6.9, "ok"), (TOKEN_WARN_DAYS - 0.1, "warn"), (-0.1, "fail"), (None, "skip")]
)
def test_a_refresh_token_is_judged_by_its_days(tmp_path: Path, days: float | None, state: str) -> None:
    path, now = tmp_path / "t.json", NOW.timestamp()
    path.write_text(json.dumps({"refresh_expires_at": now + days * 86_400 if days is not None else 0}))
    verdict = judge_token(path, now, FACTS)
    assert verdict.state == state, verdict
    if state in ("warn", "fail"):
        assert "CORRO_BROKERS__IB__REFRESH_TOKEN" in (verdict.advice or "")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"refresh_expires_at": "soon"}'])
def test_a_token_file_that_cannot_be_read_is_skipped(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    assert judge_token(tmp_path / "t.json", 0, FACTS).state is CheckState.SKIP
    assert judge_token(tmp_path / "none.json", 0, FACTS).state is CheckState.SKIP


def quote(**values: Any) -> QuoteReport:
    prices = {"bid": Decimal("575.00"), "ask": Decimal("575.02"), "last": Decimal("575.01"), "at": NOW}
    return QuoteReport(symbol="SPY", **{**prices, **values})


@pytest.mark.parametrize(
    ("values", "is_open", "state", "words"),
    [
        ({}, True, "ok", "SPY bid 575, ask 575.02, last 575.01, spread 0.3 bp, 0.0 s old"),
        ({"at": NOW - timedelta(minutes=15)}, True, "warn", "old, and the market is open"),
        ({"at": NOW - timedelta(hours=60)}, False, "ok", "216000.0 s old"),
        ({"delayed": True}, False, "warn", "delayed by the broker"),
        ({"ask": None}, True, "warn", "one-sided"),
        ({"bid": None, "ask": None}, False, "ok", "SPY last 575.01"),
        ({"ask": Decimal(580)}, True, "warn", "wide"),
        ({"ask": Decimal(580)}, False, "ok", "spread"),
        ({"ask": Decimal(574)}, False, "warn", "crossed"),
        ({"at": None}, True, "ok", "spread 0.3 bp"),
    ],
)
def test_a_quote_is_judged_by_age_and_spread(values: dict[str, Any], is_open: bool, state: str, words: str) -> None:
    verdict = judge_quote(quote(**values), NOW, is_open=is_open, delayed_advice="subscribe")
    assert (verdict.state, words in verdict.words) == (state, True), verdict


def test_bars_are_judged_by_their_newest() -> None:
    def bar(days: int) -> Bar:
        one = Decimal(1)
        return Bar(start=NOW - timedelta(days=days), open=one, high=one, low=one, close=one, volume=one)

    assert judge_bars("SPY", [bar(5), bar(4)], NOW).state is CheckState.OK
    assert judge_bars("SPY", [bar(9)], NOW).state is CheckState.WARN
    assert judge_bars("SPY", [], NOW).state is CheckState.WARN


# -- LANES ---
def lane(steps: list[CheckStep[None]], limit_s: float = 5.0, secrets: tuple[str, ...] = ()) -> CheckLane[None]:
    made = CheckLane(
        "b", steps, None, limit_s, explain=lambda error, _: fail(repr(error)), close=_nothing, secrets=secrets
    )
    made.start()
    return made


def _nothing(_: None) -> None:
    pass


def test_a_lane_goes_on_after_a_failure_and_skips_what_needs_it() -> None:
    def raising(_: None) -> Verdict:
        raise NotConnected("no")

    found = lane(
        [
            CheckStep(name="connect", look=raising),
            CheckStep(name="account", look=lambda _: ok("money"), needs=("connect",)),
            CheckStep(name="bars", look=lambda _: ok("bars"), needs=("account",)),
            CheckStep(name="files", look=lambda _: warn("odd", "tidy up")),
        ]
    ).result()
    assert [(one.check, str(one.state)) for one in found] == [
        ("connect", "fail"), ("account", "skip"), ("bars", "skip"), ("files", "warn"),
    ]  # fmt: skip
    assert found[1].words == "not looked at: needs connect"
    assert {one.broker for one in found} == {"b"}


def test_a_lane_that_hangs_is_left_behind_and_named() -> None:
    forever = threading.Event()

    def hanging(_: None) -> Verdict:
        forever.wait(30)
        return ok("late")

    found = lane(
        [
            CheckStep(name="a", look=lambda _: ok("a")),
            CheckStep(name="b", look=hanging),
            CheckStep(name="c", look=lambda _: ok("c")),
        ],
        limit_s=2,
    ).result()
    forever.set()
    assert [str(one.state) for one in found] == ["ok", "fail", "skip"]
    assert found[1].words == "no answer within 2 s"


def test_a_finding_is_one_line_without_a_secret() -> None:
    (one,) = lane(
        [CheckStep(name="a", look=lambda _: fail("key\thunter2hunter2\nrefused", "not hunter2hunter2"))],
        secrets=("hunter2hunter2",),
    ).result()
    assert (one.words, one.advice) == ("key *** refused", "not ***")


# -- SETTINGS AND STATUS ---
def test_a_check_speaks_to_tws_under_another_client_id() -> None:
    table = BrokerSettings(adapter="ibkr", client_id=3)
    assert table_for(table, 10).get("client_id") == 3 + CLIENT_ID_APART
    assert table_for(table, 10).get("request_timeout") == pytest.approx(3)
    named = BrokerSettings(adapter="ibkr", client_id=3, check_client_id=77, request_timeout=1)  # type: ignore[call-arg]
    assert (table_for(named, 10).get("client_id"), table_for(named, 10).get("request_timeout")) == (77, 1)
    odd = BrokerSettings(adapter="ibkr", client_id="one")  # type: ignore[call-arg]
    assert table_for(odd, 10) is odd
    other = BrokerSettings(adapter="alpaca")
    assert table_for(other, 10) is other


def test_secrets_of_every_kind_are_known() -> None:
    settings = Settings(
        database_url="postgresql+psycopg://me:database-pw@h/d",
        redis_url="redis://:redis-password@h/0",
        brokers={"alpaca": {"adapter": "alpaca", "secret_key": SecretStr("alpaca-secret"), "key_id": "sandbox"}},  # type: ignore[dict-item]
    )
    assert set(secrets_of(settings)) == {"database-pw", "redis-password", "alpaca-secret"}


def _found(*checks: tuple[str, CheckState]) -> list[Finding]:
    return [Finding(broker=None, check=name, state=state, words="") for name, state in checks]


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ([("connect", CheckState.OK), ("quote", CheckState.WARN), ("token", CheckState.SKIP)], 0),
        ([("connect", CheckState.FAIL)], 1),
        ([("connect", CheckState.FAIL), ("settings", CheckState.FAIL)], 2),
        ([("settings", CheckState.WARN)], 0),
    ],
)
def test_the_exit_status_tells_settings_from_failures(checks: list[tuple[str, CheckState]], status: int) -> None:
    assert check.exit_status(_found(*checks)) == status


def test_settings_that_cannot_be_read_are_a_finding_too() -> None:
    (one,) = check.unreadable(ConfigurationError("settings: colour: no such field"))
    assert (one.check, one.state) == ("settings", CheckState.FAIL)


def test_missing_data_is_a_warning_because_orders_still_work() -> None:
    from concurrent.futures import Future

    from worker.checks.broker import Subject, explain

    subject = Subject("ib", Settings(), BrokerSettings(adapter="ibkr"), 1.0, Future())
    verdict = explain(DataNotPermitted("ib: 354 market data is not subscribed"), subject)
    assert verdict.state is CheckState.WARN
    assert "Subscriptions" in (verdict.advice or "")
    assert explain(ValueError("odd"), subject).words == "odd"


def test_skips_are_better_than_warnings() -> None:
    assert worst([skip("a"), warn("b", "do b")], "fine") == Verdict(CheckState.WARN, "a; b", "do b")


def test_a_report_longer_than_a_screen_ends_with_what_is_not_well() -> None:
    states = (("", "queue", "fail"), ("tda", "token", "skip"), ("tda", "workers", "warn"), ("ibkr", "quote", "ok"))
    found = [check.Finding(broker=b or None, check=c, state=check.CheckState(s), words="") for b, c, s in states]
    assert check.summary(found) == "1 of 4 checks ok; fail: queue; warn: tda workers"
    assert check.summary(found[3:]) == "1 of 1 checks ok"
