"""The checks of one broker: from its adapter to a quote, without disturbing a worker that runs.

What an adapter does not tell (`server_time`, `account_flags`, see worker/brokers/base.py) is looked at another way or
skipped: the clock by the Date header of its URL.
"""

from __future__ import annotations

import importlib.metadata
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from models.errors import DataNotPermitted, NoData, NoSuchSymbol
from models.extras import install
from models.messages import plain
from models.settings import BrokerSettings, Settings
from models.troubles import trouble
from worker import brokers
from worker.brokers.base import BrokerInterface
from worker.brokers.rest.http import CONNECT_S, Wire, exchange
from worker.checks.advice import IB_PORTS, PORT_OPEN, PORT_SILENT, advice_for
from worker.checks.judge import judge_account, judge_bars, judge_flags, judge_quote, judge_skew, judge_token
from worker.checks.steps import CheckLane, CheckStep, Verdict, fail, ok, skip, warn, worst
from worker.runtime.calendar import MarketHours

#: Every US market data plan has it, and it trades all day.
SYMBOL = "SPY"
#: A check speaks to TWS under this much more than its worker's client id.
CLIENT_ID_APART = 100
_BARS = timedelta(days=10)
#: Where an adapter's SDK comes from; the first that is installed counts.
SDKS = {
    "ibkr": ("ib_insync", "ib_async"),
    "alpaca": ("alpaca-trade-api",),
    "tda": ("requests",),
    "schwab": ("requests",),
}


@dataclass
class Subject:
    """One broker under examination."""

    name: str
    settings: Settings
    table: BrokerSettings
    limit_s: float
    market: Future[MarketHours | None]
    _broker: BrokerInterface | None = field(default=None, repr=False)

    @property
    def broker(self) -> BrokerInterface:
        """The adapter; there once `adapter` has passed."""
        assert self._broker is not None
        return self._broker

    @property
    def where(self) -> str:
        """The broker's address."""
        if self.table.adapter == "ibkr":
            return f"{self.facts['host']}:{self.facts['port']}, client id {self.facts['client_id']}"
        return self.url

    @property
    def url(self) -> str:
        """The base URL in force, empty where the adapter has none."""
        usual = self._broker.default_url if self._broker is not None else ""
        return str(self.table.get("base_url") or usual)

    @property
    def facts(self) -> Mapping[str, object]:
        """Values for the advice."""
        get = self.table.get
        return {
            "name": self.name,
            "adapter": self.table.adapter,
            "env": f"CORRO_BROKERS__{self.name.upper()}__",
            "host": get("host", "127.0.0.1"),
            "port": get("port", 7497),
            "client_id": get("client_id", 1),
            "url": self.url,
        }


def broker_lane(
    settings: Settings, name: str, limit_s: float, market: Future[MarketHours | None], secrets: Sequence[str]
) -> CheckLane[Subject]:
    """Return the lane of one broker's checks."""
    subject = Subject(name, settings, table_for(settings.broker(name), limit_s), limit_s, market)
    steps = [step for step in STEPS if step.name != "token" or subject.table.get("refresh_token") is not None]
    return CheckLane(name, steps, subject, limit_s, explain=explain, close=_close, bound=exchange, secrets=secrets)


def table_for(table: BrokerSettings, limit_s: float) -> BrokerSettings:
    """Return the settings to check with: at TWS another client id, and timeouts that fit the limit."""
    if table.adapter != "ibkr":
        return table
    try:
        own = int(table.get("client_id", 1))
        times = {
            key: min(float(table.get(key, limit_s)), limit_s * 0.3) for key in ("connect_timeout", "request_timeout")
        }
        client_id = int(table.get("check_client_id") or own + CLIENT_ID_APART)
    except (TypeError, ValueError):
        return table  # the adapter will say what is wrong
    return table.model_copy(update={"client_id": client_id, **times})


def explain(error: Exception, subject: Subject) -> Verdict:
    """Turn what a step raised into a verdict with advice."""
    words = trouble(error)
    advice = advice_for(subject.table.adapter, words, subject.facts, sandbox=subject.settings.is_sandbox)
    return (warn if isinstance(error, DataNotPermitted | NoData | NoSuchSymbol) else fail)(words, advice)


def _close(subject: Subject) -> None:
    if subject._broker is not None:
        subject._broker.disconnect()


# -- BEFORE THE NETWORK ---
def look_at_adapter(s: Subject) -> Verdict:
    """Load the adapter and name its SDK; say so if the service behind it is gone."""
    loaded = brokers.load(s.settings, s.name)
    s._broker = loaded.quiet_for_check(s.name, s.table)
    wanted = (str(s.table.get("sdk")),) if s.table.get("sdk") else SDKS.get(s.table.adapter, ())
    found = [f"{sdk} {version}" for sdk in wanted if (version := _version(sdk))]
    if wanted and not found:
        return fail(f"{' or '.join(wanted)} is not installed", install("worker", s.table.adapter))
    words = ", ".join([type(loaded).__name__, *found[:1]])
    if loaded.retired:
        return warn(
            f"{words}. {loaded.retired}", 'Set adapter = "schwab" for a real account; `tda` speaks to the sandbox only.'
        )
    return ok(words)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def look_at_settings(s: Subject) -> Verdict:
    """Have the adapter check its settings, and say what money is meant, in capitals."""
    s.broker.check_settings(s.name, s.table)
    if s.settings.is_sandbox:
        return ok(f"SANDBOX: simulated market, no money, at {s.where}")
    if not s.table.live:
        return ok(f"PAPER: no real money (live = false), at {s.where}")
    words = f"LIVE: REAL MONEY (live = true), at {s.where}"
    if _is_paper_address(s):
        return warn(f"{words}, but that address is for paper", "Remove live = true, or set the live address.")
    return ok(words)


