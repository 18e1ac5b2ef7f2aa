"""What the numbers mean: pure judgements of what a broker showed, with the limits as constants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from models.messages import plain
from models.reports import AccountReport, Bar, QuoteReport
from worker.checks.steps import CheckState, Verdict, fail, ok, skip, warn

SKEW_WARN_S, SKEW_FAIL_S = 2.0, 30.0
#: A quote older than this, with the market open, is delayed or dead.
QUOTE_OLD_S = 60.0
#: A spread of SPY wider than this, with the market open, is no market.
SPREAD_WIDE = Decimal("0.005")
#: The longest time without a session is four days.
BARS_OLD_DAYS = 5
#: Somebody has to log in again: say so this many days ahead.
TOKEN_WARN_DAYS = 2.0
CLOCK_ADVICE = (
    "Synchronise this machine's clock (`timedatectl set-ntp true`, or chrony): leases, expiries and tokens rely on it."
)


def judge_skew(ahead_s: float, uncertain_s: float) -> Verdict:
    """Judge the clock.

    Args:
        ahead_s: seconds this machine is ahead of the broker; negative is behind.
        uncertain_s: how far that may be off.
    """
    certain = max(abs(ahead_s) - uncertain_s, 0.0)
    words = (
        f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s >= 0 else 'behind'} the broker (give or take {uncertain_s:.1f} s)"
    )
    if certain > SKEW_FAIL_S:
        return fail(words, CLOCK_ADVICE)
    return warn(words, CLOCK_ADVICE) if certain > SKEW_WARN_S else ok(words)


def judge_account(account: AccountReport, *, live: bool) -> Verdict:
    """Judge the money, and whether it is the kind of account that the settings mean."""
    named = [("buying power", account.buying_power), ("cash", account.cash), ("equity", account.equity)]
    money = ", ".join(f"{what} {value:,.2f}" for what, value in named if value is not None)
    words = f"{account.account_id}: {money or 'no amounts'} {account.currency}"
    if account.paper is not None and account.paper == live:
        kind = "paper" if account.paper else "live"
        return warn(f"{words}; it is a {kind} account, but live = {str(live).lower()}", "Make the two agree.")
    if account.buying_power is not None and account.buying_power <= 0:
        return warn(f"{words}; nothing can be bought with it", "Fund the account, or see what holds its money.")
    return ok(words)


# -- PERMISSIONS ---
@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of an account: the value that is trouble, how bad it is, and what to do."""

    name: str
    bad: object
    state: CheckState
    words: str
    advice: str


_SUPPORT = "Ask the broker's support."
_DAY_TRADES = "With less than 25,000 USD of equity day trades are refused."
FLAGS = (
    Flag("account_blocked", True, CheckState.FAIL, "the account is blocked", _SUPPORT),
    Flag("trading_blocked", True, CheckState.FAIL, "trading is blocked", _SUPPORT),
    Flag(
        "trade_suspended_by_user", True, CheckState.FAIL, "trading is suspended in the account's own configuration",
        "Switch it on again in the dashboard (Account > Configure), or PATCH /v2/account/configurations suspend_trade.",
    ),
    Flag("transfers_blocked", True, CheckState.WARN, "transfers are blocked", _SUPPORT),
    Flag("pattern_day_trader", True, CheckState.WARN, "flagged as pattern day trader", _DAY_TRADES),
    Flag(
        "shorting_enabled", False, CheckState.WARN, "short selling is off: sell_short will be refused",
        "It needs 2,000 USD of equity and is switched on in the dashboard (Account > Configure).",
    ),
    Flag("isClosingOnlyRestricted", True, CheckState.FAIL, "only closing orders are taken", _SUPPORT),
    Flag("isDayTrader", True, CheckState.WARN, "flagged as day trader", _DAY_TRADES),
)  # fmt: skip


