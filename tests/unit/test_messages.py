"""The order object: whatever cannot be executed is refused at the call, with the field and the value."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.encoding import plain
from models.errors import CorroError, InvalidOrder
from models.explaining import shown
from models.messages import (
    DEFAULT_EXPIRY_S,
    MAX_BATCH,
    MAX_DECIMALS,
    MAX_DIGITS,
    FetchRequest,
    OrderRequest,
    batches,
    denied_id,
)
from models.vocabulary import OrderType, Side, TimeInForce

BASE: dict[str, Any] = {"symbol": "AAPL", "side": "buy", "quantity": 10}
LIMIT = {"order_type": "limit", "limit_price": "1"}
T = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
NAIVE = T.replace(tzinfo=None)


def order(**changes: Any) -> OrderRequest:
    return OrderRequest(**{**BASE, **changes})


# -- REFUSED AT THE CALL ---
#: what is given -> words that the message must hold: the field first, and the value where there is one
BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"side": "hold"}, ("side:", "'hold'")),
    ({"side": None}, ("side:", "required")),
    ({"side": 1}, ("side:", "1")),
    ({"order_type": "iceberg"}, ("order_type:", "'iceberg'")),
    ({"time_in_force": "gtx"}, ("time_in_force:", "'gtx'")),
    *(({"quantity": q}, ("quantity:", shown(q))) for q in (
        0, -1, "0", "-0.5", "0.0", "nan", "NaN", "sNaN", "inf", "-Infinity", float("nan"), float("inf"), "", " ", "ten",
        "1,000", "1.5.2", "0x10", True, [], {}, b"1", "1234567890123456", "0.1234567891", "123456789012345.1", "1e15",
        "1e-10", 1e-10, "1e400", "1e9999999", "1e-9999999", "1.0000000000000000000000000000000001",
        "1" + "0" * 40, "9" * 30, Decimal("0.0000000001"), Decimal("NaN"),
    )),
    ({"quantity": None}, ("quantity:", "required")),
    *(({**LIMIT, "limit_price": p}, ("limit_price:", shown(p))) for p in (
        0, "-1", "nan", "market", "1e9999999", "0.00000000001", "1.00000000000000000000000000000001")),
    ({"order_type": "limit"}, ("limit_price:", "needs one", "limit")),
    ({"order_type": "stop"}, ("stop_price:", "needs one", "stop")),
    ({"order_type": "stop_limit", "limit_price": 1}, ("stop_price:", "needs one")),
    ({"order_type": "stop_limit", "stop_price": 1}, ("limit_price:", "needs one")),
    ({"limit_price": 5}, ("limit_price:", "takes none", "5")),
    ({"stop_price": 5}, ("stop_price:", "takes none", "5")),
    ({**LIMIT, "stop_price": 7}, ("stop_price:", "takes none", "7")),
    ({"order_type": "trailing_stop"}, ("trail_amount:", "trail_percent")),
    ({"order_type": "trailing_stop", "trail_amount": 1, "trail_percent": 1}, ("trail_amount:", "trail_percent")),
    ({"order_type": "trailing_stop", "trail_amount": 1, "limit_price": 3}, ("limit_price:", "3")),
    ({"trail_amount": 1}, ("trail_amount:", "trailing_stop")),
    ({**LIMIT, "trail_percent": 1}, ("trail_percent:", "trailing_stop")),
    ({"created_at": NAIVE}, ("created_at:", "time zone")),
    ({"created_at": "2026-01-05T14:30:00"}, ("created_at:", "time zone", "2026-01-05T14:30:00")),
    ({"created_at": "yesterday"}, ("created_at:", "'yesterday'")),
    ({"created_at": 1767623400}, ("created_at:", "1767623400")),
    ({"created_at": "9999-12-31T23:59:59Z"}, ("created_at:", "9999")),
    ({"created_at": "0001-01-01T00:00:00+14:00"}, ("created_at:", "0001")),
    ({"expires_at": "0001-01-01T00:00:00+14:00"}, ("expires_at:", "0001")),
    ({"expires_at": NAIVE}, ("expires_at:", "time zone")),
    ({"created_at": T, "expires_at": T}, ("expires_at:", "after created_at", "2026-01-05")),
    ({"created_at": T, "expires_at": T - timedelta(days=1)}, ("expires_at:", "2026-01-04")),
    ({"price": 5}, ("price:", "no such field", "5")),
    ({"qty": 5}, ("qty:", "no such field", "5")),
    ({"version": 3}, ("version:", "3")),
    *(({"client_order_id": i}, ("client_order_id:", shown(i))) for i in (
        "", "a b", "a,b", "a'b", 'a"b', "a~2", "a\n", "é", "\u0661", "x" * 65, 7)),
    *(({"symbol": s}, ("symbol:", shown(s))) for s in (
        "", " ", "AA,PL", "A'L", "x" * 33, ".A", "A.", "A..B", "K O", "BRK/B", "BF-B", "$SPX", "^SPX",
        "A\nB", "A\x00", "Ä", "ß", "\u0131bm", 7, ["AAPL"])),
    ({"symbol": None}, ("symbol:", "required")),
    ({"route": []}, ("route:", "[]")),
    ({"route": ["ibkr", "ibkr"]}, ("route:", "each once", "ibkr")),
    ({"route": "ibkr"}, ("route:", "'ibkr'")),
    ({"route": [1]}, ("route", "1")),
    ({"extended_hours": "maybe"}, ("extended_hours:", "'maybe'")),
    ({"strategy": "x" * 129}, ("strategy:", "128")),
    ({"strategy": 5}, ("strategy:", "5")),
    ({"strategy": "\ud800"}, ("strategy:", "ud800")),
    ({"strategy": "a\x00b"}, ("strategy:", "x00")),  # PostgreSQL's text takes no NUL
    *(({"strategy": s}, ("strategy:", shown(s), "parentheses")) for s in (
        "(external)", " (baseline) ", "(External)", "()")),
    ({"tags": {"a": "1", " a": "2"}}, ("tags:", "each name once")),
    ({"tags": 5}, ("tags", "5")),
    ({"tags": {"a": 1}}, ("tags", "1")),
]  # fmt: skip


_WORDS = {"symbol": "AAPL", "side": "buy", "quantity": "5", "order_type": "market", "time_in_force": "day"}


@pytest.mark.parametrize("field", _WORDS)
@pytest.mark.parametrize("odd", ["{}\n", "\t{}", "{}\r", "{}\x00", "\x1b{}", "{}\x7f", "{}\x0b"])
def test_a_control_character_in_a_word_or_a_number_is_refused(field: str, odd: str) -> None:
    """A line break at the end is part of something else, and no log, table or broker shall show it."""
    with pytest.raises(InvalidOrder, match=f"{field}: "):
        OrderRequest(**{**_WORDS, field: odd.format(_WORDS[field])})


@pytest.mark.parametrize("field", _WORDS)
def test_blanks_around_a_word_or_a_number_are_not_recorded(field: str) -> None:
    made = OrderRequest(**{**_WORDS, "client_order_id": "o-1", field: f"  {_WORDS[field]} "})
    assert made.to_wire() | {"created_at": 0, "expires_at": 0} == OrderRequest(
        **_WORDS, client_order_id="o-1"
    ).to_wire() | {"created_at": 0, "expires_at": 0}


def test_blanks_around_a_label_are_not_recorded() -> None:
    assert order(strategy="  a b ").strategy == "a b"
    assert order(tags=[" a ", "b"]).tags == ["a", "b"]
    assert order(tags={" a": "b "}).tags == {"a": "b"}


@pytest.mark.parametrize(("given", "words"), BAD, ids=[f"{i}-{next(reversed(g))}" for i, (g, _) in enumerate(BAD)])
def test_a_bad_order_is_refused_with_field_and_value(given: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidOrder) as caught:
        order(**given)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert "pydantic" not in message


def test_the_refusal_is_a_value_error_of_ours() -> None:
    with pytest.raises(InvalidOrder) as caught:
        order(side="hold")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CorroError)


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidOrder, match=r"side: .*'hold'; quantity: .*-1"):
        order(side="hold", quantity=-1)


@given(st.dictionaries(st.sampled_from([*OrderRequest.model_fields, "price"]), st.none() | st.booleans() | st.integers()
       | st.floats() | st.text() | st.datetimes() | st.lists(st.text(max_size=3), max_size=2)
       | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=1)))  # fmt: skip
@example({"quantity": "1e99999999999999999999"})
@example({"created_at": datetime.max.replace(tzinfo=UTC)})
@example({"created_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))})
@example({"quantity": 10**5000})
@settings(max_examples=150, deadline=None)
def test_whatever_is_given_is_an_order_or_an_invalid_order(given: dict[str, Any]) -> None:
    try:
        made = order(**given)
    except InvalidOrder:
        return
    assert made.quantity > 0
    json.dumps(made.to_wire())


# -- NUMBERS ---
@st.composite
def numbers(draw: st.DrawFn) -> Decimal:
    """Every number a message may carry: up to 15 digits, up to 9 of them decimals."""
    digits = draw(st.integers(1, 10**MAX_DIGITS - 1))
    return Decimal(digits).scaleb(-draw(st.integers(0, MAX_DECIMALS)))


@given(numbers())
@settings(max_examples=150, deadline=None)
def test_a_number_keeps_every_digit_on_its_way(number: Decimal) -> None:
    for written in (number, str(number), f"{number:f}", f" {number:E} "):
        made = order(**LIMIT | {"limit_price": written, "quantity": written})
        assert made.quantity == number
        assert Decimal(made.to_wire()["quantity"]) == number
        assert OrderRequest(**made.to_wire()).limit_price == number
    assert "e" not in order(quantity=number).to_wire()["quantity"].lower()


@given(st.integers(1, 10**MAX_DIGITS - 1), st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_a_float_means_its_shortest_text(digits: int, decimals: int) -> None:
    number = Decimal(digits).scaleb(-decimals)
    assert order(quantity=float(number)).quantity == number


@pytest.mark.parametrize("text", ["-0", "0", "0.00", "-0E+5"])
def test_nothing_has_no_sign(text: str) -> None:
    assert plain(Decimal(text)) == "0"


def test_a_tenth_stays_a_tenth() -> None:
    assert order(quantity=0.1).quantity == Decimal("0.1")
    assert order(quantity=0.1 + 0.2 - 0.2 + 7).to_wire()["quantity"] == "7.1"


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0))
@settings(max_examples=150, deadline=None)
def test_what_is_accepted_is_carried_exactly(number: Decimal) -> None:
    """No number slips in that the wire, or the database's 15 digits, would change."""
    try:
        made = order(quantity=number)
    except InvalidOrder:
        return
    assert Decimal(made.to_wire()["quantity"]) == number
    assert made.quantity == number
    assert len(number.as_tuple().digits) <= MAX_DIGITS or len(str(number).strip("0")) <= MAX_DIGITS + 1


