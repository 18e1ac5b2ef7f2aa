"""The order commands: what a strategy author and an analyst type. The worker's commands are in `worker.cli`."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import (
    ConfigurationError,
    IdempotencyConflict,
    InvalidOrder,
    InvalidRequest,
    NotFound,
    OutputLost,
)
from models.vocabulary import Status
from producers.cli import show
from producers.cli.app import (
    Form,
    Json,
    Limit,
    Out,
    Since,
    Until,
    Wide,
    app,
    client,
    history,
    listing,
    moment,
    seconds,
    tell,
    whole_id,
)  # fmt: skip

if TYPE_CHECKING:
    from models.history import Row
    from producers.client import OrderClient
    from producers.handles import Order

_FAILED = {Status.REJECTED, Status.DENIED, Status.EXPIRED}
#: Errors of a submit that say for certain that nothing was done.
_NOTHING_DONE = (ConfigurationError, InvalidOrder, InvalidRequest, IdempotencyConflict)
#: `--wait` ran out: not known yet.
_NOT_KNOWN_YET = 3
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
    expires_in: Annotated[
        float | None, typer.Option(parser=seconds, metavar="S", help="seconds it may wait to be sent (default 60)")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait until it is filled or ended; exit 3: not yet")] = False,
    timeout: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait")] = 30.0,
    wide: Wide = False,
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
        "expires_at": now + timedelta(seconds=expires_in) if expires_in is not None else None,
    }  # fmt: skip
    if client_order_id is not None:
        given["client_order_id"] = client_order_id
    request = OrderRequest(**given)
    with client() as c, _never_lost(c, request.client_order_id):
        order = c.submit(request)
        if order.status is Status.QUEUED and (nobody := c.nobody(order.broker)):
            show.note((nobody, "yellow"))
        if wait:
            order = order.wait(timeout)
            if not order.is_terminal:
                show.note(f"not known yet after {timeout:g} s: ", *_standing(order))
        _show_order(c, order, Form(json, wide=wide))
    raise typer.Exit(_exit_status(order) if wait else 0)


@app.command()
def close(
    symbol: str,
    broker: Annotated[str | None, typer.Option(help="only there, instead of everywhere")] = None,
    limit: Annotated[str | None, typer.Option(help="limit price, instead of a market order")] = None,
    tif: Annotated[str, typer.Option(help="day, gtc, ioc, fok, opg or cls")] = "day",
    strategy: Annotated[str | None, typer.Option(help="who asks, for the history")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait until all are filled or ended; exit 3: not yet")] = False,
    timeout: Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait")] = 30.0,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Close what is held of a symbol: one order at each broker that holds it. Exit 1: a broker could not be asked."""
    terms: dict[str, Any] = {"limit_price": limit, "order_type": _type_of(limit, None, None), "time_in_force": tif}
    with client() as c, contextlib.ExitStack() as safe:
        requests, unreachable = c.closing_orders(symbol, broker, strategy=strategy, **terms)
        for request in requests:
            safe.enter_context(_never_lost(c, request.client_order_id))
        placed = c.submit_many(requests)
        for name in sorted({order.broker for order in placed if order.status is Status.QUEUED}):
            if nobody := c.nobody(name):
                show.note((nobody, "yellow"))
        placed = c.wait_all(placed, timeout) if wait else placed
        for why in unreachable.values():
            show.note((f"not closed: {why}", "red"))
        rows = [_row(c, order) for order in placed]
        tell(rows, _ORDER_COLUMNS, Form(json, wide=wide), document=rows)
    statuses = [_exit_status(order) for order in placed] if wait else []
    raise typer.Exit(max([*statuses, int(bool(unreachable))]))


def _exit_status(order: "Order") -> int:
    if not order.is_terminal:
        return _NOT_KNOWN_YET
    return 1 if order.status in _FAILED else 0


@contextmanager
def _never_lost(c: "OrderClient", client_order_id: str) -> Iterator[None]:
    """Say the order's id before anything can fail, and, whatever fails then, whether there is an order under it.

    Without the id a person whose terminal died can only guess, and send the same order again.
    """
    show.note(f"order {client_order_id}")
    try:
        yield
    except (typer.Exit, *_NOTHING_DONE):
        raise
    except OutputLost as error:  # the order is what the exit status is about
        show.note((f"corro: {error}", "red"))
        show.note(*_found(c, client_order_id))
    except BaseException:
        show.note(*_found(c, client_order_id))
        raise


def _found(c: "OrderClient", client_order_id: str) -> tuple[str, ...]:
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


def _type_of(limit: str | None, stop: str | None, trail: str | None) -> str:
    if trail:
        return "trailing_stop"
    if limit and stop:
        return "stop_limit"
    return "limit" if limit else "stop" if stop else "market"


def _row(c: "OrderClient", order: "Order") -> "Row":
    from models.history import History

    row = History(c.database).order(order.client_order_id) or order.row
    return {name: value for name, value in row.items() if name not in ("attempts", "fills", "events")}


def _show_order(c: "OrderClient", order: "Order", form: Form) -> None:
    row = _row(c, order)
    tell([row], _ORDER_COLUMNS, form, document=row)


