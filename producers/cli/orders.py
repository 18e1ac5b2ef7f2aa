"""The order commands: what a strategy author types. Lists are in `producers.cli.lists`, operators' in `worker.cli`."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import NotFound, OutputLost
from models.vocabulary import Status
from producers.cli import show
from producers.cli.app import Form, Json, OneAccount, Wide, client, moment, seconds, tell, whole_id, whole_place
from producers.cli.legs import legs_of
from producers.cli.lists import ORDER_COLUMNS

if TYPE_CHECKING:
    from models.history import Row
    from models.messages import OrderRequest
    from producers.client import OrderClient
    from producers.handles import Order

_FAILED = {Status.REJECTED, Status.DENIED, Status.EXPIRED}
#: Options of `submit` that are fields of the order as they are.
_SAME = (
    "symbol", "side", "quantity", "notional", "extended_hours", "strategy", "session", "asset_class", "currency",
    "decision_price", "client_order_id", "preview", "limit_offset", "display_quantity", "account",
)  # fmt: skip
#: `--wait` ran out: not known yet.
_NOT_KNOWN_YET = 3


# -- ORDERS ---
def submit(
    symbol: str,
    side: Annotated[str, typer.Argument(help="buy, sell, sell_short or buy_to_cover")],
    quantity: Annotated[
        str | None, typer.Argument(metavar="[QTY]", help="shares, contracts or units of a pair's base")
    ] = None,
    notional: Annotated[str | None, typer.Option(help="money to buy for, instead of QTY")] = None,
    order_type: Annotated[
        str | None,
        typer.Option("--type", help="market, limit, stop, stop_limit, trailing_stop, if_touched ..."),
    ] = None,
    limit: Annotated[str | None, typer.Option(help="limit price")] = None,
    stop: Annotated[str | None, typer.Option(help="stop price")] = None,
    trail_amount: Annotated[str | None, typer.Option(help="distance of a trailing stop, money")] = None,
    trail_percent: Annotated[str | None, typer.Option(help="distance of a trailing stop, percent")] = None,
    tif: Annotated[str | None, typer.Option(help="day (usual), gtc (usual of crypto), ioc, fok, opg or cls")] = None,
    good_till: Annotated[str | None, typer.Option(help="ISO time until which it may work; makes it gtd")] = None,
    limit_offset: Annotated[str | None, typer.Option(help="of trail_limit: how far its limit is from its stop")] = None,
    display_quantity: Annotated[str | None, typer.Option("--display", help="so many the book shows at a time")] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="the book shows nothing of it")] = False,
    algo: Annotated[str | None, typer.Option(help="its broker's algorithm, such as adaptive:patient")] = None,
    asset_class: Annotated[
        str | None,
        typer.Option(help="us_equity, equity, option, future, forex or crypto, where the symbol does not say it"),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="of the prices, where a listing has several")] = None,
    extended_hours: Annotated[bool, typer.Option("--extended-hours", help="also outside the regular session")] = False,
    leg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEG",
            help='of a package, several times: "+1 SYMBOL [open|close]", "-1 ..."; SYMBOL above is the underlying, '
            "SIDE is buy, QTY counts packages, and a limit below 0 is received",
        ),
    ] = None,
    route: Annotated[str | None, typer.Option(help="brokers in order, such as ibkr,alpaca or ibkr:ira,alpaca")] = None,
    account: Annotated[str | None, typer.Option(help="the account behind a login, by its name: ira")] = None,
    decision_price: Annotated[
        str | None, typer.Option(help="at which you decided, for `corro tca`; no part of the order's terms")
    ] = None,
    client_order_id: Annotated[str | None, typer.Option("--id", help="your idempotency key")] = None,
    strategy: Annotated[str | None, typer.Option(help="who asks, for the history")] = None,
    expires_in: Annotated[
        float | None, typer.Option(parser=seconds, metavar="S", help="seconds it may wait to be sent (default 60)")
    ] = None,
    not_before: Annotated[str | None, typer.Option(help="ISO time; it is held until then")] = None,
    session: Annotated[str | None, typer.Option(help="regular: held while the regular session is not on")] = None,
    preview: Annotated[
        str | None, typer.Option(help="digest of `corro preview`: refused on other terms than were previewed")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait until it is filled or ended; exit 3: not yet")] = False,
    timeout: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait")] = 30.0,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Send one order. The order's type follows from the prices given unless you name it."""
    request = order_of(locals())
    with client() as c, never_lost(c, request.client_order_id):
        order = c.submit(request)
        if order.status is Status.QUEUED and (nobody := c.nobody(order.broker)):
            show.note((nobody, "yellow"))
        if wait:
            order = order.wait(timeout)
            if not order.is_terminal:
                show.note(f"not known yet after {timeout:g} s: ", *_standing(order))
        _show_order(c, order, Form(json, wide=wide))
    raise typer.Exit(exit_status(order) if wait or order.status is Status.DENIED else 0)


