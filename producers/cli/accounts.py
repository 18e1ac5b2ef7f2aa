"""What accounts were worth, `corro equity`, and what they were paid or charged besides trades, `corro cash`."""

from typing import Annotated

import typer

from models.vocabulary import CashKind
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
    note_rest,
    placed,
    tell,
)
from producers.cli.lists import words

_EQUITY_COLUMNS = (
    "day", "broker", "account", "currency", "equity", "cash", "peak", "drawdown", "drawdown_percent",
)  # fmt: skip
_CASH_COLUMNS = (
    "at", "broker", "account", "kind", "amount", "currency", "quantity", "symbol", "price", "client_order_id", "detail",
)  # fmt: skip
Currency = Annotated[str | None, typer.Option(metavar="CURRENCY", help="amounts in this one alone, such as USD")]


def equity(
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    currency: Currency = None,
    since: Annotated[
        str | None, typer.Option(help="first day, from which peaks count: a date in New York, or an age such as 30d")
    ] = None,
    until: Until = None,
    total: Annotated[bool, typer.Option("--total", help="all accounts of a currency together")] = False,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List what accounts were worth day by day, newest first, with the peak before and the fall from it.

    Money that was paid in or out moves it as well: see `corro cash`.
    """
    from models.history import v_equity

    form = Form(json, out, wide)
    where = placed(broker, account)
    with history() as h:
        must_be_known(h, where["broker"])
        found = h.equity(
            since=day("--since", since), until=day("--until", until), total=total,
            currency=currency and currency.upper(), **where,
        )  # fmt: skip
    found.sort(key=lambda row: row["day"], reverse=True)
    shown = found[: limit or form.limit]
    tell(shown, _EQUITY_COLUMNS, form, table=v_equity, title="" if shown else "equity", keys=_EQUITY_COLUMNS[:3])
    note_rest(len(shown), len(found))


def cash(
    kind: Annotated[str | None, typer.Option(help="dividend, or several with commas")] = None,
    symbol: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    currency: Currency = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List what accounts were paid, charged or given besides trades, newest first: dividends, fees, splits."""
    from models.history import v_cash

    listing(
        v_cash, _CASH_COLUMNS, Form(json, out, wide, ("at", "broker")), kind=words("--kind", kind, CashKind),
        symbol=symbol and symbol.upper(), currency=currency and currency.upper(), **placed(broker, account),
        since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip
