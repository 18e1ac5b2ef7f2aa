"""Every field of an order takes its own type and no other: in a bare message, in Python and at the command line alike.

A value of another type is refused with the field's name and the value. What it might have meant is nobody's guess:
`true` is no quantity of 1, `1_0` is not 10, and the year 1 is no time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rounds
from hypothesis import strategies as st
from sqlalchemy import select

from models.errors import InvalidOrder
from models.explaining import shown
from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake
from models.record.replaces import changed_terms
from models.record.tables import orders
from tests.unit.words import Run

#: The types that a field takes, of those that JSON has; null means "not given" everywhere.
TYPES: Mapping[str, tuple[type, ...]] = {
    "version": (int,),
    "client_order_id": (str,),
    "symbol": (str,),
    "side": (str,),
    "quantity": (str, int, float),
    "notional": (str, int, float),
    "order_type": (str,),
    "limit_price": (str, int, float),
    "stop_price": (str, int, float),
    "trail_amount": (str, int, float),
    "trail_percent": (str, int, float),
    "time_in_force": (str,),
    "extended_hours": (bool,),
    "route": (list,),
    "strategy": (str,),
    "tags": (list, dict),
    "created_at": (str,),
    "expires_at": (str,),
    "not_before": (str,),
    "session": (str,),
    "decision_price": (str, int, float),
    "group": (dict,),
    "legs": (list,),
    "asset_class": (str,),
    "currency": (str,),
    "preview": (str,),
    "good_till": (str,),
    "limit_offset": (str, int, float),
    "display_quantity": (str, int, float),
    "hidden": (bool,),
    "algo": (dict,),
    "account": (str,),
}
NUMBERS = [name for name, kinds in TYPES.items() if float in kinds]
_TYPES_OF_JSON = {
    bool: st.booleans(),
    int: st.integers(-(2**70), 2**70),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=300),
    list: st.lists(st.booleans() | st.integers() | st.none(), min_size=1, max_size=3),
    dict: st.dictionaries(st.text(max_size=5), st.integers() | st.none(), min_size=1, max_size=3),
}
BODY = {"client_order_id": "o-1", "symbol": "KO", "side": "buy", "quantity": "10"}


def wrong(name: str) -> st.SearchStrategy[Any]:
    """Return values of every type of JSON that is not the field's."""
    return st.one_of(*(values for kind, values in _TYPES_OF_JSON.items() if kind not in TYPES[name]))


def rows(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(orders)).mappings()]


def test_every_field_is_walked() -> None:
    assert set(TYPES) == set(OrderRequest.model_fields)


@pytest.mark.parametrize("name", TYPES)
@rounds(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_another_type_is_refused_with_the_fields_name_and_the_value(name: str, data: st.DataObject) -> None:
    value = data.draw(wrong(name))
    with pytest.raises(InvalidOrder) as said:
        OrderRequest(**BODY | {name: value})
    assert f"{name}: " in str(said.value) or f"{name}." in str(said.value)
    assert shown(value) in str(said.value)


@pytest.mark.parametrize("name", TYPES)
@rounds(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_message_with_another_type_is_denied_and_takes_no_id(
    name: str, data: st.DataObject, intake: Intake, database: Database
) -> None:
    value = json.loads(json.dumps(data.draw(wrong(name))))
    before = {row["client_order_id"] for row in rows(database)}
    assert intake.take([BODY | {name: value}], "ibkr") == {}
    found = rows(database)
    assert found
    for row in found:
        if row["client_order_id"] not in before:
            assert row["client_order_id"].startswith("invalid-")
            assert row["status"] == "denied"
            assert name in row["reason"]
            assert row["created_at"].year >= 2026


#: Texts and numbers of the right type that mean nothing, or to two readers two things.
NO_NUMBERS = [
    "1_0", "\u0661\u0660", "\uff11\uff10", "\u00a010", "1,000", "0x10", "10 000", "ten", "", "nan", "inf", "1e400",
    float("nan"), float("inf"), 1e21, 1e-12, -1, 0, b"10", Decimal("NaN"), 10**5000,
]  # fmt: skip
NO_TIMES = [
    "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z",
    "2026-01-05T14:30:00", "2026-01-05", "soon", "1767623400", "\uff12\uff10\uff12\uff16-01-05T14:30:00Z",
    datetime(1, 1, 1, tzinfo=UTC), datetime(1999, 12, 31, tzinfo=UTC), date(2026, 1, 5),
    datetime(2026, 1, 5, 14, 30),  # noqa: DTZ001
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 1767623400,
]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_plain_number_is_none(name: str, value: Any) -> None:
    with pytest.raises(InvalidOrder, match=f"{name}: must"):
        OrderRequest(**BODY | {name: value})


@pytest.mark.parametrize("value", NO_TIMES, ids=str)
@pytest.mark.parametrize("name", ["created_at", "expires_at"])
def test_no_order_has_a_time_that_is_no_time_of_this_age(
    name: str, value: Any, intake: Intake, database: Database
) -> None:
    with pytest.raises(InvalidOrder, match=f"{name}: must"):
        OrderRequest(**BODY | {name: value})
    intake.take([BODY | {name: value}], "ibkr")
    (row,) = rows(database)
    assert (row["status"], row["client_order_id"][:8]) == ("denied", "invalid-")
    assert 2026 <= row["created_at"].year < 2100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", True), ("version", 1.0), ("version", "1"), ("extended_hours", 1), ("extended_hours", "true"),
        ("extended_hours", 0), ("side", b"buy"), ("order_type", b"limit"), ("time_in_force", b"day"),
        ("time_in_force", "c\u017f"), ("client_order_id", b"o-1"), ("route", "ibkr"), ("route", {"ibkr"}),
        ("route", {"ibkr": 1}), ("route", [b"ibkr"]), ("tags", {"a"}), ("tags", [1]), ("tags", {"a": 1}),
        ("tags", {1: "a"}), ("strategy", 7),
    ],
)  # fmt: skip
def test_nothing_is_read_as_something_else(name: str, value: Any) -> None:
    with pytest.raises(InvalidOrder, match=name):
        OrderRequest(**BODY | {name: value})


def test_a_replace_is_as_strict() -> None:
    order = OrderRequest(**BODY | {"order_type": "limit", "limit_price": "10"})
    for name, value in (("quantity", True), ("quantity", "1_0"), ("limit_price", "\u0661"), ("time_in_force", b"gtc")):
        with pytest.raises(InvalidOrder, match=name):
            changed_terms(order, {name: value})


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (("1_0",), "quantity"), (("\u0661\u0660",), "quantity"), (("true",), "quantity"), (("0x1",), "quantity"),
        (("1", "--type", "limit", "--limit", "1_0"), "limit_price"),
        (("1", "--type", "stop", "--stop", "\uff11"), "stop_price"),
        (("1", "--tif", "c\u017f"), "time_in_force"),
    ],
)  # fmt: skip
def test_the_command_line_refuses_the_same_and_records_nothing(
    typed: tuple[str, ...], name: str, corro: Run, database: Database
) -> None:
    status, out, err = corro("submit", "KO", "buy", *typed)
    assert (status, out) == (2, "")
    assert name in err
    assert len(err.splitlines()) == 1
    assert rows(database) == []
