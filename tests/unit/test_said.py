"""A finding that every listing shows again is one line in the logs."""

from __future__ import annotations

from structlog.testing import capture_logs

from worker.runtime.said import LastingTrouble, Said


def test_what_every_listing_shows_again_is_one_line() -> None:
    said = Said("alpaca")
    with capture_logs() as lines:
        for _ in range(3):
            said.once("report_not_ours", client_order_id="k-1", why="side")
            said.once("report_not_ours", client_order_id="k-2", why="side")
    assert [line["client_order_id"] for line in lines] == ["k-1", "k-2"]


def test_what_was_forgotten_for_want_of_room_is_told_again() -> None:
    said = Said("alpaca", most=1)
    with capture_logs() as lines:
        for number in (1, 2, 1):
            said.once("row_unreadable", id=number)
    assert [line["id"] for line in lines] == [1, 2, 1]


def test_what_lasts_is_told_when_it_begins_when_its_words_change_and_when_it_comes_again() -> None:
    trouble = LastingTrouble(broker="alpaca")
    with capture_logs() as lines:
        for words in ("503", "503", "504", "504"):
            trouble.lasts("fills_unreadable", words)
        trouble.is_over()
        trouble.lasts("fills_unreadable", "504")
    assert [(line["broker"], line["error"]) for line in lines] == [("alpaca", w) for w in ("503", "504", "504")]
