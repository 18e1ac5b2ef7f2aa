"""One page about some days: what was earned, where orders went, how long they took, what brokers refused.

The page is one file that needs no network: its pictures are SVG inside it, drawn by matplotlib (the extra `report`).
Every text in it is escaped, and cleaned as everything that people see.
"""

from __future__ import annotations

import html
import io
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

from models.clock import utcnow
from models.encoding import to_json
from models.errors import ConfigurationError
from models.extras import install
from models.history.curves import worst
from models.history.figures import Figures
from models.outward import outward

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from models.history.past import History, Row, When

_ZERO = Decimal(0)
#: Rows of a table in the page; the largest first.
_MOST_ROWS = 30
#: What profit is shown by, and the columns that tell it.
_GROUPS = {"strategy": ["strategy"], "symbol": ["symbol"], "broker": ["broker"], "account": ["broker", "account"]}
_MONEY = ("realized", "unrealized", "fees", "fees_missing", "currency")
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>corro: {title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;margin:.5rem 0 1.5rem}}td,th{{padding:.15rem .7rem;border-bottom:1px solid #ddd;
text-align:left;font-variant-numeric:tabular-nums}}th{{font-weight:600}}.n{{text-align:right}}.wide{{overflow-x:auto}}
svg{{max-width:100%;height:auto}}h2{{margin-top:2rem;font-size:1.2rem}}p{{color:#555}}</style></head><body>
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
        *_executed(Figures(history, since, until)),
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
        axes.legend(frameon=False, loc="upper left")

    end, low = rows[-1], worst(rows)
    fell = "It never fell below a peak."
    if low is not None:
        percent = "" if low["drawdown_percent"] is None else f" ({low['drawdown_percent']:,.2f} %)"
        fell = f"Worst drawdown {low['drawdown']:,.2f}{percent} on {low['day']}, from {low['peak']:,.2f}."
    words = f"{end['equity']:,.2f} {_text(currency)} on {end['day']}; {fell} Deposits and withdrawals are in it."
    return f"{_picture(draw)}<p>{words}</p>"


def _earned(history: History, since: When | None, until: When | None, method: str | None) -> Iterator[str]:
    days, *groups = history.pnl_by(["day", *_GROUPS.values()], since=since, until=until, method=method)
    yield "<h2>Profit and loss by day</h2>"
    if not days:
        yield "<p>Nothing was traded.</p>"
    for currency in sorted({row["currency"] for row in days}):
        yield _curve([row for row in days if row["currency"] == currency], currency)
    for (name, by), rows in zip(_GROUPS.items(), groups, strict=True):
        rows.sort(key=lambda row: abs(row["realized"] or _ZERO) + abs(row["unrealized"] or _ZERO), reverse=True)
        if name != "account" or any(row["account"] for row in rows):
            yield f"<h2>Profit and loss by {name}</h2>" + _table(rows, (*by, *_MONEY))


def _executed(figures: Figures) -> Iterator[str]:
    if away := figures.archived():
        yield f"<p>What follows is of the record alone: {away:,} orders of these days are archived.</p>"
    orders = figures.by_broker()
    has_accounts = any(row["account"] for row in orders)
    names = [name for name in orders[0] if name != "account" or has_accounts] if orders else []
    yield "<h2>Orders by broker</h2>" + _table(orders, names)
    yield "<h2>From asked for to filled</h2>" + _latency(figures.latency())
    slipped = figures.slippage()
    yield "<h2>Slippage: what executions cost</h2>"
    yield _table(slipped, list(slipped[0])) if slipped else "<p>No order named a decision price.</p>"
    refused, every = figures.refused(_MOST_ROWS)
    yield "<h2>What did not get through, in the brokers' words</h2>"
    yield _table(refused, ("broker", "outcome", "code", "times", "words"), every)


def _latency(found: Mapping[str, array[float]]) -> str:
    if not found:
        return "<p>Nothing was filled.</p>"

    def draw(axes: Axes) -> None:
        axes.hist([list(ms) for ms in found.values()], bins=30, label=list(found), stacked=True)
        axes.set_xlabel("ms")
        axes.legend(frameon=False, loc="upper right")

    told = [
        {"broker": broker, "orders": len(ms), "median ms": round(median(ms)), "most ms": round(max(ms))}
        for broker, ms in found.items()
    ]
    return _picture(draw) + _table(told, list(told[0]))


# -- DRAWING ---
def _curve(rows: Sequence[Row], currency: str) -> str:
    """Draw what is known; of a day on which something is not known the words tell."""
    days = [row["day"] for row in rows]
    earned = [float((row["realized"] or 0) + (row["unrealized"] or 0) - (row["fees"] or 0)) for row in rows]
    total = list(accumulate(earned))

    def draw(axes: Axes) -> None:
        axes.bar(days, earned, color=["#2a7" if value >= 0 else "#c43" for value in earned])
        axes.plot(days, total, color="#345", label="in sum")
        axes.set_ylabel(currency)
        axes.legend(frameon=False, loc="upper left")

    peaks = accumulate(total, max, initial=0.0)
    worst = min(value - max(peak, value) for value, peak in zip(total, peaks, strict=False))
    fell = f"worst fall from a peak {worst:,.2f}" if worst < 0 else "it never fell below a peak"
    words = f"In sum {total[-1]:,.2f} {_text(currency)} after fees, with what is open; {fell}."
    unknown = sum(row["realized"] is None for row in rows)
    missing = sum(row["fees_missing"] for row in rows)
    if unknown:
        words += f" Not in it: what {unknown} {'day' if unknown == 1 else 'days'} earned, for a price is not known."
    if missing:
        words += f" Not in it: the fees of {missing} executions that nobody has told."
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


def _table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], every: int | None = None) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in columns)
    lines = ["<tr>" + "".join(_cell(row.get(name)) for name in columns) + "</tr>" for row in rows[:_MOST_ROWS]]
    more = (every or len(rows)) - len(lines)
    left = f"<p>{more} more.</p>" if more else ""
    return f"<div class=wide><table><tr>{head}</tr>{''.join(lines)}</table></div>{left}"


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        value = f"{value:,.2f}"
        return f'<td class="n">{value}</td>'
    kind = ' class="n"' if isinstance(value, (Decimal, int, float)) else ""
    return f"<td{kind}>{_text('' if value is None else str(to_json(value)))}</td>"


def _text(text: str) -> str:
    return html.escape(outward(text))


def _day(when: When | None) -> str:
    return "" if when is None else str(when)[:10]
