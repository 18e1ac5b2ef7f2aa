"""The command `instruments`: what a name means at a broker, and what expires of an underlying."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from producers.cli import show
from producers.cli.app import TERMINAL_ROWS, Form, Json, Limit, Out, Wide, client, seconds, tell

_COLUMNS = (
    "symbol", "asset_class", "expiry", "strike", "right", "multiplier", "currency", "price_increment", "lot_size",
    "listing", "broker", "broker_symbol", "broker_id", "name",
)  # fmt: skip


def instruments(
    query: Annotated[
        str, typer.Argument(help="a symbol; with --class option an underlying, with --class future a root such as ES")
    ],
    asset_class: Annotated[
        str | None,
        typer.Option("--class", help="us_equity, equity, option, future, forex or crypto"),
    ] = None,
    expiry: Annotated[str | None, typer.Option(help="of options and futures: a day or a month, 2026-12")] = None,
    limit: Limit = None,
    search: Annotated[bool, typer.Option("--search", help="by words of a name, or the start of a symbol")] = False,
    kept: Annotated[bool, typer.Option("--kept", help="what brokers have told before; nobody is asked")] = False,
    route: Annotated[str | None, typer.Option(help="brokers to ask, in order, such as alpaca,ibkr")] = None,
    timeout: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait for the answer")] = 60.0,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Look an instrument up at the first broker on the route that knows it; options and futures by what expires."""
    from models.record.instrument_tables import instruments as table

    form = Form(json, out, wide)
    with client() as c:
        names = [part.strip() for part in route.split(",") if part.strip()] if route else None
        found: Sequence[Mapping[str, object]]
        if kept:
            found = c.kept_instruments(query, asset_class, expiry=expiry, brokers=names, limit=limit)
            more = limit is not None and len(found) == limit
        else:
            fetch = c.instruments(query, asset_class, expiry=expiry, limit=limit, search=search, route=names)
            answer = fetch.result(timeout)
            found, more = answer.rows(fetch.broker, fetch.row()["ended_at"]), answer.more
    shown = found if form.json or form.out or limit is not None or not show.out.is_terminal else found[:TERMINAL_ROWS]
    if len(shown) < len(found):
        show.note(f"{len(found)} found, {len(shown)} shown: --limit says how many")
    elif more:
        show.note(f"the broker has more than these {len(found)}: --expiry and --limit say which")
    tell(shown, _COLUMNS, form, title="instruments", table=table)
