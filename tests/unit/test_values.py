"""The words for "nothing" are known for every kind of field, and what is told is told exactly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.brokers import values

UNSET = [
    None, "", " ", "null", float("nan"), "NaN", float("inf"), "-Infinity", "inf", 1.7976931348623157e308,
    "1.7976931348623157E308", -1.7976931348623157e308, 2**31 - 1, "2147483647", 2147483647.0, -(2**31), 2**63 - 1,
    "9223372036854775807", float(2**63 - 1), -(2**63), "9" * 400,
]  # fmt: skip
READERS: list[Callable[[Any], object]] = [
    values.number, values.positive, values.size, values.fee, values.count, values.identity, values.epoch_ms,
    values.epoch_s,
]  # fmt: skip


@pytest.mark.parametrize("reader", [r for r in READERS if r is not values.identity])
@pytest.mark.parametrize("value", UNSET)
def test_what_means_not_set_is_none_in_every_kind_of_field(reader: Callable[[Any], object], value: object) -> None:
    assert reader(value) is None


@pytest.mark.parametrize("value", [None, "", " ", "null", "NaN", 0, "0", -1, "-1", 2**31 - 1, "2147483647", 2**63 - 1])
def test_an_unset_id_is_none(value: object) -> None:
    assert values.identity(value) is None


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (values.positive, 0), (values.positive, -1), (values.positive, "-0.0"), (values.size, -1), (values.fee, -1),
        (values.fee, -1.0), (values.fee, "-1"), (values.count, -1), (values.identity, 0), (values.identity, "-1"),
        (values.epoch_ms, 0), (values.epoch_ms, -1), (values.epoch_s, 0), (values.moment, 0), (values.moment, ""),
        (values.moment, None), (values.moment, "0001-01-01T00:00:00Z"), (values.moment, "1970-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_what_is_impossible_for_its_kind_means_nothing(reader: Callable[[Any], object], value: object) -> None:
    assert reader(value) is None


@pytest.mark.parametrize(
    ("reader", "value", "expected"),
    [
        (values.number, -1, Decimal(-1)), (values.number, 0, Decimal(0)), (values.number, "1e3", Decimal(1000)),
        (values.number, 100.0, Decimal(100)), (values.number, 0.1, Decimal("0.1")),
        (values.number, "105.123456789012", Decimal("105.123456789012")), (values.size, 0, Decimal(0)),
        (values.fee, "-0.35", Decimal("-0.35")), (values.fee, 0, Decimal(0)), (values.count, "3", 3),
        (values.count, 3.0, 3), (values.identity, 7, "7"), (values.identity, "1", "1"),
        (values.identity, "00025b46.63f8f39c.01.01", "00025b46.63f8f39c.01.01"),
        (values.identity, "2147483648", "2147483648"),
        (values.epoch_s, 1775931128, datetime(2026, 4, 11, 18, 12, 8, tzinfo=UTC)),
        (values.moment, "2026-10-08T15:10:18.909428548Z", datetime(2026, 10, 8, 15, 10, 18, 909428, UTC)),
        (values.moment, "2026-10-08T15:10:18+0000", datetime(2026, 10, 8, 15, 10, 18, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_what_is_told_is_told_exactly(reader: Callable[[Any], object], value: object, expected: object) -> None:
    assert reader(value) == expected


@pytest.mark.parametrize("value", ["abc", "1_0", "٣", "0x10", "1,000", True, [], {}, "1e", "--1", "1e18", "1e99999"])
def test_what_is_no_number_is_an_error_and_never_one(value: object) -> None:
    for reader in (values.number, values.positive, values.size, values.fee, values.count):
        with pytest.raises(ValueError, match=r"number|larger"):
            reader(value)


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_what_is_no_time_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.moment(value)
    with pytest.raises(ValueError, match=r"."):
        values.epoch_ms("1e17")


def test_a_field_that_must_be_there_is_never_nothing() -> None:
    assert values.needed({"p": "1.5"}, "p", values.positive) == Decimal("1.5")
    for raw in ({}, {"p": None}, {"p": "0"}, {"p": "NaN"}, {"p": -1}):
        with pytest.raises(ValueError, match="p is missing"):
            values.needed(raw, "p", values.positive)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans(), st.lists(st.integers())))
def test_every_reader_returns_its_kind_or_says_value_error(value: object) -> None:
    for reader in READERS:
        try:
            found = reader(value)
        except ValueError:
            continue
        if isinstance(found, Decimal):
            assert found.is_finite()
            assert abs(found) < Decimal("1e18")
