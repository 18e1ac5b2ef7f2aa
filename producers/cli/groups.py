"""The commands for linked orders: `bracket`, `oco`, and `groups`, which lists them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.groups import GroupStatus
from models.vocabulary import Status
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
    client,
    listing,
    moment,
    placed,
    seconds,
    tell,
)
from producers.cli.orders import exit_status, never_lost, rows_of, type_of
from producers.cli.preview import show_previews

if TYPE_CHECKING:
    from models.messages import OrderRequest
    from producers.client import OrderClient
    from producers.groups import OrderGroup

_LEG_COLUMNS = (
    "leg", "client_order_id", "side", "quantity", "symbol", "order_type", "limit_price", "stop_price", "status",
    "broker", "filled_quantity", "avg_fill_price", "reason",
)  # fmt: skip
_GROUP_COLUMNS = (
    "created_at", "group_id", "kind", "status", "leg", "side", "quantity", "symbol", "limit_price", "stop_price",
    "leg_status", "broker", "filled_quantity", "reason",
)  # fmt: skip

Route = Annotated[str | None, typer.Option(help="brokers in order, such as alpaca,ibkr")]
Strategy = Annotated[str | None, typer.Option(help="who asks, for the history")]
Wait = Annotated[bool, typer.Option("--wait", help="wait until every leg has ended; exit 3: not yet")]
Timeout = Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait")]
StopLimit = Annotated[str | None, typer.Option(help="limit price of the stop, which is a market order without")]
TimeIn = Annotated[str, typer.Option(help="day or gtc")]
WhatIf = Annotated[bool, typer.Option("--what-if", help="ask brokers what they would say of it; nothing is sent")]
Digest = Annotated[str | None, typer.Option(help="digest of --what-if: refused on other terms than were previewed")]


def bracket(
    symbol: str,
    side: Annotated[str, typer.Argument(help="of the entry: buy or sell_short")],
    quantity: Annotated[str, typer.Argument(metavar="QTY", help="shares")],
    take_profit: Annotated[str, typer.Option(help="limit price of the exit with profit")],
    stop_loss: Annotated[str, typer.Option(help="stop price of the exit with loss")],
    limit: Annotated[str | None, typer.Option(help="limit price of the entry, which is a market order without")] = None,
    stop_limit: StopLimit = None,
    tif: TimeIn = "day",
    route: Route = None,
    id_: Annotated[str | None, typer.Option("--id", help="of the entry and the group; exits add .tp and .sl")] = None,
    strategy: Strategy = None,
    what_if: WhatIf = False,
    preview: Digest = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Send an entry with two exits that its broker links: they wake when it is filled, and one cancels the other."""
    terms = _terms(symbol, quantity, tif, route, strategy)
    entry = _order(terms | {"side": side, "limit_price": limit, "order_type": type_of(limit, None, None)}, id_)
    stop = stop_loss if stop_limit is None else (stop_loss, stop_limit)
    if what_if:
        with client() as c:
            show_previews(c.preview_bracket(entry, take_profit, stop, timeout), "corro bracket", Form(json, wide=wide))
    with client() as c, never_lost(c, entry.client_order_id):
        group = c.submit_bracket(entry, take_profit, stop, preview=preview)
        _show(c, group, Form(json, wide=wide), timeout if wait else None)


def oco(
    symbol: str,
    side: Annotated[str, typer.Argument(help="of both: sell or buy_to_cover")],
    quantity: Annotated[str, typer.Argument(metavar="QTY", help="shares")],
    limit: Annotated[str, typer.Option(help="limit price of the first")],
    stop: Annotated[str, typer.Option(help="stop price of the second")],
    stop_limit: StopLimit = None,
    tif: TimeIn = "day",
    route: Route = None,
    id_: Annotated[str | None, typer.Option("--id", help="of the first and the group; the second adds .sl")] = None,
    strategy: Strategy = None,
    what_if: WhatIf = False,
    preview: Digest = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Send two exits of one position, of which the broker cancels one when the other is filled."""
    terms = _terms(symbol, quantity, tif, route, strategy) | {"side": side}
    first = _order(terms | {"limit_price": limit, "order_type": "limit"}, id_)
    kind = type_of(stop_limit, stop, None)
    second = _order(
        terms | {"stop_price": stop, "limit_price": stop_limit, "order_type": kind}, f"{first.client_order_id}.sl"
    )
    if what_if:
        with client() as c:
            show_previews(c.preview_oco(first, second, timeout), "corro oco", Form(json, wide=wide))
    with client() as c, never_lost(c, first.client_order_id):
        _show(c, c.submit_oco(first, second, preview=preview), Form(json, wide=wide), timeout if wait else None)


def groups(
    status: Annotated[str | None, typer.Option(help="one status of a group, or several with commas")] = None,
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
    """List linked orders, newest first, one line for each leg."""
    from models.history import v_groups
    from producers.cli.lists import words

    listing(
        v_groups, _GROUP_COLUMNS, Form(json, out, wide), status=words("--status", status, GroupStatus),
        symbol=symbol and symbol.upper(), strategy=strategy, **placed(broker, account),
        since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


def _terms(symbol: str, quantity: str, tif: str, route: str | None, strategy: str | None) -> dict[str, Any]:
    return {
        "symbol": symbol, "quantity": quantity, "time_in_force": tif, "strategy": strategy,
        "created_at": datetime.now(UTC), "route": [name.strip() for name in route.split(",")] if route else None,
    }  # fmt: skip


def _order(terms: dict[str, Any], id_: str | None) -> "OrderRequest":
    from models.messages import OrderRequest

    return OrderRequest(**terms, **({} if id_ is None else {"client_order_id": id_}))


def _show(c: "OrderClient", group: "OrderGroup", form: Form, wait_s: float | None) -> None:
    """Print a group with its legs, once it has ended where somebody waits for that."""
    lead = next(iter(group.legs.values()))
    if lead.status is Status.QUEUED and (nobody := c.nobody(lead.broker)):
        show.note((nobody, "yellow"))
    if wait_s is not None:
        group = group.wait(wait_s)
        if not group.is_terminal:
            show.note(f"not known yet after {wait_s:g} s: group {group.group_id} is {group.status}")
    rows = rows_of(c, list(group.legs.values()))
    tell(
        rows,
        _LEG_COLUMNS,
        form,
        title=f"{group.kind} {group.group_id}: {group.status}",
        document=group.row | {"legs": rows},
    )
    denied = any(order.status is Status.DENIED for order in group.legs.values())
    broken = group.status is GroupStatus.BROKEN
    waited = max(exit_status(order) for order in group.legs.values()) if wait_s is not None else 0
    raise typer.Exit(1 if denied or broken else waited)
