"""Paths that no file can have, and names of keys' bounds that nothing can have."""

from __future__ import annotations

import pytest

from tests.unit.words import Run

NO_FILE = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["logs", "o-1", "--in", NO_FILE], ["import", "flex", NO_FILE], ["db", "copy", NO_FILE, f"sqlite:///{NO_FILE}"],
        ["keys", "add", "k-1", "--make-file", NO_FILE], ["archive", "--before", "1d", "--to", NO_FILE],
        ["report", "--out", f"{NO_FILE}.html"], ["export", "orders", "--out", f"{NO_FILE}.csv"],
        ["keys", "add", "k-1", "--alg", "token", "--symbols", "\x1b[31m"],
        ["keys", "add", "k-1", "--alg", "token", "--strategies", "\u202edip"],
    ],
    ids=lambda words: " ".join(words)[:20],
)  # fmt: skip
def test_a_path_or_a_name_that_none_can_be_is_told_in_one_line_without_a_traceback(
    corro: Run, arguments: list[str]
) -> None:
    status, out, err = corro(*arguments)
    assert (status in (1, 2), out) == (True, "")
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("corro: ")]) == 1