def _algo(text: str | None) -> dict[str, str] | None:
    """Read an algorithm and its priority, `adaptive:patient`."""
    if text is None:
        return None
    name, _, priority = text.partition(":")
    return {"name": name, **({"priority": priority} if priority else {})}


def order_of(options: Mapping[str, Any]) -> "OrderRequest":
    """Return the order that the options of `submit` describe, by their names."""
    from models.messages import OrderRequest

    now, prices = datetime.now(UTC), ("limit", "stop", "trail_amount", "trail_percent")
    limit, stop, trail_amount, trail_percent = (options[name] for name in prices)
    route, expires_in = options["route"], options["expires_in"]
    given: dict[str, Any] = {
        "limit_price": limit, "stop_price": stop, "trail_amount": trail_amount, "trail_percent": trail_percent,
        "time_in_force": options["tif"] or ("gtd" if options["good_till"] else None), "created_at": now,
        "order_type": options["order_type"] or type_of(limit, stop, trail_amount or trail_percent),
        "route": [name.strip() for name in route.split(",")] if route else None,
        "expires_at": now + timedelta(seconds=expires_in) if expires_in is not None else None,
        "not_before": moment("--not-before", options["not_before"]),
        "legs": legs_of(options.get("leg")),
        "good_till": moment("--good-till", options["good_till"]), "hidden": options["hidden"] or None,
        "algo": _algo(options["algo"]),
        **{name: options[name] for name in _SAME if options.get(name) is not None},
    }  # fmt: skip
    return OrderRequest(**given)


