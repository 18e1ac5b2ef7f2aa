"""A change of limits only tightens, now and when the time of one is over; or it is refused."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import product

import pytest

from models.errors import Untrusted
from models.risk.names import EVERYTHING, FROM_SETTINGS, Limit, LimitValue
from models.risk.strictness import ONLY_TIGHTENED, must_only_tighten
from tests.unit.words import NOW


def limit(name: str, value: LimitValue, hours: int | None = None, by: str = "ann") -> Limit:
    until = None if hours is None else NOW + timedelta(hours=hours)
    return Limit(EVERYTHING, EVERYTHING, name, value, until, by)


def amount(value: int | None, hours: int | None = None) -> list[Limit]:
    return [] if value is None else [limit("max_value", Decimal(value), hours)]


def tightens(seeds: list[Limit], before: list[Limit], after: list[Limit]) -> bool:
    try:
        must_only_tighten({seed.place: seed for seed in seeds}, before, after, NOW)
    except Untrusted:
        return False
    return True


@pytest.mark.parametrize(
    ("seed", "before", "after", "does"),
    [
        (None, (None,), (5,), True), (None, (None,), (5, 8), True),
        (9, (None,), (9,), True), (9, (None,), (10,), False),
        (None, (5,), (5,), True), (None, (5,), (6,), False), (None, (5,), (0,), True), (None, (5,), (None,), False),
        # What comes back when the time of the new one is over is looser than what it took the place of.
        (None, (5,), (1, 8), False), (None, (5, 8), (1, 4), False), (None, (5, 8), (1, 9), True),
        (9, (5,), (1, 8), False), (3, (5,), (1, 8), True),
        # A looser one would have ended, and the stricter one of the settings be in force again.
        (3, (5, 8), (4,), False), (3, (5, 8), (4, 8), True), (3, (5, 8), (3,), True), (3, (5,), (None,), True),
        (3, (5, -1), (4,), False), (None, (5, -1), (6,), True),
    ],
)  # fmt: skip
def test_an_amount_never_grows(
    seed: int | None, before: tuple[int | None, ...], after: tuple[int | None, ...], does: bool
) -> None:
    seeds = [] if seed is None else [limit("max_value", Decimal(seed), by=FROM_SETTINGS)]
    assert tightens(seeds, amount(*before), amount(*after)) is does


@pytest.mark.parametrize(
    ("name", "values", "unset"),
    [
        ("restricted", (False, True), 0), ("allow_short", (True, False), 0), ("self_trade", ("allow", "deny"), 0),
        ("session", ("any", "extended", "regular"), 0), ("price_max_age", (Decimal(61), Decimal(60), Decimal(5)), 1),
    ],
)  # fmt: skip
def test_words_and_times_have_a_strict_side(name: str, values: tuple[LimitValue, ...], unset: int) -> None:
    """The values stand from the loosest to the strictest; where nothing is set, `unset` of them holds."""
    assert name in ONLY_TIGHTENED
    for (i, one), (j, other) in product(enumerate(values), repeat=2):
        assert tightens([], [limit(name, one)], [limit(name, other)]) is (j >= i)
        assert tightens([], [], [limit(name, other)]) is (j >= unset)
        assert tightens([], [limit(name, one)], []) is (unset >= i)


def test_a_row_that_cannot_be_read_is_not_written_over() -> None:
    """It stands for `restricted` in its scope."""
    assert not tightens([], [limit("restricted", True)], amount(5))
