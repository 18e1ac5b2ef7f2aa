"""Write docs/questions.md and docs/questions.ipynb: `python tests/questions_page.py`; a test holds them true.

Each call is made on a small history (`tests/small_history.py`), and what it printed is what the pages show.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from models.record.database import Database, upgrade
from tests.small_history import write_small_history

DOCS = Path(__file__).parent.parent / "docs"
_HEAD = """# The analyst's questions, each with the call that answers it

The answers are those of a small desk's November: `tests/small_history.py` has its seven orders,
`tests/questions_page.py` has made this page and the notebook [questions.ipynb](questions.ipynb) of them, and a test
makes both again and compares. Columns: [history.md](history.md).
"""
_FIRST = """from models import history


def show(frame):
    print(frame.to_string(index=False))"""
QUESTIONS = {
    "Slippage of each fill, against decision, arrival and the interval's VWAP": """\
show(history.tca(since="2026-11-01")[["client_order_id", "price", "slippage_decision", "slippage_decision_bps",
                                      "slippage_arrival", "slippage_vwap", "slippage_vwap_bps"]])""",
    "Profit and loss by strategy and symbol this month": """\
show(history.pnl(by=["strategy", "symbol"], since="2026-11-01"))""",
    "Fill rate and latency by broker and hour in exchange time": """\
show(history.latency(since="2026-11-01", floats=True)
     .assign(hour=lambda f: f["created_at"].dt.tz_convert("America/New_York").dt.hour)
     .groupby(["broker", "hour"], as_index=False)
     .agg(orders=("broker", "size"), filled=("fill_ms", "count"), median_ms=("fill_ms", "median")))""",
    "All rejections, with the brokers' words": """\
show(history.attempts(outcome="refused")[["client_order_id", "broker", "code", "message"]])""",
    "Commissions by month and currency": """\
show(history.pnl(by="month", until="2026-12-01")[["month", "currency", "fees", "fees_missing"]])""",
    "What was held at 15:30 in New York last Tuesday": """\
show(history.positions(at="2026-11-24T20:30:00Z")
     [["broker", "strategy", "symbol", "quantity", "avg_price", "cost"]])""",
    "Last week for the tax adviser": """\
show(history.pnl(by=["day", "symbol"], since="2026-11-23", until="2026-11-28")
     [["day", "symbol", "currency", "realized", "fees", "fees_missing"]])""",
    "The equity curve": """\
show(history.equity(total=True)[["day", "equity", "peak", "drawdown", "drawdown_percent"]])""",
    "The worst drawdown": """\
show(history.equity(total=True, floats=True).nsmallest(1, "drawdown")[["day", "drawdown", "drawdown_percent"]])""",
}


def pages() -> dict[str, str]:
    """Return the text of each file, by its name."""
    answers = _answers()
    text = [_HEAD, f"\n```python\n{_FIRST}\n```\n"]
    cells = [_cell("markdown", _HEAD.strip()), _cell("code", _FIRST, "")]
    for (question, call), answer in zip(QUESTIONS.items(), answers, strict=True):
        text.append(f"\n## {question}\n\n```python\n{call}\n```\n\n```text\n{answer}```\n")
        cells += [_cell("markdown", f"## {question}"), _cell("code", call, answer)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
    return {"questions.md": "".join(text), "questions.ipynb": json.dumps(notebook, indent=1) + "\n"}


def _cell(kind: str, source: str, printed: str | None = None) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
    if printed is None:
        return cell
    told = {"name": "stdout", "output_type": "stream", "text": printed.splitlines(keepends=True)}
    return cell | {"execution_count": None, "outputs": [told] if printed else []}


def _answers() -> list[str]:
    """Make every call in turn, as a notebook does, and return what it printed."""
    with tempfile.TemporaryDirectory() as home:
        url = f"sqlite:///{home}/corro.db"
        database = Database(url)
        upgrade(database)
        write_small_history(database)
        database.close()
        before = os.environ.get("CORRO_DATABASE_URL")
        os.environ["CORRO_DATABASE_URL"] = url
        try:
            names: dict[str, Any] = {}
            exec(_FIRST, names)
            return [_printed(call, names) for call in QUESTIONS.values()]
        finally:
            del os.environ["CORRO_DATABASE_URL"]
            if before is not None:
                os.environ["CORRO_DATABASE_URL"] = before


def _printed(call: str, names: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(call, names)
    return "".join(line.rstrip() + "\n" for line in printed.getvalue().splitlines())


if __name__ == "__main__":
    for name, page in pages().items():
        (DOCS / name).write_text(page)
