"""The data commands: quote, account, positions, bars. Tables for people, `--json` and `--out` for programs."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.destinations import broker_of, split
from models.errors import CorroError, InvalidRequest
from models.outward import outward
from models.timeframes import TIMEFRAMES
from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, age, client, history, moment, seconds, tell

if TYPE_CHECKING:
    from producers.data import DataClient

Row = dict[str, Any]
Route = Annotated[str | None, typer.Option(help="brokers to ask, in order, such as alpaca,ibkr")]
Timeout = Annotated[float, typer.Option(parser=seconds, metavar="S", help="seconds to wait for the answer")]

ACCOUNT_COLUMNS = (
    "broker", "account_id", "currency", "buying_power", "cash", "equity", "portfolio_value", "total_liquidity",
    "day_trade_count", "error",
)  # fmt: skip
_RECORDED = (
    "broker", "account", "strategy", "symbol", "quantity", "avg_price", "cost", "currency", "price", "price_at",
    "unrealized",
)  # fmt: skip
_POSITION = ("broker", "symbol", "quantity", "avg_price", "market_value", "unrealized_pnl", "error")


def _all(c: "DataClient") -> list[str]:
    """Every broker, and of one with several accounts each: those on the route in its order, then the others."""
    order = {name: number for number, name in enumerate(c.settings.brokers_in_order)}
    return sorted(c.settings.destinations, key=lambda place: order.get(broker_of(place), len(order)))


def _names(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def _when(option: str, text: str | None) -> datetime | str | None:
    """Read an age such as 30d; anything else is for the client to read."""
    try:
        return text and (age(text) or text)
    except OverflowError:
        raise InvalidRequest(f"{option}: reaches too far back, was {text!r}") from None


def quote(
    symbol: str, route: Route = None, timeout: Timeout = 10.0, out: Out = None, wide: Wide = False, json: Json = False
) -> None:
    """Ask for a quote: who answered, and how old it is."""
    form = Form(json, out, wide)
    with client() as c:
        fetch = c.quote(symbol, route=_names(route))
        found = asdict(fetch.result(timeout))
    found = {"broker": fetch.broker, **found, "age_s": _seconds_old(found["at"])}
    tell([found], tuple(found), form, document=found)


def _seconds_old(at: datetime | None) -> float | None:
    return None if at is None else round((datetime.now(UTC) - at).total_seconds(), 3)


def account(
    broker: Annotated[str | None, typer.Argument(help="alpaca, or ibkr:ira; default: all")] = None,
    timeout: Timeout = 10.0,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Show buying power, cash and equity of each account; who does not answer is named, and the exit status is 1."""
    form = Form(json, out, wide)
    found: list[Row] = []
    with client() as c:
        deadline = time.monotonic() + timeout
        asked = {name: c.account(name) for name in ([broker] if broker else _all(c))}
        for place, fetch in asked.items():
            where = dict(zip(("broker", "account"), split(place), strict=True))
            try:
                report = fetch.result(max(0.05, deadline - time.monotonic()))
                found.append({**where, **asdict(report), "error": None})
            except CorroError as error:
                found.append({**where, "error": str(error)})
    tell(found, ACCOUNT_COLUMNS, form)
    raise typer.Exit(1 if any(row["error"] for row in found) else 0)


def positions(
    total: Annotated[bool, typer.Option("--total", help="net quantity of each symbol over the brokers")] = False,
    at: Annotated[
        str | None, typer.Option("--at", help="by the record, with strategies: an ISO time, an age, or now")
    ] = None,
    timeout: Timeout = 10.0,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Show the positions at all brokers; what could not be reached is named, and the exit status is 1.

    With --at no broker is asked: the positions are those that the recorded executions come to.
    """
    form = Form(json, out, wide)
    if at is not None:
        _recorded(at, form)
        return
    with client() as c:
        held = c.positions(timeout)
        several = {name for name, table in c.settings.all_brokers.items() if table.accounts}
    found: list[Row]
    if total:
        found = [
            {"symbol": symbol, "quantity": net, "brokers": [b for b, ps in held.items() if _holds(ps, symbol)]}
            for symbol, net in held.total().items()
        ]
    else:
        found = [
            {"broker": name, "account": p.account_id if name in several else None, **asdict(p), "error": None}
            for name, ps in held.items()
            for p in ps
        ]
    found += [{"broker": name, "error": why} for name, why in held.unreachable.items()]
    tell(found, ("symbol", "quantity", "brokers", "broker", "error") if total else _POSITION, form)
    raise typer.Exit(1 if held.unreachable else 0)


def _recorded(at: str, form: Form) -> None:
    """Show positions by the executions that are recorded; no broker is asked."""
    from models.history import v_positions

    when = None if at == "now" else moment("--at", at)
    with history() as h:
        found = h.positions(when)
    title = "" if found else f"positions at {at}"
    tell(found, _RECORDED, form, table=v_positions, title=title, keys=("broker", "account", "strategy"))


def _holds(held: Any, symbol: str) -> bool:
    return any(position.symbol == symbol for position in held)


def bars(
    symbol: str,
    timeframe: Annotated[str, typer.Argument(help=", ".join(TIMEFRAMES))] = "1Day",
    start: Annotated[str | None, typer.Option(help="ISO time, date (New York), or an age such as 30d")] = None,
    end: Annotated[str | None, typer.Option(help="as --start; default now")] = None,
    duration: Annotated[
        str | None, typer.Option(help="with --start or --end: 5D, 2W, 6M, 1Y, 4H, P1Y6M, PT30M; default 1M")
    ] = None,
    route: Route = None,
    timeout: Timeout = 600.0,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Fetch bars into the database and show, or save, them. A fetch goes on when you stop waiting for it."""
    form = Form(json, out, wide)
    if start is None and duration is None:
        duration = "1M"
    with client() as c, _progress(symbol.upper(), timeframe) as watch:
        fetch = c.bars(
            symbol, timeframe, _when("--start", start), _when("--end", end), duration=duration, route=_names(route),
            floats=False,
        )  # fmt: skip
        frame = fetch.result(timeout, watch=watch)
    if missing := frame.attrs["left_out"]:
        show.note(f"{missing} bars that {frame.attrs['broker']} showed without prices, or without a time, are left out")
    same = {key: frame.attrs[key] for key in ("broker", "symbol", "timeframe")}
    found = [{**_named(row), **same} for row in frame.reset_index().to_dict("records")]
    tell(found, ("start", "open", "high", "low", "close", "volume", "broker"), form)


def _named(row: Mapping[Any, Any]) -> Row:
    return {str(name): value.to_pydatetime() if name == "start" else value for name, value in row.items()}


@contextmanager
def _progress(symbol: str, timeframe: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show how far a fetch is, on a terminal only; yields what is to be called with its row."""
    if not show.err.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=show.err, transient=True) as bar:
        task = bar.add_task(outward(f"{symbol} {timeframe}"), total=1.0)

        def watch(row: Mapping[str, Any]) -> None:
            words = f"{symbol} {timeframe} from {row['broker']} ({row['status']}, {row['stored']} bars)"
            bar.update(task, completed=float(row["progress"] or 0), description=outward(words))

        yield watch
