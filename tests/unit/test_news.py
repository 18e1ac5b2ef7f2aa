"""What people are told, and when: the pure decision, look by look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.notify import Concern, NewsKind, NotifySettings
from models.record.notice_rows import IncidentRow
from worker.notify.concerns import of_dead_letters
from worker.notify.plan import Plan, decide_news, lapse

T = datetime(2026, 11, 30, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return T + timedelta(seconds=seconds)


class NewsListener:
    """Somebody who is told: applies plans to its rows, and notes what was said when."""

    def __init__(self, **settings: Any) -> None:
        self.settings = NotifySettings(**settings)
        self.rows: dict[tuple[str, str], IncidentRow] = {}
        self.last: dict[str, datetime] = {}
        self.heard: list[tuple[float, str, str]] = []

    def look(self, at: float, *concerns: Concern) -> Plan:
        plan = decide_news(concerns, list(self.rows.values()), self.last, self.settings, later(at))
        self.rows |= {(row["kind"], row["subject"]): row for row in plan.changed}
        for key in plan.gone:
            self.rows.pop(key, None)
        for message in plan.messages:
            self.last[message.kind] = later(at)
            self.heard.append((at, message.title, message.body))
        return plan

    @property
    def titles(self) -> list[tuple[float, str]]:
        return [(at, title) for at, title, _ in self.heard]


def doubt(name: str, at: float = 0) -> Concern:
    return Concern(NewsKind.UNRESOLVED, name, later(at), "at ibkr")


# -- THE DECISION ---
def test_the_first_is_told_at_once_and_what_follows_within_a_minute_together_at_its_end() -> None:
    heard = NewsListener()
    heard.look(0, doubt("o-1"))
    for at in range(2, 60, 2):
        heard.look(at, *(doubt(f"o-{number}", number) for number in range(1, 4)))
    heard.look(60, *(doubt(f"o-{number}", number) for number in range(1, 4)))
    assert heard.titles == [(0, "corro unresolved: o-1"), (60, "corro unresolved: 2")]
    assert [word in heard.heard[1][2] for word in ("o-1", "o-2", "o-3")] == [False, True, True]


def test_each_kind_has_a_minute_of_its_own() -> None:
    heard = NewsListener()
    heard.look(0, doubt("o-1"))
    heard.look(1, doubt("o-1"), Concern(NewsKind.LOCKED, "ibkr:KO", later(1)))
    assert heard.titles == [(0, "corro unresolved: o-1"), (1, "corro locked: ibkr:KO")]


def test_over_says_how_long_and_nothing_is_told_twice() -> None:
    heard = NewsListener()
    for at in range(0, 130, 2):
        heard.look(at, doubt("o-1"))
    heard.look(130)
    heard.look(200)
    assert heard.titles == [(0, "corro unresolved: o-1"), (130, "corro unresolved over: o-1")]
    assert "over: o-1, after 2 min 10 s" in heard.heard[1][2]
    assert heard.rows == {}


def test_what_is_over_and_back_before_anybody_was_told_so_is_no_news() -> None:
    heard = NewsListener()
    heard.look(0, doubt("o-1"))
    heard.look(10)
    heard.look(20, doubt("o-1"))
    heard.look(90, doubt("o-1"))
    assert len(heard.heard) == 1


def test_what_came_and_went_while_its_kind_had_to_wait_is_one_line() -> None:
    heard = NewsListener()
    heard.look(0, doubt("o-1"))
    heard.look(10, doubt("o-1"), doubt("o-2", 10))
    heard.look(22, doubt("o-1"))
    heard.look(60, doubt("o-1"))
    assert heard.titles[1:] == [(60, "corro unresolved over: o-2")]
    assert "after 12 s" in heard.heard[1][2]


def kill(reason: str, at: float) -> Concern:
    return Concern(NewsKind.KILLED, "all brokers", later(at), f"halted by ana: {reason}")


def test_a_kill_that_was_over_before_anybody_was_told_is_told_with_its_reason() -> None:
    heard = NewsListener()
    heard.look(0, kill("storm", 0))
    heard.look(10)
    heard.look(60)
    heard.look(70, kill("hail", 70))
    heard.look(85)
    heard.look(130)
    assert heard.titles[1:] == [(60, "corro killed over: all brokers"), (130, "corro killed over: all brokers")]
    assert "hail" in heard.heard[2][2]
    assert "`corro controls` shows more" in heard.heard[2][2]


def test_two_kills_in_a_row_are_each_told_with_their_reason() -> None:
    heard = NewsListener()
    heard.look(0, kill("storm", 0))
    heard.look(10, kill("hail", 9))
    heard.look(20)
    heard.look(22, kill("snow", 21))
    heard.look(60, kill("snow", 21))
    heard.look(120, kill("snow", 21))
    assert heard.titles == [(0, "corro killed: all brokers"), (60, "corro killed: all brokers")]
    assert all(reason in heard.heard[1][2] for reason in ("hail", "snow"))


def test_a_broker_that_is_back_in_time_is_nobodys_concern() -> None:
    heard, lost = NewsListener(disconnected_after=60), Concern(NewsKind.BROKER_DISCONNECTED, "ibkr", T, "no TWS")
    heard.look(0, lost)
    heard.look(59, lost)
    heard.look(59.5)
    assert (heard.heard, heard.rows) == ([], {})
    heard.look(100, lost)
    assert heard.titles == [(100, "corro broker_disconnected: ibkr")]


def test_what_happens_is_told_once_and_never_over() -> None:
    heard = NewsListener()
    heard.look(0, Concern(NewsKind.OVERFILLED, "o-1", T, "filled 12 of 10"))
    heard.look(100)
    assert heard.titles == [(0, "corro overfilled: o-1")]


def test_only_the_kinds_that_are_wanted_are_told() -> None:
    heard = NewsListener(events=["locked"])
    heard.look(0, doubt("o-1"), Concern(NewsKind.LOCKED, "ibkr:KO", T))
    assert heard.titles == [(0, "corro locked: ibkr:KO")]


def test_a_thousand_at_once_are_one_message_with_every_id() -> None:
    heard = NewsListener()
    heard.look(0, *(doubt(f"order-{number:04}") for number in range(1000)))
    (at, title, body) = heard.heard[0]
    assert (at, title, body.count("\n") < 50) == (0, "corro unresolved: 1000", True)
    assert all(f"order-{number:04}" in body for number in range(1000))


def test_more_dead_letters_than_are_kept_are_counted() -> None:
    kept = [{"id": f"l-{n}", "reason": "time", "queue": "orders.ibkr", "why": "no time"} for n in range(3)]
    assert [c.subject for c in of_dead_letters(kept, 2, T)] == ["l-0", "l-1"]
    assert [c.subject for c in of_dead_letters(kept, 9, T)] == ["l-0", "l-1", "l-2", "6 more"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (31, "31 s"), (130, "2 min 10 s"), (7200, "2 h"), (12_000, "3 h 20 min"), (90_000, "1 day 1 h")],
)
def test_times_are_written_as_people_say_them(seconds: float, words: str) -> None:
    assert lapse(seconds) == words
