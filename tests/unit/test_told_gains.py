"""A day's loss, as limits count it, is the day's profit and loss by the average: also after what was told besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.history import History
from models.settings import Settings
from models.vocabulary import CashKind
from tests.unit.position_desk import PositionDesk, desk_on
from tests.unit.test_archived_executions import archive, report
from tests.unit.test_lot_changes import CALL, TODAY, YESTERDAY, D, kept, tell
from worker.risk.losses import Openings, gains
from worker.runtime.clock import utcnow

#: Seconds since an hour that is on this day, and after what was told of it.
LATER = (utcnow() - TODAY).total_seconds() / 2
#: On another day than the trades of two days before.
EVENING, DAYS_AGO = TODAY - timedelta(minutes=30), YESTERDAY + 86400
Story = Callable[[PositionDesk], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, settings: Settings) -> Iterator[PositionDesk]:
    yield from desk_on(request, settings)


def counted(desk: PositionDesk, openings: Openings | None = None) -> dict[str | None, Decimal]:
    """Return what a limit counts of this day, by strategy."""
    with desk.database.read() as connection:
        found = gains(connection, TODAY, openings)
    return {strategy: round(gain, 6) for (_, strategy, _), gain in found.items() if gain}


def earned(desk: PositionDesk) -> dict[str | None, Decimal]:
    """Return what profit and loss says of this day, by strategy."""
    rows = History(desk.database).pnl("strategy", since=TODAY, method="average")
    found = {row["strategy"]: round(row["realized"] - (row["fees"] or 0), 6) for row in rows if row["realized"]}
    return {strategy: gain for strategy, gain in found.items() if strategy != "(external)"}


# -- WHAT WAS TOLD ---
def archived(desk: PositionDesk) -> str:
    """Return an archived purchase of 10 at 120, after one of 10 at 100."""
    desk.fill("KO", "buy", 10, strategy="dip", price="100", age_s=YESTERDAY + 60)
    name = desk.fill("KO", "buy", 10, strategy="dip", price="120", age_s=YESTERDAY)
    desk.fill("F", "buy", 1, strategy="dip", price="9", age_s=YESTERDAY)  # the newest execution is never archived
    desk.read(KO=20, F=1)
    archive(desk, name)
    return name


def split(desk: PositionDesk) -> None:
    """Two for one: ten that cost 100 are twenty at 50, of which five go at 49."""
    desk.fill("KO", "buy", 6, strategy="dip", price="90", age_s=YESTERDAY + 60)
    desk.fill("KO", "buy", 4, strategy="dip", price="115", age_s=YESTERDAY)
    desk.read(KO=10)
    tell(desk, CashKind.SPLIT, 10, detail="2 FOR 1")
    desk.read(KO=20)
    desk.fill("KO", "sell", 5, strategy="dip", price="49", age_s=LATER)


def split_of_before(desk: PositionDesk) -> None:
    """The same, told of the evening before."""
    desk.fill("KO", "buy", 10, strategy="dip", price="100", age_s=DAYS_AGO)
    desk.read(KO=10)
    tell(desk, CashKind.SPLIT, 10, detail="2 FOR 1", at=EVENING)
    desk.read(KO=20)
    desk.fill("KO", "sell", 5, strategy="dip", price="49", age_s=LATER)


def reverse_split(desk: PositionDesk) -> None:
    """One for three of two holders' shares, one of them short."""
    desk.fill("KO", "buy", 30, strategy="dip", price="10", age_s=YESTERDAY)
    desk.fill("KO", "sell_short", 9, strategy="fade", price="12", age_s=YESTERDAY)
    desk.read(KO=21)
    tell(desk, CashKind.SPLIT, -14, detail="1 FOR 3")
    desk.read(KO=7)
    desk.fill("KO", "sell", 4, strategy="dip", price="33", age_s=LATER)
    desk.fill("KO", "buy_to_cover", 3, strategy="fade", price="30", age_s=LATER)


def two_splits(desk: PositionDesk) -> None:
    desk.fill("KO", "buy", 10, strategy="dip", price="120", age_s=DAYS_AGO)
    desk.read(KO=10)
    tell(desk, CashKind.SPLIT, 10, detail="2 FOR 1", at=EVENING)
    desk.read(KO=20)
    tell(desk, CashKind.SPLIT, 20, n=2, detail="2 FOR 1")
    desk.read(KO=40)
    desk.fill("KO", "sell", 7, strategy="dip", price="31", age_s=LATER)