def judge_flags(flags: Mapping[str, object]) -> list[Verdict]:
    """Judge an account's flags; those it does not have say nothing."""
    found = [Verdict(f.state, f.words, f.advice) for f in FLAGS if f.name in flags and flags[f.name] == f.bad]
    status = flags.get("status")
    if status not in (None, "ACTIVE"):
        found.append(fail(f"the account is {status}, not ACTIVE", "Finish its opening in the broker's dashboard."))
    return found


# -- TOKEN ---
def judge_token(path: Path, now: float, facts: Mapping[str, object]) -> Verdict:
    """Judge the life of the stored refresh token.

    Args:
        path: the file of `worker.brokers.tda.tokens`.
        now: epoch seconds.
        facts: `env`, the prefix of the broker's environment variables.
    """
    try:
        ends = float(json.loads(path.read_text()).get("refresh_expires_at") or 0)
    except (OSError, ValueError, AttributeError) as error:
        return skip(f"no tokens in {path}: {type(error).__name__}")
    if not ends:
        return skip(f"the broker does not tell when the refresh token in {path} ends")
    return judge_days((ends - now) / 86_400, datetime.fromtimestamp(ends, UTC), f"{facts.get('env', '')}REFRESH_TOKEN")


def judge_days(days: float, ends: datetime, setting: str) -> Verdict:
    """Judge how many days a refresh token has left."""
    advice = f"Log in again in the browser and set {setting}, in good time."
    if days <= 0:
        return fail(f"the refresh token ended on {ends:%Y-%m-%d %H:%M} UTC", advice)
    words = f"refresh token: {days:.1f} days left at most, until {ends:%Y-%m-%d %H:%M} UTC"
    return warn(words, advice) if days < TOKEN_WARN_DAYS else ok(words)


# -- DATA ---
def judge_bars(symbol: str, bars: Sequence[Bar], now: datetime) -> Verdict:
    """Judge daily bars: there should be some, and the last one should be of these days."""
    if not bars:
        return warn(f"no daily bars of {symbol}")
    last = bars[-1]
    words = f"{len(bars)} daily bars of {symbol}, the last of {last.start:%Y-%m-%d} closes at {plain(last.close)}"
    if (now - last.start).days > BARS_OLD_DAYS:
        return warn(words, "The newest is old: see the market data subscription.")
    return ok(words)


def judge_quote(quote: QuoteReport, now: datetime, *, is_open: bool, delayed_advice: str | None) -> Verdict:
    """Judge a quote by age and spread; both count only while the market is open."""
    words, spread = _quote_words(quote, now), _spread(quote)
    age = (now - quote.at).total_seconds() if quote.at else 0.0
    troubles = (
        (quote.delayed, "delayed by the broker", delayed_advice),
        (is_open and age > QUOTE_OLD_S, "old, and the market is open", delayed_advice),
        (is_open and spread is None, "one-sided, and the market is open", delayed_advice),
        (spread is not None and spread < 0, "crossed: the bid is above the ask", None),
        (is_open and spread is not None and spread > SPREAD_WIDE, "wide for this symbol", delayed_advice),
    )
    found = [(what, advice) for bad, what, advice in troubles if bad]
    return warn(f"{words}; {', '.join(what for what, _ in found)}", found[0][1]) if found else ok(words)


def _quote_words(quote: QuoteReport, now: datetime) -> str:
    """Say what a quote shows: prices, spread, age."""
    sides = [(side, getattr(quote, side)) for side in ("bid", "ask", "last")]
    parts = [f"{side} {plain(price)}" for side, price in sides if price is not None]
    spread = _spread(quote)
    if spread is not None:
        parts.append(f"spread {spread * 10_000:.1f} bp")
    if quote.at is not None:
        parts.append(f"{max((now - quote.at).total_seconds(), 0):.1f} s old")
    return f"{quote.symbol} {', '.join(parts)}"


def _spread(quote: QuoteReport) -> Decimal | None:
    if quote.bid is None or quote.ask is None:
        return None
    return (quote.ask - quote.bid) / ((quote.ask + quote.bid) / 2)
