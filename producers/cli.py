"""The order commands: what a strategy author and an analyst type. The worker's commands are in `worker.cli`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import InvalidOrder, NotFound
from models.vocabulary import Status
from producers import show
from producers.cli_base import Json, app, client, history

if TYPE_CHECKING:
    from models.history import Row
    from producers.client import OrderClient
    from producers.handles import Order

_FAILED = {Status.REJECTED, Status.DENIED, Status.EXPIRED}
_ORDER_COLUMNS = (
    "client_order_id", "created_at", "strategy", "side", "quantity", "symbol", "order_type", "limit_price", "status",
    "broker", "attempt_count", "filled_quantity", "avg_fill_price", "reason",
)  # fmt: skip
_ATTEMPT_COLUMNS = ("attempt_no", "broker", "outcome", "code", "message", "broker_order_id", "started_at", "ended_at")
_FILL_COLUMNS = ("filled_at", "client_order_id", "broker", "side", "quantity", "symbol", "price", "commission", "late")
_UNRESOLVED_COLUMNS = (
    "client_order_id", "broker", "side", "quantity", "symbol", "started_at", "outcome", "checks", "next_look",
    "message", "latest",
)  # fmt: skip
_EXTERNAL_COLUMNS = (
    "broker", "broker_order_id", "side", "quantity", "symbol", "order_type", "limit_price", "status", "filled_quantity",
    "first_seen_at", "last_seen_at",
)  # fmt: skip
_EVENT_COLUMNS = ("at", "kind", "from_status", "to_status", "detail")


# -- ORDERS ---
@app.command()
def submit(
    symbol: str,
    side: Annotated[str, typer.Argument(help="buy, sell, sell_short or buy_to_cover")],
    quantity: Annotated[str, typer.Argument(metavar="QTY", help="shares")],
    order_type: Annotated[
        str | None, typer.Option("--type", help="market, limit, stop, stop_limit or trailing_stop")
    ] = None,
    limit: Annotated[str | None, typer.Option(help="limit price")] = None,
    stop: Annotated[str | None, typer.Option(help="stop price")] = None,
    trail_amount: Annotated[str | None, typer.Option(help="distance of a trailing stop, money")] = None,
    trail_percent: Annotated[str | None, typer.Option(help="distance of a trailing stop, percent")] = None,
    tif: Annotated[str, typer.Option(help="day, gtc, ioc, fok, opg or cls")] = "day",
    extended_hours: Annotated[bool, typer.Option("--extended-hours", help="also outside the regular session")] = False,
    route: Annotated[str | None, typer.Option(help="brokers in order, such as ibkr,alpaca")] = None,
    client_order_id: Annotated[str | None, typer.Option("--id", help="your idempotency key")] = None,
    strategy: Annotated[str | None, typer.Option(help="who asks, for the history")] = None,
    expires_in: Annotated[float | None, typer.Option(help="seconds it may wait to be sent (default 60)")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait until it is filled or ended")] = False,
    timeout: Annotated[float, typer.Option(help="seconds to wait")] = 30.0,
    json: Json = False,
) -> None:
    """Send one order. The order's type follows from the prices given unless you name it."""
    from models.messages import OrderRequest

    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "symbol": symbol, "side": side, "quantity": quantity, "limit_price": limit, "stop_price": stop,
        "trail_amount": trail_amount, "trail_percent": trail_percent, "time_in_force": tif,
        "extended_hours": extended_hours, "strategy": strategy, "created_at": now,
        "order_type": order_type or _type_of(limit, stop, trail_amount or trail_percent),
        "route": [name.strip() for name in route.split(",")] if route else None,
        "expires_at": now + timedelta(seconds=expires_in) if expires_in else None,
    }  # fmt: skip
    if client_order_id is not None:
        given["client_order_id"] = client_order_id
    with client() as c:
        order = c.submit(OrderRequest(**given))
        if wait:
            order = order.wait(timeout)
        _show_order(c, order, json)
    raise typer.Exit(1 if wait and order.status in _FAILED else 0)


def _type_of(limit: str | None, stop: str | None, trail: str | None) -> str:
    if trail:
        return "trailing_stop"
    if limit and stop:
        return "stop_limit"
    return "limit" if limit else "stop" if stop else "market"


def _show_order(c: OrderClient, order: Order, json: bool) -> None:
    from models.history import History

    row = History(c.database).order(order.client_order_id)
    if json:
        row = {k: v for k, v in (row or {}).items() if k not in ("attempts", "fills", "events")}
        show.document(row)
    else:
        show.rows([row or order.row], _ORDER_COLUMNS)


@app.command()
def cancel(client_order_id: str, json: Json = False) -> None:
    """Ask for the cancel of an order; a fill may still win."""
    with client() as c:
        _show_order(c, c.cancel(client_order_id), json)


