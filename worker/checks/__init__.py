"""`corro check`: is everything there that trading needs, and if not, what has to change?

| file           | holds                                                                      |
|----------------|----------------------------------------------------------------------------|
| steps          | the frame: steps, verdicts, lanes with a time limit                        |
| system         | settings, database, queue, workers                                         |
| broker         | one broker, from its adapter to a quote                                    |
| alpaca         | Alpaca without its stream                                                  |
| judge          | what the numbers mean                                                      |
| calendar       | is the market open                                                         |
| advice         | what to change, as a table                                                 |

Every broker has a thread and a time limit of its own; what hangs is left behind and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from models.errors import ConfigurationError
from models.extras import install
from models.settings import Settings
from models.troubles import trouble
from worker.checks.broker import broker_lane
from worker.checks.steps import CheckLane, CheckState, Finding
from worker.checks.system import secrets_of, system_lane
from worker.runtime.calendar import MarketHours, market_at

#: Seconds for each broker.
LIMIT_S = 15.0


def run(settings: Settings, names: Sequence[str] | None = None, limit_s: float = LIMIT_S) -> list[Finding]:
    """Look at everything.

    Args:
        settings: those in force.
        names: brokers to look at; None is all.
        limit_s: seconds for each of them.

    Returns:
        What all brokers share first, then broker by broker, each in the order of the checks.

    Raises:
        ConfigurationError: there is no broker of such a name.
    """
    wanted = list(names) if names is not None else [*settings.route, *_off_route(settings)]
    market: Future[MarketHours | None] = Future()
    secrets = secrets_of(settings)
    lanes = [broker_lane(settings, name, limit_s, market, secrets) for name in wanted]
    shared = system_lane(settings, wanted, limit_s)
    everything: list[CheckLane[Any]] = [shared, *lanes]
    for lane in everything:
        lane.start()
    clock = _market(market)
    found = [*shared.result(), clock, *(finding for lane in lanes for finding in lane.result())]
    rank = {name: number for number, name in enumerate(wanted)}
    return sorted(found, key=lambda finding: rank.get(finding.broker or "", -1))


def _off_route(settings: Settings) -> list[str]:
    return [name for name in settings.all_brokers if name not in settings.route]


def _market(told: Future[MarketHours | None]) -> Finding:
    """Look at the exchange's calendar, here: it is the only check that is all computing, and no thread-safe one."""
    market, missing = None, ""
    try:
        market = market_at(datetime.now(UTC))
    except ImportError as error:
        missing = f"unknown: {error}"
    except Exception as error:
        missing = f"unknown: {trouble(error)}"
    finally:
        told.set_result(market)
    if market is not None:
        return Finding(broker=None, check="market", state=CheckState.OK, words=market.words)
    advice = f"{install('worker')} brings exchange_calendars."
    return Finding(broker=None, check="market", state=CheckState.SKIP, words=missing, advice=advice)


def unreadable(error: ConfigurationError) -> list[Finding]:
    """Return the report where the settings themselves cannot be read."""
    return [Finding(broker=None, check="settings", state=CheckState.FAIL, words=str(error))]


def exit_status(found: Sequence[Finding]) -> int:
    """Return 2 if settings are wrong, else 1 if anything failed, else 0."""
    failed = {finding.check for finding in found if finding.state is CheckState.FAIL}
    if "settings" in failed:
        return 2
    return 1 if failed else 0


def summary(found: Sequence[Finding]) -> str:
    """Return one line: how many checks are well, and which are not."""

    def named(state: CheckState) -> list[str]:
        return [f"{finding.broker or ''} {finding.check}".strip() for finding in found if finding.state is state]

    bad = [f"{state}: {', '.join(named(state))}" for state in (CheckState.FAIL, CheckState.WARN) if named(state)]
    return "; ".join([f"{len(named(CheckState.OK))} of {len(found)} checks ok", *bad])