def _meant(c: "OrderClient", client_order_id: str) -> str:
    """Find the order that is to be changed, and name it where its id was not given in full."""
    from models.history import History

    id_ = whole_id(client_order_id, History(c.database).ids, changes=True)
    if id_ != client_order_id:
        show.note(f"order {id_}")
    return id_


@app.command()
def cancel(client_order_id: str, wide: Wide = False, json: Json = False) -> None:
    """Ask for the cancel of an order; a fill may still win. The start of an id is enough where it is the only one."""
    with client() as c:
        order = c.cancel(_meant(c, client_order_id))
        if not order.is_terminal and (nobody := c.nobody(order.broker)):
            show.note((nobody, "yellow"))
        _show_order(c, order, Form(json, wide=wide))


@app.command()
def replace(
    client_order_id: str,
    quantity: Annotated[str | None, typer.Option("--qty", help="the new total, what is filled included")] = None,
    limit: Annotated[str | None, typer.Option(help="the new limit price")] = None,
    stop: Annotated[str | None, typer.Option(help="the new stop price")] = None,
    tif: Annotated[str | None, typer.Option(help="the new time in force")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Change a live order; until its broker confirms, it keeps its terms."""
    given = {"quantity": quantity, "limit_price": limit, "stop_price": stop, "time_in_force": tif}
    with client() as c:
        changes = {name: value for name, value in given.items() if value is not None}
        order = c.replace(_meant(c, client_order_id), **changes)
        _show_order(c, order, Form(json, wide=wide))


@app.command()
def orders(
    status: Annotated[str | None, typer.Option(help="one status, or several with commas")] = None,
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List orders, newest first."""
    from models.history import v_orders

    listing(
        v_orders, _ORDER_COLUMNS, Form(json, out, wide), status=_words(status, Status),
        symbol=symbol and symbol.upper(), strategy=strategy, broker=broker,
        since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


@app.command()
def order(client_order_id: str, wide: Wide = False, json: Json = False) -> None:
    """Show one order: its attempts, its fills, and everything that happened to it. The start of its id is enough."""
    with history() as h:
        row = h.order(whole_id(client_order_id, h.ids, changes=False))
    assert row is not None
    if json:
        show.document(row)
        return
    show.rows([row], _ORDER_COLUMNS, title=f"order {row['client_order_id']}", wide=wide)
    for part, columns in (("attempts", _ATTEMPT_COLUMNS), ("fills", _FILL_COLUMNS), ("events", _EVENT_COLUMNS)):
        show.say()
        show.rows(row[part], columns, title=part, wide=wide)


@app.command()
def fills(
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List executions, newest first."""
    from models.history import v_fills

    listing(
        v_fills, _FILL_COLUMNS, Form(json, out, wide), symbol=symbol and symbol.upper(), strategy=strategy,
        broker=broker, since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


@app.command()
def unresolved(out: Out = None, wide: Wide = False, json: Json = False) -> None:
    """List attempts whose outcome is unknown, with the evidence. Nothing is sent again until that is settled."""
    from models.record.evidence import unresolved as open_attempts
    from models.settings import load_settings

    form = Form(json, out, wide)
    timing = load_settings().timing
    with history() as h:  # a send that is merely under way is no trouble
        found = open_attempts(
            h.database, timing.deadline, cancel_alert_s=timing.cancel_alert_after, dead_after_s=timing.dead_after
        )
    listed = [row | {"next_look": row["asked"]["next_at"]} for row in found]
    tell(listed, _UNRESOLVED_COLUMNS, form, title="unresolved", document=found)
    if show.out.is_terminal and not json and out is None:
        for row in found:
            _show_evidence(row, wide)
            if row["cannot_ask"]:
                show.say(f"cannot ask: {row['cannot_ask']}")


def _show_evidence(row: "Row", wide: bool) -> None:
    """What was sent, what was asked and what came back, for a person at a terminal."""
    show.say()
    title = f"{row['client_order_id']}, attempt {row['attempt_no']}: sent"
    show.record(row["sent"], title=title)
    show.record(row["asked"], title="asked")
    answers = [{"answer": kind, **told} for kind, told in row["answers"].items()]
    show.rows(answers, ("answer", "times", "at", "words"), title="came back", wide=wide)
    for told in answers:
        if found := told.get("candidates"):
            show.rows(found, list(found[0]), title=f"{told['answer']}: at the broker", wide=wide)


@app.command()
def external(
    symbol: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option(help="one of the broker's statuses, or several with commas")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List orders that others placed at our brokers, newest first. corro never touches them."""
    from models.history import v_external_orders

    listing(
        v_external_orders, _EXTERNAL_COLUMNS, Form(json, out, wide), symbol=symbol and symbol.upper(), broker=broker,
        status=_list(status), since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


# -- SHARED ---
def _list(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def _words(text: str | None, kind: type[Status]) -> list[str] | None:
    words = _list(text)
    for word in words or ():
        if word not in set(kind):
            raise InvalidRequest(f"--status: must be one of {', '.join(kind)}, was {word!r}")
    return words