@app.command()
def replace(
    client_order_id: str,
    quantity: Annotated[str | None, typer.Option("--qty", help="the new total, what is filled included")] = None,
    limit: Annotated[str | None, typer.Option(help="the new limit price")] = None,
    stop: Annotated[str | None, typer.Option(help="the new stop price")] = None,
    tif: Annotated[str | None, typer.Option(help="the new time in force")] = None,
    json: Json = False,
) -> None:
    """Change a live order; until its broker confirms, it keeps its terms."""
    given = {"quantity": quantity, "limit_price": limit, "stop_price": stop, "time_in_force": tif}
    with client() as c:
        changes = {name: value for name, value in given.items() if value is not None}
        _show_order(c, c.replace(client_order_id, **changes), json)


@app.command()
def orders(
    status: Annotated[str | None, typer.Option(help="one status, or several with commas")] = None,
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    since: Annotated[str | None, typer.Option(help="ISO time, date, or an age such as 30m, 12h, 7d")] = None,
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 50,
    json: Json = False,
) -> None:
    """List orders, newest first."""
    from models.history import v_orders

    _listing(
        v_orders, _ORDER_COLUMNS, json, status=_words(status, Status), symbol=symbol and symbol.upper(),
        strategy=strategy, broker=broker, since=_since(since), limit=limit,
    )  # fmt: skip


@app.command()
def order(client_order_id: str, json: Json = False) -> None:
    """Show one order: its attempts, its fills, and everything that happened to it."""
    with history() as h:
        row = h.order(client_order_id)
    if row is None:
        raise NotFound(f"no order has the client_order_id {client_order_id!r}")
    if json:
        show.document(row)
        return
    show.rows([row], _ORDER_COLUMNS)
    for part, columns in (("attempts", _ATTEMPT_COLUMNS), ("fills", _FILL_COLUMNS), ("events", _EVENT_COLUMNS)):
        show.out.print()
        show.rows(row[part], columns, title=part)


@app.command()
def fills(
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    since: Annotated[str | None, typer.Option(help="ISO time, date, or an age such as 30m, 12h, 7d")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """List executions, newest first."""
    from models.history import v_fills

    _listing(
        v_fills, _FILL_COLUMNS, json, symbol=symbol and symbol.upper(), strategy=strategy, broker=broker,
        since=_since(since), limit=limit,
    )  # fmt: skip


@app.command()
def unresolved(json: Json = False) -> None:
    """List attempts whose outcome is unknown, with the evidence. Nothing is sent again until that is settled."""
    from models.evidence import unresolved as open_attempts
    from models.settings import load_settings

    longest = load_settings().timing.deadline  # a send that is merely under way is no trouble
    with history() as h:
        found = open_attempts(h.database, longest)
    if json:
        show.document(found)
        return
    show.rows([row | {"next_look": row["asked"]["next_at"]} for row in found], _UNRESOLVED_COLUMNS)
    if show.out.is_terminal:
        for row in found:
            _show_evidence(row)


def _show_evidence(row: Row) -> None:
    """What was sent, what was asked and what came back, for a person at a terminal."""
    show.out.print()
    show.rows([row["sent"]], list(row["sent"]), title=f"{row['client_order_id']}, attempt {row['attempt_no']}: sent")
    show.rows([row["asked"]], list(row["asked"]), title="asked")
    answers = [{"answer": kind, **told} for kind, told in row["answers"].items()]
    show.rows(answers, ("answer", "times", "at", "words"), title="came back")
    for told in answers:
        if found := told.get("candidates"):
            show.rows(found, list(found[0]), title=f"{told['answer']}: at the broker")


@app.command()
def external(
    symbol: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option(help="one of the broker's statuses, or several with commas")] = None,
    since: Annotated[str | None, typer.Option(help="ISO time, date, or an age such as 30m, 12h, 7d")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """List orders that others placed at our brokers, newest first. corro never touches them."""
    from models.history import v_external_orders

    _listing(
        v_external_orders, _EXTERNAL_COLUMNS, json, symbol=symbol and symbol.upper(), broker=broker,
        status=_list(status), since=_since(since), limit=limit,
    )  # fmt: skip


# -- SHARED ---
def _listing(table: Any, columns: tuple[str, ...], json: bool, **filters: Any) -> None:
    with history() as h:
        found = h.rows(table, **filters)
    if json:
        show.document(found)
    else:
        show.rows(found, columns)


def _list(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def _words(text: str | None, kind: type[Status]) -> list[str] | None:
    words = _list(text)
    for word in words or ():
        if word not in set(kind):
            raise InvalidOrder(f"--status: must be one of {', '.join(kind)}, was {word!r}")
    return words


_AGE = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    if age := _AGE.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOrder(f"--since: must be an ISO time, a date, or an age such as 30m or 7d, was {text!r}") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when
