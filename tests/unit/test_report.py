"""The page: it opens offline, tells the figures of the history, and shows nobody's words as anything but words."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import insert

from models.history import History
from models.history.figures import Figures
from models.record.database import Database
from models.record.tables import attempts
from tests.small_history import write_small_history
from tests.unit.trades import MadeTrade, TradeLedger, later
from tests.unit.words import NOW, Put, Run


class Links(HTMLParser):
    """What a page would load, or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "link", "img"):
            self.found.append(tag)
        self.found += [f"{name}={value}" for name, value in attrs if name.startswith("on")]
        self.found += [
            f"{name}={value}" for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_the_page_has_the_figures_and_loads_nothing(corro: Run, database: Database, put: Put, tmp_path: Path) -> None:
    ledger = TradeLedger(database)
    ledger.trade(MadeTrade(10, "10", fee="1.5"), MadeTrade(-10, "12.5", later(days=1), fee="1.5"))
    attempt = {"outcome": "refused", "code": "201", "message": "<script>alert('no')</script> & such"}
    put("o-9", status="rejected", strategy="<b>dip</b>", attempt=attempt)
    path = tmp_path / "report.html"
    code, _, _ = corro("report", "--since", "2026-01-01", "--out", str(path))
    assert code == 0
    text = path.read_text()
    links = Links()
    links.feed(text)
    assert links.found == []
    assert "&lt;script&gt;alert(&#x27;no&#x27;)&lt;/script&gt; &amp; such" in text
    assert text.count("<svg") == 2, "profit by day, and how long orders took"
    row = re.search(r"<tr><td>dip</td>(.*?)</tr>", text)
    assert row
    assert re.findall(r">([^<]*)</td>", row[1])[:3] == ["25.00", "", "3.00"], "realized, unrealized, fees"


def test_a_history_without_a_row_is_a_page_too(corro: Run, tmp_path: Path) -> None:
    code, _, _ = corro("report", "--out", str(tmp_path / "report.html"))
    assert code == 0
    assert "None." in (tmp_path / "report.html").read_text()
    code, _, said = corro("report", "--out", str(tmp_path / "report.pdf"))
    assert (code, ".html" in said) == (2, True)


def cells(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading."""
    table = text.split(f"<h2>{heading}", 1)[1].split("</table>", 1)[0]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr>")[2:]]


def test_every_figure_of_a_small_month_is_the_one_that_was_reckoned_by_hand(database: Database) -> None:
    write_small_history(database)
    text = History(database).report("2026-11-01")
    assert "Worst drawdown -650.00 (-0.65 %) on 2026-11-25, from 100,450.00." in text
    assert "In sum 100.98 USD after fees, with what is open; worst fall from a peak -10.02." in text
    assert cells(text, "Profit and loss by strategy") == [
        ["dip", "40.00", "72.00", "1.00", "0", "USD"], ["mom", "-10.00", "0.00", "0.02", "1", "USD"],
        ["dip", "0.00", "0.00", "1.50", "0", "CAD"],
    ]  # fmt: skip
    assert cells(text, "Orders by broker") == [["alpaca", "4", "3", "1", "0"], ["ibkr", "2", "2", "0", "0"]]
    assert cells(text, "From asked for") == [["alpaca", "3", "500", "700"], ["ibkr", "2", "550", "800"]]
    assert [(row[0], row[1], row[4]) for row in cells(text, "Slippage")] == [
        ("decision", "alpaca", "2.00"), ("decision", "ibkr", "2.00"), ("arrival", "alpaca", "0.20"),
        ("arrival", "ibkr", "0.40"), ("vwap", "alpaca", "1.00"),
    ]  # fmt: skip
    assert cells(text, "What did not get through") == [
        ["alpaca", "refused", "40310000", "1", "insufficient buying power"]
    ]


def test_an_order_that_a_second_broker_took_came_by_fallback(database: Database, put: Put) -> None:
    put("o-1", status="filled", attempt={"outcome": "accepted"})
    for id_, second in (("o-2", "alpaca"), ("o-3", "ibkr")):  # at another broker, and once more at the same
        put(id_, status="filled", attempt_no=2, broker=second, attempt={"broker": "ibkr", "outcome": "refused"})
        again = {"client_order_id": id_, "attempt_no": 2, "broker": second, "broker_client_order_id": f"{id_}~2"}
        rest = {"outcome": "accepted", "worker": "w", "started_at": NOW, "lease_until": NOW, "checks": 0, "missing": 0}
        with database.write() as connection:
            connection.execute(insert(attempts).values(**again, **rest))
    found = Figures(History(database), None, None).by_broker()
    assert {row["broker"]: (row["orders"], row["came by fallback"]) for row in found} == {
        "alpaca": (1, 1),
        "ibkr": (2, 0),
    }
