"""Frames of TWS that are read before the SDK: bars one by one, and codes after which ticks still come."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import DataError
from worker.brokers.ibkr.frames import Frames, RawBar, raw_bars
from worker.brokers.ibkr.prices import read_bars
from worker.brokers.ibkr.times import Zones

SENTINELS = ["", "-1", "0", "NaN", "inf", "1.7976931348623157E308", "2147483647", "9223372036854775807"]
GOOD = ["1775931120", "10.5", "11", "10", "10.75", "1200", "10.6", "33"]


def frame(*rows: list[str]) -> list[str]:
    return [
        "17",
        "5",
        "20260411 09:30:00",
        "20260411 16:00:00",
        str(len(rows)),
        *(field for row in rows for field in row),
    ]


class HeardSdk:
    """As much of an SDK's client and wrapper as stands behind a frame."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.ended: dict[int, Any] = {}
        self.rows: list[Any] = []
        self.client = SimpleNamespace(
            decoder=SimpleNamespace(
                handlers={
                    4: self.heard.append,
                    11: self.heard.append,
                    17: None,
                    59: self.heard.append,
                    61: self.heard.append,
                }
            )
        )
        self.wrapper = SimpleNamespace(reqId2Ticker={7: object()}, _results={5: self.rows}, _endReq=self.end)
        self.frames = Frames(self.client, self.wrapper, Zones(UTC))

    def end(self, number: int, result: Any = None, success: bool = True) -> None:
        self.ended[number] = result if not success else "done"

    def take(self, fields: list[str]) -> None:
        self.client.decoder.handlers[int(fields[0])](fields)


# -- BARS ---
@pytest.mark.parametrize("place", [1, 2, 3, 4], ids=["open", "high", "low", "close"])
@pytest.mark.parametrize("sentinel", [*SENTINELS, "abc", "1_0", "1e19"])
def test_a_bar_without_a_price_is_none_and_the_others_stay(sentinel: str, place: int) -> None:
    spoiled = ["1775931180", *GOOD[1:]]
    spoiled[place] = sentinel
    found, undated = read_bars(list(raw_bars(frame(GOOD, spoiled))), "1Min")
    assert undated == []
    assert found[datetime(2026, 4, 11, 18, 13, tzinfo=UTC)] is None
    good = next(iter(found.values()))
    assert good is not None
    assert (good.open, good.high, good.low, good.close, good.volume) == tuple(map(Decimal, GOOD[1:6]))
    assert good.start == datetime(2026, 4, 11, 18, 12, tzinfo=UTC)


@pytest.mark.parametrize("place", [5, 6, 7], ids=["volume", "wap", "count"])
@pytest.mark.parametrize("sentinel", [*SENTINELS, "abc"])
def test_a_bar_with_its_prices_is_kept_whatever_else_is_missing(sentinel: str, place: int) -> None:
    row = list(GOOD)
    row[place] = sentinel
    (found,) = read_bars(list(raw_bars(frame(row))), "1Min")[0].values()
    if (place, sentinel) == (5, "abc"):
        assert found is None
        return
    assert found is not None
    assert found.volume == (0 if place == 5 else 1200)


@pytest.mark.parametrize("text", [*SENTINELS, "20261341", "tomorrow", "1775931120000000"])
def test_a_bar_without_its_time_is_left_out_and_the_others_stay(text: str) -> None:
    spoiled = RawBar(text, *GOOD[1:6])
    found, undated = read_bars([spoiled, RawBar("20260413", *GOOD[1:6])], "1Day")
    assert (undated, len(found)) == ([spoiled], 1)
    assert None not in found.values()


@pytest.mark.parametrize("fields", [frame(GOOD)[:-1], [*frame(GOOD), "1"], ["17", "5", "", "", "2", *GOOD]])
def test_an_answer_of_another_length_fails_at_once(fields: list[str]) -> None:
    sdk = HeardSdk()
    sdk.take(fields)
    assert isinstance(sdk.ended[5], DataError)
    assert sdk.rows == []