# -- THE WIRE ---
LABELS = (
    st.text(st.characters(exclude_characters="\0(", exclude_categories=["Cs"]), max_size=12)
    .filter(str.isprintable)
    .map(str.strip)
)


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(OrderType))
    trail = draw(st.sampled_from(["trail_amount", "trail_percent"]))
    prices = {
        OrderType.MARKET: (), OrderType.LIMIT: ("limit_price",), OrderType.STOP: ("stop_price",),
        OrderType.STOP_LIMIT: ("limit_price", "stop_price"),
        OrderType.TRAILING_STOP: (trail,), OrderType.TRAIL_LIMIT: (trail, "limit_offset"),
        OrderType.IF_TOUCHED: ("stop_price",), OrderType.LIMIT_IF_TOUCHED: ("limit_price", "stop_price"),
    }[kind]  # fmt: skip
    created = draw(st.datetimes(NAIVE, NAIVE + timedelta(days=30_000), timezones=st.just(UTC)))
    optional = {
        "route": st.lists(st.sampled_from(["ibkr", "alpaca", "tda"]), min_size=1, unique=True),
        "strategy": LABELS,
        "tags": st.lists(LABELS, max_size=2) | st.dictionaries(LABELS, LABELS, max_size=2),
        "expires_at": st.timedeltas(timedelta(microseconds=1), timedelta(days=9)).map(lambda wait: created + wait),
        "extended_hours": st.booleans(),
        "time_in_force": st.sampled_from([one for one in TimeInForce if one is not TimeInForce.GTD]),
    }
    return {
        "symbol": draw(st.sampled_from(["AAPL", "brk.b", " SPY ", "BF.B"])),
        "side": draw(st.sampled_from(Side)),
        "quantity": draw(numbers()),
        "order_type": kind,
        "created_at": created,
        **{name: draw(numbers()) for name in prices},
        **{name: draw(what) for name, what in optional.items() if draw(st.booleans())},
    }