def _is_paper_address(s: Subject) -> bool:
    if s.table.adapter == "ibkr":
        return "paper" in IB_PORTS.get(int(str(s.facts["port"])), "")
    return "paper" in s.url


# -- CONNECTION ---
def connect(s: Subject) -> Verdict:
    """Connect as the worker would, but as somebody else."""
    started = time.perf_counter()
    try:
        s.broker.connect()
    except Exception as error:
        verdict = explain(error, s)
        return _seen_from_outside(s, verdict) if s.table.adapter == "ibkr" else verdict
    return ok(f"connected in {(time.perf_counter() - started) * 1000:.0f} ms")


def _seen_from_outside(s: Subject, verdict: Verdict) -> Verdict:
    """Add what the port itself shows: TWS's silence has other reasons than an empty port."""
    host, port = str(s.facts["host"]), int(str(s.facts["port"]))
    words = verdict.words
    if "refused" in words.lower() or "connect call failed" in words.lower():
        others = [f"{p} ({what})" for p, what in IB_PORTS.items() if p != port and port_state(host, p, 0.3) == "open"]
        words += f"; but {', '.join(others)} is open there" if others else ""
    elif "timeout" in words.lower():
        words += f"; {PORT_OPEN if port_state(host, port, 1.0) == 'open' else PORT_SILENT}"
    return fail(words, advice_for("ibkr", words, s.facts, sandbox=s.settings.is_sandbox))


def port_state(host: str, port: int, timeout_s: float) -> str:
    """Return what a TCP port shows: open, refused or silent."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"


def look_at_clock(s: Subject) -> Verdict:
    """Compare this machine's clock with the broker's."""
    before, started = datetime.now(UTC), time.perf_counter()
    told = s.broker.server_time()
    if told is None and s.url:
        before, started = datetime.now(UTC), time.perf_counter()
        told = _date_header(s.url)
    trip = time.perf_counter() - started
    if told is None:
        return skip(f"{s.url} sends no Date" if s.url else "the adapter does not tell the broker's time")
    # Both are told in whole seconds, at some moment of the round trip.
    ahead = (before + timedelta(seconds=trip / 2) - told).total_seconds() - 0.5
    return judge_skew(ahead, trip / 2 + 0.5)


def _date_header(url: str) -> datetime | None:
    """Return the Date of any answer; an error page has one too."""
    wire = Wire(connect_s=CONNECT_S)
    try:
        date = wire.request("GET", url).headers.get("Date")
    finally:
        wire.close()
    return parsedate_to_datetime(date) if date else None


# -- ACCOUNT AND DATA ---
def look_at_account(s: Subject) -> Verdict:
    """Read the money."""
    return judge_account(s.broker.get_account_info(), live=s.table.live)


def count_positions(s: Subject) -> Verdict:
    """Read the holdings."""
    held = s.broker.get_positions()
    shown = [(p.symbol, "?" if p.quantity is None else plain(p.quantity)) for p in held[:5]]
    names = ", ".join(f"{symbol} {quantity}" for symbol, quantity in shown)
    return ok(f"{len(held)} position(s)" + (f": {names}{', ...' if len(held) > 5 else ''}" if held else ""))


def look_at_permissions(s: Subject) -> Verdict:
    """See what the account may do: its flags where it has some, and whether its orders can be listed."""
    orders = s.broker.get_orders(open_only=True)
    read_only = "Read-Only API is off, " if s.table.adapter == "ibkr" else ""
    words = f"{read_only}orders may be read ({len(orders)} open)"
    flags = s.broker.account_flags()
    return worst(judge_flags(flags), words) if flags is not None else ok(words)


def look_at_token(s: Subject) -> Verdict:
    """Count the days until somebody has to log in again."""
    from worker.brokers.tda.tokens import token_path

    return judge_token(token_path(s.name, s.table.get("token_path")), time.time(), s.facts)


def look_at_bars(s: Subject) -> Verdict:
    """Read a few daily bars."""
    now = datetime.now(UTC)
    return judge_bars(SYMBOL, s.broker.get_historical_data(SYMBOL, "1Day", now - _BARS, now), now)


def look_at_quote(s: Subject) -> Verdict:
    """Read a quote and judge its age and spread; out of hours both may be anything."""
    quote = s.broker.get_market_data(SYMBOL)
    market = s.market.result(s.limit_s)
    is_open = market.is_open if market is not None and not s.settings.is_sandbox else False
    delayed = advice_for(s.table.adapter, "delayed", s.facts)
    return judge_quote(quote, datetime.now(UTC), is_open=is_open, delayed_advice=delayed)


_CONNECTED = ("adapter", "settings", "connect")
STEPS: tuple[CheckStep[Subject], ...] = (
    CheckStep(name="adapter", look=look_at_adapter),
    CheckStep(name="settings", look=look_at_settings, needs=("adapter",)),
    CheckStep(name="connect", look=connect, needs=("adapter", "settings"), share=0.6),
    CheckStep(name="clock", look=look_at_clock, needs=_CONNECTED),
    CheckStep(name="account", look=look_at_account, needs=_CONNECTED),
    CheckStep(name="positions", look=count_positions, needs=_CONNECTED),
    CheckStep(name="permissions", look=look_at_permissions, needs=_CONNECTED),
    CheckStep(name="token", look=look_at_token, needs=_CONNECTED),
    CheckStep(name="bars", look=look_at_bars, needs=_CONNECTED),
    # Last: a snapshot of a quiet symbol takes TWS eleven seconds.
    CheckStep(name="quote", look=look_at_quote, needs=_CONNECTED, share=0.8),
)