def close(
    symbol: str,
    broker: Annotated[str | None, typer.Option(help="only there, instead of everywhere")] = None,
    account: OneAccount = None,
    limit: Annotated[str | None, typer.Option(help="limit price, instead of a market order")] = None,
    tif: Annotated[str | None, typer.Option(help="day (usual), gtc (usual of crypto), ioc, fok, opg or cls")] = None,
    strategy: Annotated[str | None, typer.Option(help="only what this strategy holds")] = None,
    external: Annotated[bool, typer.Option("--external", help="also what no order of corro has brought")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="wait until all are filled or ended; exit 3: not yet")] = False,
    timeout: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait")] = 30.0,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Close what is held of a symbol: one order for each broker that shows it and each strategy that holds it.

    Exit 1: a broker could not be asked, or nobody holds any.
    """
    terms: dict[str, Any] = {"limit_price": limit, "order_type": type_of(limit, None, None)}
    terms |= {"time_in_force": tif} if tif else {}
    with client() as c, contextlib.ExitStack() as safe:
        broker = whole_place(broker, account)
        requests, unreachable = c.closing_orders(symbol, broker, strategy=strategy, external=external, **terms)
        for request in requests:
            safe.enter_context(never_lost(c, request.client_order_id))
        placed = c.submit_many(requests)
        for name in sorted({order.broker for order in placed if order.status is Status.QUEUED}):
            if nobody := c.nobody(name):
                show.note((nobody, "yellow"))
        placed = c.wait_all(placed, timeout) if wait else placed
        for why in unreachable.values():
            show.note((f"not closed: {why}", "red"))
        rows = [_row(c, order) for order in placed]
        tell(rows, ORDER_COLUMNS, Form(json, wide=wide), document=rows)
    statuses = [exit_status(order) for order in placed if wait or order.status is Status.DENIED]
    raise typer.Exit(max([*statuses, int(bool(unreachable))]))


def exit_status(order: "Order") -> int:
    """Return the exit status that says how an order has ended, or that it has not."""
    if not order.is_terminal:
        return _NOT_KNOWN_YET
    return 1 if order.status in _FAILED else 0


@contextmanager
def never_lost(c: "OrderClient", client_order_id: str) -> Iterator[None]:
    """Say the order's id before anything can fail, and, whatever fails then, whether there is an order under it.

    Without the id a person whose terminal died can only guess, and send the same order again.
    """
    show.note(f"order {client_order_id}")
    try:
        yield
    except typer.Exit:
        raise
    except OutputLost as error:  # the order is what the exit status is about
        show.note((f"corro: {error}", "red"))
        show.note(*_found(c, client_order_id))
    except BaseException:
        show.note(*_found(c, client_order_id))
        raise


def _found(c: "OrderClient", client_order_id: str) -> tuple[str, ...]:
    """Say what became of an order whose submit was broken off."""
    try:
        return _standing(c.order(client_order_id))
    except NotFound:
        return (f"order {client_order_id} was not recorded: nothing was sent",)
    except Exception:
        again = f"the same command with --id {client_order_id} is safe to repeat"
        return (f"whether order {client_order_id} was recorded is not known: `corro order {client_order_id}`; {again}",)


def _standing(order: "Order") -> tuple[str, ...]:
    where = "for" if order.status is Status.QUEUED else "at"
    id_ = order.client_order_id
    ends = "" if order.is_terminal else f", `corro cancel {id_}` withdraws it"
    return (f"order {id_} is {order.status} {where} {order.broker}: `corro order {id_}` shows it{ends}",)


def type_of(limit: str | None, stop: str | None, trail: str | None) -> str:
    """Return the type of an order that is given by its prices."""
    if trail:
        return "trailing_stop"
    if limit and stop:
        return "stop_limit"
    return "limit" if limit else "stop" if stop else "market"


def _row(c: "OrderClient", order: "Order") -> "Row":
    from models.history import History

    row = History(c.database).order(order.client_order_id) or order.row
    return {name: value for name, value in row.items() if name not in ("attempts", "fills", "events")}


def rows_of(c: "OrderClient", orders: "Sequence[Order]") -> "list[Row]":
    """Return these orders as `v_orders` has them, in the same order."""
    from models.history import History, v_orders

    found = History(c.database).rows(v_orders, client_order_id=[order.client_order_id for order in orders])
    rows = {row["client_order_id"]: row for row in found}
    return [rows.get(order.client_order_id) or dict(order.row) for order in orders]


def _show_order(c: "OrderClient", order: "Order", form: Form) -> None:
    row = _row(c, order)
    tell([row], ORDER_COLUMNS, form, document=row)


def _meant(c: "OrderClient", client_order_id: str) -> str:
    """Find the order that is to be changed, and name it where its id was not given in full."""
    from models.history import History

    id_ = whole_id(client_order_id, History(c.database).ids, changes=True)
    if id_ != client_order_id:
        show.note(f"order {id_}")
    return id_


def cancel(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="client_order_ids")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every order that has not ended")] = False,
    broker: Annotated[str | None, typer.Option(help="with --all: only orders there, or waiting for it")] = None,
    account: OneAccount = None,
    strategy: Annotated[str | None, typer.Option(help="with --all: only this strategy's")] = None,
    symbol: Annotated[str | None, typer.Option(help="with --all: only in this symbol")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Ask for the cancel of orders; a fill may still win. `corro kill` also keeps new ones from being sent.

    The start of a generated id is enough where it is the only one; an id that somebody has chosen has to be whole, or
    cut by the sign … of the tables. JSON: one order for one id, else a list.
    """
    if bool(ids) == everything:
        raise typer.BadParameter("say either which orders, by their ids, or --all")
    if not everything and any(given is not None for given in (broker, account, strategy, symbol)):
        raise typer.BadParameter("--broker, --account, --strategy and --symbol choose among --all")
    with client() as c:
        broker = whole_place(broker, account)
        if broker is not None:
            c.settings.must_know(broker)
        if ids:
            orders = c.cancel_many([_meant(c, each) for each in ids])
        else:
            orders = c.cancel_all(broker, strategy, symbol)
        for name in sorted({order.broker for order in orders if not order.is_terminal}):
            if nobody := c.nobody(name):
                show.note((nobody, "yellow"))
        for order in orders:
            if order.is_terminal and order.status is not Status.CANCELED:
                id_ = f" {order.client_order_id}" if len(orders) > 1 else ""
                show.note((f"there is nothing to cancel: the order{id_} is {order.status}", "yellow"))
        rows = rows_of(c, orders)
    one = rows[0] if len(ids or ()) == 1 else rows
    tell(rows, ORDER_COLUMNS, Form(json, wide=wide), title="orders", document=one)


def replace(
    client_order_id: str,
    quantity: Annotated[str | None, typer.Option("--qty", help="the new total, what is filled included")] = None,
    limit: Annotated[str | None, typer.Option(help="the new limit price")] = None,
    stop: Annotated[str | None, typer.Option(help="the new stop price")] = None,
    trail_amount: Annotated[str | None, typer.Option(help="the new distance of a trailing stop, money")] = None,
    trail_percent: Annotated[str | None, typer.Option(help="the new distance of a trailing stop, percent")] = None,
    tif: Annotated[str | None, typer.Option(help="the new time in force")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Change a live order; until its broker confirms, it keeps its terms."""
    given = {"quantity": quantity, "limit_price": limit, "stop_price": stop, "time_in_force": tif}
    given |= {"trail_amount": trail_amount, "trail_percent": trail_percent}
    with client() as c:
        changes = {name: value for name, value in given.items() if value is not None}
        order = c.replace(_meant(c, client_order_id), **changes)
        _show_order(c, order, Form(json, wide=wide))