@given(orders())
@settings(max_examples=120, deadline=None)
def test_an_order_comes_out_of_the_queue_as_it_went_in(terms: dict[str, Any]) -> None:
    made = OrderRequest(**terms)
    back = OrderRequest(**json.loads(json.dumps(made.to_wire())))
    assert back == made
    assert back.body_hash == made.body_hash
    assert back.to_wire() == made.to_wire()


def test_the_wire_has_the_fields_of_the_contract() -> None:
    wire = order(quantity="10.50", created_at=T, client_order_id="o-1").to_wire()
    assert wire == {
        "version": 1, "client_order_id": "o-1", "symbol": "AAPL", "side": "buy", "quantity": "10.5",
        "order_type": "market", "limit_price": None, "stop_price": None, "trail_amount": None, "trail_percent": None,
        "time_in_force": "day", "extended_hours": False, "route": None, "strategy": None, "tags": [],
        "created_at": "2026-01-05T14:30:00Z", "expires_at": "2026-01-05T14:31:00Z",
    }  # fmt: skip


def test_times_travel_as_utc_whatever_zone_they_came_in() -> None:
    new_york = datetime(2026, 1, 5, 9, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert order(created_at=new_york).to_wire()["created_at"] == "2026-01-05T14:30:00Z"


def test_null_means_not_given() -> None:
    nothing = dict.fromkeys(("limit_price", "tags", "route", "time_in_force", "order_type", "created_at", "expires_at"))
    made = order(**nothing)
    assert (made.tags, made.time_in_force, made.order_type) == ([], "day", "market")
    assert made.expires_at == made.created_at + timedelta(seconds=DEFAULT_EXPIRY_S)


def test_words_are_read_whatever_their_case() -> None:
    assert order(side=" BUY ", order_type="Market", time_in_force="GTC", symbol=" aapl ").symbol == "AAPL"


def test_every_order_has_an_id_of_its_own() -> None:
    assert order().client_order_id != order().client_order_id


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        order().quantity = Decimal(1000)  # type: ignore[misc]


# -- THE BODY ---
def test_the_body_leaves_out_times_route_and_id() -> None:
    one = order(client_order_id="a", created_at=T, route=["ibkr"])
    other = order(client_order_id="b", created_at=T + timedelta(days=1), expires_at=T + timedelta(days=9))
    assert one.body_hash == other.body_hash


def test_the_body_does_not_depend_on_how_a_number_is_written() -> None:
    assert order(quantity="10.00").body_hash == order(quantity=10).body_hash == order(quantity=1e1).body_hash


@pytest.mark.parametrize("change", [
    {"symbol": "MSFT"}, {"side": "sell"}, {"quantity": 11}, LIMIT, {**LIMIT, "limit_price": 2},
    {"order_type": "stop", "stop_price": 1}, {"order_type": "trailing_stop", "trail_amount": 1},
    {"order_type": "trailing_stop", "trail_percent": 1}, {"time_in_force": "gtc"}, {"extended_hours": True},
    {"strategy": "mean-reversion"}, {"tags": ["x"]}, {"session": "regular"}, {"not_before": "2026-01-05T14:30:00Z"},
])  # fmt: skip
def test_the_body_has_every_term(change: dict[str, Any]) -> None:
    assert order(**change).body_hash != order().body_hash


def test_no_field_is_neither_body_nor_left_out_on_purpose() -> None:
    """A new field has to be put into the body's digest, or into this list."""
    outside = {"version", "client_order_id", "route", "created_at", "expires_at", "decision_price"}
    from models.messages import _BODY, SECOND

    assert {*_BODY, "tags", *SECOND} | outside == set(OrderRequest.model_fields)


# -- THE REST ---
def test_an_unreadable_order_has_a_stable_id() -> None:
    assert denied_id({"a": 1, "b": 2}) == denied_id({"b": 2, "a": 1})
    assert denied_id({"a": 1}) != denied_id({"a": 2})
    assert len(denied_id({"a": 1})) <= 64


@pytest.mark.parametrize("count", [0, 1, MAX_BATCH, MAX_BATCH + 1, 250])
def test_batches_hold_everything_once_in_order(count: int) -> None:
    cut = batches(range(count))
    assert [item for batch in cut for item in batch] == list(range(count))
    assert all(1 <= len(batch) <= MAX_BATCH for batch in cut)


def test_a_data_request_travels_as_the_tasks_arguments() -> None:
    fetch = FetchRequest(kind="quote", fetch_id="f-1", request={"symbol": "SPY"})
    assert fetch.to_wire() == {"fetch_id": "f-1", "symbol": "SPY"}


# -- WHAT PEOPLE AND SHELLS READ ---
@pytest.mark.parametrize(
    "id_", ["$(touch${IFS}x)", "--json", "-x", "[/red]boom", "a|b", "a>b", "a&b", "*", ".hidden", "\u202e"]
)
def test_an_id_is_no_shell_and_no_option(id_: str) -> None:
    with pytest.raises(InvalidOrder, match="client_order_id"):
        order(client_order_id=id_)


@pytest.mark.parametrize("id_", ["a", "7", "A.b_c:d+e/f=g@h#i-j", "x" * 64])
def test_an_id_of_letters_digits_and_a_few_signs_is_taken(id_: str) -> None:
    assert order(client_order_id=id_).client_order_id == id_


@pytest.mark.parametrize("text", ["\0", "a\x1b[2J", "\x07", "\u202e", "a\nb", "\u2028", "\ud800", "x" * 129])
def test_a_label_holds_nothing_that_steers_a_terminal_or_a_reader(text: str) -> None:
    for terms in ({"strategy": text}, {"tags": [text]}, {"tags": {text: "a"}}, {"tags": {"a": text}}):
        with pytest.raises(InvalidOrder, match=next(iter(terms))):
            order(**terms)


def test_twenty_labels_of_128_characters_are_taken_and_no_more() -> None:
    order(tags=[f"{n:0128}" for n in range(20)])
    with pytest.raises(InvalidOrder, match="at most 20"):
        order(tags=list(map(str, range(21))))