def expiry(desk: PositionDesk) -> None:
    """A long option is worth nothing, a short one has earned its premium."""
    desk.fill(CALL, "buy", 2, strategy="dip", price="1.50", age_s=YESTERDAY)
    desk.fill(CALL, "sell_short", 3, strategy="wheel", price="2", age_s=YESTERDAY)
    desk.read(**{CALL: -1})
    tell(desk, CashKind.EXPIRY, 1, symbol=CALL)
    desk.read(3, **{CALL: 0})


def assignment(desk: PositionDesk) -> None:
    """A short option is taken at money, and what is opened thereafter begins anew."""
    desk.fill(CALL, "sell_short", 3, strategy="wheel", price="2", age_s=YESTERDAY)
    desk.read(**{CALL: -3})
    tell(desk, CashKind.ASSIGNMENT, 3, symbol=CALL, amount=D(-90))
    desk.read(3, **{CALL: 0})
    desk.fill(CALL, "buy", 1, strategy="wheel", price="4", age_s=LATER)
    desk.fill(CALL, "sell", 1, strategy="wheel", price="5", age_s=LATER - 1)


def corrected(desk: PositionDesk) -> None:
    """An archived execution counts as it was told last."""
    traded = archived(desk)
    desk.external.note([report(traded, 8, 115, revision=1)])
    desk.read(3, KO=18)
    desk.fill("KO", "sell", 9, strategy="dip", price="90", age_s=LATER)


def busted(desk: PositionDesk) -> None:
    """An archived execution that was taken back counts no more."""
    traded = archived(desk)
    desk.external.note([report(traded, 10, 120, revision=1, busted=True)])
    desk.read(3, KO=10)
    desk.fill("KO", "sell", 4, strategy="dip", price="90", age_s=LATER)


@pytest.mark.parametrize(
    ("story", "gain"),
    [
        (split, {"dip": D(-5)}), (split_of_before, {"dip": D(-5)}),
        (reverse_split, {"dip": D(12), "fade": D(18)}), (two_splits, {"dip": D(7)}),
        (expiry, {"dip": D(-300), "wheel": D(600)}), (assignment, {"wheel": D(510 + 100)}),
        (corrected, None), (busted, {"dip": D(-40)}),
    ],
    ids=lambda story: getattr(story, "__name__", ""),
)  # fmt: skip
def test_a_days_loss_is_that_of_profit_and_loss_whatever_was_told(
    story: Story, gain: dict[str, Decimal] | None, desk: PositionDesk
) -> None:
    desk.read()
    story(desk)
    assert counted(desk) == earned(desk)
    assert gain is None or counted(desk) == gain
    kept(desk)
    assert counted(desk) == earned(desk)


def test_a_split_that_is_told_counts_at_once_and_not_at_the_next_look_at_the_days_before(desk: PositionDesk) -> None:
    openings: Any = Openings()
    desk.read()
    desk.fill("KO", "buy", 10, strategy="dip", price="100", age_s=DAYS_AGO)
    desk.fill("KO", "buy", 1, strategy="dip", price="50", age_s=LATER)
    desk.fill("KO", "sell", 1, strategy="dip", price="100", age_s=LATER - 1)
    desk.read(KO=10)
    counted(desk, openings)
    tell(desk, CashKind.SPLIT, 10, detail="2 FOR 1", at=EVENING)
    desk.read(KO=20)
    assert counted(desk, openings) == counted(desk) == earned(desk)


def test_a_split_makes_no_short_position_of_what_was_sold_out_of_a_line_of_before(desk: PositionDesk) -> None:
    desk.read(KO=10)
    desk.fill("KO", "sell", 4, strategy="dip", price="100", age_s=YESTERDAY)
    desk.read(KO=6)
    tell(desk, CashKind.SPLIT, 6, detail="2 FOR 1")
    desk.read(KO=12)
    desk.fill("KO", "buy", 1, strategy="dip", price="50", age_s=LATER)
    desk.fill("KO", "sell", 1, strategy="dip", price="49", age_s=LATER - 1)
    assert counted(desk) == {"dip": D(-1)}, "nobody knows what was paid for the ten"
