"""One page about some days: what was earned, where orders went, how long they took, what brokers refused.

The page is one file that needs no network: its pictures are SVG inside it, drawn by matplotlib (the extra `report`).
Every text in it is escaped, and cleaned as everything that people see.
"""

from __future__ import annotations

import html
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

from models.clock import utcnow
from models.encoding import to_json
from models.errors import ConfigurationError
from models.extras import install
from models.history.curves import worst
from models.history.views import v_attempts, v_latency, v_orders, v_tca
from models.outward import outward

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from models.history.past import History, Row, When

_ZERO = Decimal(0)
#: Rows of a table in the page; the largest first.
_MOST_ROWS = 30
_MONEY = ("realized", "unrealized", "fees", "fees_missing", "currency")
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>corro: {title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;margin:.5rem 0 1.5rem}}td,th{{padding:.15rem .7rem;border-bottom:1px solid #ddd;
text-align:left;font-variant-numeric:tabular-nums}}th{{font-weight:600}}.n{{text-align:right}}svg{{max-width:100%;
height:auto}}h2{{margin-top:2rem;font-size:1.2rem}}p{{color:#555}}</style></head><body>
"""


def page(history: History, since: When | None, until: When | None, method: str | None) -> str:
    """Return the page as HTML: see `models.history.report`."""
    title = f"{_day(since) or 'the beginning'} to {_day(until) or 'now'}"
    made = f"{utcnow():%Y-%m-%d %H:%M} UTC"
    how = f"Made {made}. Lots are closed by {history.lots(method)}, days are New York's."
    head = f"<h1>corro: {_text(title)}</h1><p>{how}</p>"
    sections = [
        *_equity(history, since, until),
        *_earned(history, since, until, method),
        *_executed(history, since, until),
    ]
    return "".join([_HEAD.format(title=_text(title)), head, *sections, "</body></html>\n"])


def _equity(history: History, since: When | None, until: When | None) -> Iterator[str]:
    rows = history.equity(since=since, until=until, total=True)
    yield "<h2>Equity, all accounts together</h2>"
    if not rows:
        yield "<p>No account was read in these days.</p>"
    for currency in sorted({row["currency"] for row in rows}):
        yield _equity_curve([row for row in rows if row["currency"] == currency], currency)


def _equity_curve(rows: Sequence[Row], currency: str) -> str:
    def draw(axes: Axes) -> None:
        days = [row["day"] for row in rows]
        axes.plot(days, [float(row["equity"]) for row in rows], color="#345", marker="." if len(rows) == 1 else None)
        axes.fill_between(days, [float(row["equity"]) for row in rows], [float(row["peak"]) for row in rows],
                          color="#c43", alpha=0.2, label="below the peak")  # fmt: skip
        axes.set_ylabel(currency)
        axes.legend(frameon=False)

    end, low = rows[-1], worst(rows)
    fell = "It never fell below a peak."
    if low is not None:
        percent = "" if low["drawdown_percent"] is None else f" ({low['drawdown_percent']:,.2f} %)"
        fell = f"Worst drawdown {low['drawdown']:,.2f}{percent} on {low['day']}, from {low['peak']:,.2f}."
    words = f"{end['equity']:,.2f} {_text(currency)} on {end['day']}; {fell} Deposits and withdrawals are in it."
    return f"{_picture(draw)}<p>{words}</p>"


def _earned(history: History, since: When | None, until: When | None, method: str | None) -> Iterator[str]:
    days = history.pnl("day", since=since, until=until, method=method)
    yield "<h2>Profit and loss by day</h2>"
    for currency in sorted({row["currency"] for row in days}):
        yield _curve([row for row in days if row["currency"] == currency], currency)
    for by in ("strategy", "symbol", "broker"):
        rows = history.pnl(by, since=since, until=until, method=method)
        rows.sort(key=lambda row: abs(row["realized"] or _ZERO) + abs(row["unrealized"] or _ZERO), reverse=True)
        yield f"<h2>Profit and loss by {by}</h2>" + _table(rows, (by, *_MONEY))


def _executed(history: History, since: When | None, until: When | None) -> Iterator[str]:
    orders = history.rows(v_orders, since=since, until=until)
    by_broker = [
        {
            "broker": broker, "orders": len(rows), "filled": sum(row["status"] == "filled" for row in rows),
            "rejected or denied": sum(row["status"] in ("rejected", "denied") for row in rows),
            "came by fallback": sum(bool(row["fell_back"]) for row in rows),
        }
        for broker in sorted({row["broker"] or "" for row in orders})
        if (rows := [row for row in orders if (row["broker"] or "") == broker])
    ]  # fmt: skip
    yield "<h2>Orders by broker</h2>" + _table(by_broker, list(by_broker[0]) if by_broker else [])
    yield "<h2>From asked for to filled</h2>" + _latency(history.rows(v_latency, since=since, until=until))
    yield "<h2>Slippage</h2>" + _slippage(history.rows(v_tca, since=since, until=until))
    refused = Counter(
        (row["broker"], row["outcome"], row["code"] or "", row["message"] or "")
        for row in history.rows(v_attempts, since=since, until=until, outcome=["refused", "not_sent", "unknown"])
    )
    words = [
        {"broker": b, "outcome": outcome, "code": code, "times": times, "words": said}
        for (b, outcome, code, said), times in refused.most_common(_MOST_ROWS)
    ]
    yield "<h2>What did not get through, in the brokers' words</h2>"
    yield _table(words, ("broker", "outcome", "code", "times", "words"))


def _latency(rows: Sequence[Row]) -> str:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["fill_ms"] is not None:
            found.setdefault(row["broker"], []).append(float(row["fill_ms"]))
    if not found:
        return "<p>Nothing was filled.</p>"

    def draw(axes: Axes) -> None:
        axes.hist(list(found.values()), bins=30, label=list(found), stacked=True)
        axes.set_xlabel("ms")
        axes.legend(frameon=False)

    told = [
        {"broker": broker, "fills": len(ms), "median ms": round(median(ms)), "most ms": round(max(ms))}
        for broker, ms in found.items()
    ]
    return _picture(draw) + _table(told, list(told[0]))


def _slippage(rows: Sequence[Row]) -> str:
    told = []
    for against in ("decision", "arrival"):
        for broker in sorted({row["broker"] for row in rows}):
            some = [r for r in rows if r["broker"] == broker and r[f"slippage_{against}"] is not None]
            if some:
                cost = sum((r[f"slippage_{against}"] for r in some), _ZERO)
                bps = float(median(r[f"slippage_{against}_bps"] for r in some))
                same = {"against": against, "broker": broker, "executions": len(some)}
                told.append(same | {"cost": cost, "median bps": bps})
    return _table(told, list(told[0])) if told else "<p>No order named a decision price.</p>"


# -- DRAWING ---
def _curve(rows: Sequence[Row], currency: str) -> str:
    days = [row["day"] for row in rows]
    earned = [float((row["realized"] or 0) + (row["unrealized"] or 0) - (row["fees"] or 0)) for row in rows]
    total = [sum(earned[: place + 1]) for place in range(len(earned))]

    def draw(axes: Axes) -> None:
        axes.bar(days, earned, color=["#2a7" if value >= 0 else "#c43" for value in earned])
        axes.plot(days, total, color="#345", label="in sum")
        axes.set_ylabel(currency)
        axes.legend(frameon=False)

    worst = min((value - max(total[: place + 1]) for place, value in enumerate(total)), default=0.0)
    words = f"In sum {total[-1]:,.2f} {_text(currency)} after fees; worst fall from a peak {worst:,.2f}."
    return f"{_picture(draw)}<p>{words}</p>"


def _picture(draw: Callable[[Axes], None]) -> str:
    """Draw one picture as SVG.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError(f"the report needs matplotlib: {install('report')}") from None
    figure = Figure(figsize=(9, 3), layout="constrained")
    draw(figure.subplots())
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in columns)
    lines = ["<tr>" + "".join(_cell(row.get(name)) for name in columns) + "</tr>" for row in rows[:_MOST_ROWS]]
    left = f"<p>{len(rows) - _MOST_ROWS} more.</p>" if len(rows) > _MOST_ROWS else ""
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>{left}"


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        value = round(value, 2)
    kind = ' class="n"' if isinstance(value, (Decimal, int, float)) else ""
    return f"<td{kind}>{_text('' if value is None else str(to_json(value)))}</td>"


def _text(text: str) -> str:
    return html.escape(outward(text))


def _day(when: When | None) -> str:
    return "" if when is None else str(when)[:10]