def test_bars_go_to_the_request_that_asked_for_them() -> None:
    sdk = HeardSdk()
    sdk.take(frame(GOOD))
    assert (sdk.rows, sdk.ended) == ([RawBar(*GOOD[:6])], {5: "done"})
    sdk.take(["17", "6", "", "", "0"])  # nobody asks any more
    assert sdk.ended == {5: "done", 6: "done"}


# -- CODES ---
@pytest.mark.parametrize("code", ["10090", "10091", "10167"])
def test_a_code_after_which_ticks_come_does_not_end_their_request(code: str) -> None:
    sdk = HeardSdk()
    sdk.take(["4", "2", "7", code, "Part of requested market data is not subscribed.", ""])
    assert sdk.heard == []
    assert sdk.frames.notice(7) == f"{code} Part of requested market data is not subscribed."
    assert sdk.frames.notice(7) is None
    sdk.take(["4", "2", "8", code, "of no ticks", ""])
    sdk.take(["4", "2", "7", "354", "Requested market data is not subscribed.", ""])
    assert [fields[3] for fields in sdk.heard] == [code, "354"]


def test_farms_for_definitions_are_broken_until_they_are_well() -> None:
    sdk = HeardSdk()
    for code, farm in (("2157", "secdefnj"), ("2157", "secdefeu"), ("2158", "secdefnj"), ("2103", "usfarm")):
        sdk.take(["4", "2", "-1", code, f"Sec-def data farm connection is broken:{farm}", ""])
    assert sdk.frames.broken == {"secdefeu"}
    assert len(sdk.heard) == 4


# -- EXECUTIONS ---
def an_execution(time: str, exec_id: str = "0000e0d5.69dd7411.01.01") -> list[str]:
    return ["11", "-1", *[""] * 12, exec_id, time, "DU1"]


def test_the_sdk_is_given_seconds_and_needs_no_zone() -> None:
    sdk = HeardSdk()
    sdk.take(an_execution("20260413 15:27:04 US/Eastern"))
    (fields,) = sdk.heard
    assert fields[15] == str(int(datetime(2026, 4, 13, 19, 27, 4, tzinfo=UTC).timestamp()))
    assert (fields[14], fields[16]) == ("0000e0d5.69dd7411.01.01", "DU1")
    assert sdk.frames.is_timed("0000e0d5.69dd7411.01.01")


def test_an_execution_whose_time_nobody_can_know_has_the_time_it_was_first_heard_of() -> None:
    sdk = HeardSdk()
    before = int(datetime.now(UTC).timestamp())
    sdk.take(an_execution("20260129 10:18:12 IST"))
    sdk.frames._heard["0000e0d5.69dd7411.01.01"] = datetime(2026, 1, 29, 12, tzinfo=UTC)
    sdk.take(an_execution("20260129 10:18:12 IST"))
    first, again = (int(fields[15]) for fields in sdk.heard)
    assert before <= first <= datetime.now(UTC).timestamp()
    assert again == datetime(2026, 1, 29, 12, tzinfo=UTC).timestamp()
    assert not sdk.frames.is_timed("0000e0d5.69dd7411.01.01")


def test_an_execution_that_is_cut_short_is_left_to_the_sdk() -> None:
    sdk = HeardSdk()
    sdk.take(["11", "-1", "7"])
    assert sdk.heard == [["11", "-1", "7"]]


@pytest.mark.parametrize(
    ("fields", "place"),
    [(["59", "1", "x.01", "", "USD"], 3), (["61", *["1"] * 13, "", "2"], 14), (["11", *["1"] * 18, "", "2"], 19)],
)
def test_an_empty_amount_is_not_zero(fields: list[str], place: int) -> None:
    sdk = HeardSdk()
    sdk.take(fields)
    assert sdk.heard[0][place] == "1.7976931348623157E308"
    sdk.take([*fields[:place], "0", *fields[place + 1 :]])
    assert sdk.heard[1][place] == "0"
