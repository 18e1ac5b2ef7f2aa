"""What was earned, `corro pnl`, what executions cost, `corro tca`, and a page of both, `corro report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import InvalidRequest, OutputLost
from models.vocabulary import LotMethod
from producers.cli import show
from producers.cli.app import (
    Account,
    Form,
    Json,
    Limit,
    Out,
    Since,
    Until,
    Wide,
    day,
    history,
    listing,
    moment,
    must_be_known,
    placed,
    tell,
)

if TYPE_CHECKING:
    from models.history import Row

_TCA_COLUMNS = (
    "filled_at", "client_order_id", "broker", "strategy", "side", "quantity", "symbol", "price", "currency",
    "decision_price",
    "slippage_decision", "slippage_decision_bps", "arrival_mid", "slippage_arrival", "slippage_arrival_bps",
    "interval_vwap", "slippage_vwap", "slippage_vwap_bps",
)  # fmt: skip
By = Annotated[
    str,
    typer.Option(
        "--by",
        help="add up by: day, week, month, year, broker, account, strategy, symbol, source, currency; with commas",
    ),
]
Method = Annotated[
    LotMethod | None, typer.Option("--method", help="which lots are closed first; default: [history] lots, or fifo")
]


def pnl(
    by: By = "strategy,symbol",
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    since: Annotated[str | None, typer.Option(help="first day: a date in New York, or an age such as 30d")] = None,
    until: Until = None,
    method: Method = None,
    into: Annotated[
        str | None,
        typer.Option("--in", metavar="CURRENCY", help="all in one currency, by the rates that the record was told"),
    ] = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Show what was earned and what it cost: realized before fees, and unrealized at the last known price.

    Lots are kept for each broker, account, strategy and symbol. Executions of others are the strategy (external).
    """
    from models.history import pnl_columns

    names = [name.strip() for name in by.split(",") if name.strip()]
    form = Form(json, out, wide)
    where = placed(broker, account)
    with history() as h:
        must_be_known(h, where["broker"])
        rows = h.pnl(
            names, since=day("--since", since), until=day("--until", until), method=method, in_=into,
            symbol=symbol and symbol.upper(), strategy=strategy, **where,
        )  # fmt: skip
    table = pnl_columns(names, into)
    columns = [column.name for column in table.c]
    keys = columns[: columns.index("realized")]
    tell(rows, columns, form, table=table, title="" if rows else "profit and loss", keys=keys)
    _note_missing(rows)


def _note_missing(rows: "list[Row]") -> None:
    """Say on a terminal what the figures do not contain."""
    missing = sum(row["fees_missing"] for row in rows)
    if missing and show.err.is_terminal:
        show.note(f"the commission of {missing:,} executions is not known: fees are of the others")
    if any(row["realized"] is None for row in rows) and show.err.is_terminal:
        show.note("what stands without an amount depends on a price, or a rate, that nobody has told")
    if any(row.get("rates_missing") for row in rows) and show.err.is_terminal:
        show.note("no rate was told within a week: store bars of the pair (`corro bars`), then ask again")


def tca(
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List what executions cost against decision price and quote at arrival, newest first; positive is a cost."""
    from models.history import v_tca

    listing(
        v_tca, _TCA_COLUMNS, Form(json, out, wide), symbol=symbol and symbol.upper(), strategy=strategy,
        **placed(broker, account), since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


def report(
    out: Annotated[Path, typer.Option("--out", help="the file, .html")],
    since: Annotated[str | None, typer.Option(help="first day: a date in New York, or an age such as 30d")] = "30d",
    until: Until = None,
    method: Method = None,
) -> None:
    """Write a page that opens offline: profit, orders by broker, latency, slippage, and what was refused."""
    if out.suffix != ".html" or not out.parent.is_dir():
        raise InvalidRequest(f"--out: must be a .html file in a folder that is there, was {out}")
    with history() as h:
        text = h.report(day("--since", since), day("--until", until), method=method)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputLost(f"--out {out}: {error.strerror or error}") from None
    show.note(f"written to {out}")
