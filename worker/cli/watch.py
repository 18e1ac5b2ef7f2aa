"""`corro watch`: the newest orders and the fleet on one screen, drawn anew whenever something was committed."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.clock import utcnow
from models.errors import DatabaseUnavailable, InvalidRequest
from models.vocabulary import OPEN, Status
from producers.cli import show
from producers.cli.app import Account, client, must_be_known, placed, whole
from producers.cli.lists import ORDER_COLUMNS, words

if TYPE_CHECKING:
    from models.history import History
    from models.settings import Settings
    from worker.fleet.picture import Picture

#: Seconds between drawings: at least, and at most.
_LEAST_S, _MOST_S = 0.2, 1.0
#: Lines beside the table: the head, the troubles' first, the table's own header, the hint of columns left out.
_BESIDE = 5


def watch(
    status: Annotated[str | None, typer.Option(help="one status, or several with commas")] = None,
    symbol: Annotated[str | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
    times: Annotated[
        int | None, typer.Option(parser=whole(1), metavar="N", help="draw so often and end; default: for ever")
    ] = None,
) -> None:
    """Show the newest orders and the fleet live, until Ctrl-C; needs a terminal."""
    from models.history import History
    from producers.ear import EVERYTHING

    if not show.out.is_terminal:
        raise InvalidRequest("watch: needs a terminal; elsewhere there is `corro events --follow`")
    chosen: dict[str, Any] = {
        "status": words("--status", status, Status), "symbol": symbol and symbol.upper(), "strategy": strategy,
        **placed(broker, account),
    }  # fmt: skip
    with client() as c:
        history, drawn = History(c.database), 0
        must_be_known(history, chosen["broker"])
        with c.ear.listening(EVERYTHING) as heard, _screen():
            while times is None or drawn < times:
                heard.clear()
                _draw(c.settings, history, {name: value for name, value in chosen.items() if value})
                drawn += 1
                if drawn != times:
                    time.sleep(_LEAST_S)
                    heard.wait(_MOST_S - _LEAST_S)


@contextmanager
def _screen() -> Iterator[None]:
    """Have a screen of our own, and give the terminal's own back as it was."""
    with show.out.screen(hide_cursor=True):
        yield


def _draw(settings: "Settings", history: "History", chosen: dict[str, Any]) -> None:
    from models.history import v_orders
    from worker.fleet.picture import look

    height = show.out.size.height
    try:
        seen = look(settings, history.database)
        found = history.rows(v_orders, limit=max(height - _BESIDE, 1), newest_first=True, **chosen)
    except DatabaseUnavailable as error:
        show.out.clear()
        show.say((f"{utcnow():%H:%M:%S} UTC  {error}", "bold red"))
        return
    show.out.clear()
    show.say(*head(seen, [str(row["status"]) for row in found], utcnow()))
    if seen.troubles:
        more = f" (and {len(seen.troubles) - 1} more: `corro fleet`)" if len(seen.troubles) > 1 else ""
        show.say((seen.troubles[0] + more, "bold red"))
    show.rows(found, ORDER_COLUMNS, title="" if found else "orders", below=False)


def head(seen: "Picture", statuses: Sequence[str], now: datetime) -> list[show.Part]:
    """Return the first line: the time, each broker's state, and how many of the orders shown are open: pure."""
    parts: list[show.Part] = [(f"{now:%H:%M:%S} UTC", "dim")]
    for broker in dict.fromkeys(row["broker"] for row in seen.rows):
        states = [str(row["state"]) for row in seen.rows if row["broker"] == broker and row["state"] != "stopped"]
        best = "ready" if "ready" in states and "unread" not in states else (states or ["stopped"])[-1]
        parts += [f"  {broker} ", show.coloured(best)]
    counted = Counter(status for status in statuses if status in {str(one) for one in OPEN})
    parts += [f"  {count} {status}" for status, count in sorted(counted.items())]
    return parts
