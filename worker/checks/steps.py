"""The frame of `corro check`: small steps that each give one verdict, in lanes that never hold up the command."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

C = TypeVar("C")

#: Share of the time limit after which a step's requests are ended, so that the lane can still say so itself.
_BUDGET = 0.9
#: Seconds that a lane may take beyond its limit to close its connection.
_GRACE_S = 1.0
#: Longest text of a finding; exceptions can be long.
_WORDS = 400


class CheckState(StrEnum):
    """How a check ended."""

    OK = "ok"
    #: It works, but somebody should know.
    WARN = "warn"
    #: It does not work like this.
    FAIL = "fail"
    #: It could not be looked at, because something before it failed or is not there.
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one step found.

    Args:
        state: how it ended.
        words: what was seen.
        advice: what to change; None where nothing is to be done.
    """

    state: CheckState
    words: str
    advice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report; `broker` is None for what all brokers share."""

    broker: str | None
    check: str
    state: CheckState
    words: str
    advice: str | None = None


def ok(words: str) -> Verdict:
    """Return the verdict that all is well."""
    return Verdict(CheckState.OK, words)


def warn(words: str, advice: str | None = None) -> Verdict:
    """Return the verdict that it works, with something to know."""
    return Verdict(CheckState.WARN, words, advice)


def fail(words: str, advice: str | None = None) -> Verdict:
    """Return the verdict that it does not work."""
    return Verdict(CheckState.FAIL, words, advice)


def skip(words: str, advice: str | None = None) -> Verdict:
    """Return the verdict that it could not be looked at."""
    return Verdict(CheckState.SKIP, words, advice)


def worst(verdicts: Sequence[Verdict], words: str) -> Verdict:
    """Fold several verdicts: the worst state, the words of what is not well, else `words`."""
    rank = (CheckState.OK, CheckState.SKIP, CheckState.WARN, CheckState.FAIL)
    bad = [verdict for verdict in verdicts if verdict.state is not CheckState.OK]
    if not bad:
        return ok(words)
    advice = " ".join(verdict.advice for verdict in bad if verdict.advice)
    state = max((verdict.state for verdict in bad), key=rank.index)
    return Verdict(state, "; ".join(verdict.words for verdict in bad), advice or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStep(Generic[C]):
    """One check.

    Args:
        name: its name in the report.
        look: does it; may raise.
        needs: steps before it that must not have failed.
        share: part of the limit that its requests may take.
        broker: whom it is about, where that is not the lane's broker.
    """

    name: str
    look: Callable[[C], Verdict]
    needs: tuple[str, ...] = ()
    share: float = 1 / 3
    broker: str | None = None


#: Ends the requests made inside within so many seconds.
Bound = Callable[[float], contextlib.AbstractContextManager[object]]


class CheckLane(Generic[C]):
    """Steps one after the other, in a daemon thread that is left behind when its time is over.

    Args:
        broker: whom it is about; None for what all share.
        steps: in order.
        context: what the steps share.
        limit_s: seconds for all of them.
        explain: turns what a step raised into a verdict.
        close: called at the end, in the thread.
        bound: ends the requests of a step in time.
        secrets: never to be seen in a finding.
    """

    def __init__(
        self,
        broker: str | None,
        steps: Sequence[CheckStep[C]],
        context: C,
        limit_s: float,
        *,
        explain: Callable[[Exception, C], Verdict],
        close: Callable[[C], None],
        bound: Bound = lambda _: contextlib.nullcontext(),
        secrets: Sequence[str] = (),
    ) -> None:
        self.broker, self.steps, self.context, self.limit_s = broker, steps, context, limit_s
        self._explain, self._close, self._bound, self._secrets = explain, close, bound, secrets
        self._found: list[Finding] = []
        self._lock = threading.Lock()
        self._ends_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"check-{broker or 'system'}", daemon=True)

    def start(self) -> None:
        """Begin; the time runs from here."""
        self._ends_at = time.monotonic() + self.limit_s
        self._thread.start()

    def result(self) -> list[Finding]:
        """Wait until it is done or its time is over; what is missing then is in the list as failed or skipped."""
        self._thread.join(max(self._ends_at - time.monotonic(), 0) + _GRACE_S)
        with self._lock:
            found = list(self._found)
        missing = [self._finding(step, skip("not looked at: no time was left")) for step in self.steps[len(found) :]]
        if missing:
            late = f"no answer within {self.limit_s:g} s"
            missing[0] = self._finding(
                self.steps[len(found)], fail(late, "See whether it is slow or stuck; --timeout gives it more time.")
            )
        return found + missing

    def _run(self) -> None:
        for step in self.steps:
            finding = self._finding(step, self._look(step))
            with self._lock:
                self._found.append(finding)
        with contextlib.suppress(Exception):
            self._close(self.context)

    def _look(self, step: CheckStep[C]) -> Verdict:
        """Do one check, unless one that it needs has failed or no time is left."""
        bad = {found.check for found in self._found if found.state in (CheckState.FAIL, CheckState.SKIP)}
        missing = [name for name in step.needs if name in bad]
        if missing:
            return skip(f"not looked at: needs {missing[0]}")
        left = self._ends_at - time.monotonic() - self.limit_s * (1 - _BUDGET)
        if left <= 0:
            return skip("not looked at: no time was left", "--timeout gives it more time.")
        try:
            with self._bound(min(left, self.limit_s * step.share)):
                return step.look(self.context)
        except Exception as error:
            return self._explain(error, self.context)

    def _finding(self, step: CheckStep[C], verdict: Verdict) -> Finding:
        """Return a verdict as a row, cleaned of what must not be shown."""
        return Finding(
            broker=step.broker or self.broker,
            check=step.name,
            state=verdict.state,
            words=self._clean(verdict.words),
            advice=self._clean(verdict.advice) if verdict.advice else None,
        )

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join(text.split())
        return line if len(line) <= _WORDS else line[: _WORDS - 1] + "…"
