"""The lists: orders, attempts, executions, what is unresolved, what others placed; newest first."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import InvalidRequest
from models.vocabulary import Outcome, Status
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
    history,
    listing,
    moment,
    placed,
    tell,
    whole_id,
)  # fmt: skip
from producers.cli.legs import LEG_COLUMNS, filled_legs

if TYPE_CHECKING:
    from models.history import Row

ORDER_COLUMNS = (
    "client_order_id", "created_at", "strategy", "side", "quantity", "notional", "symbol", "order_type", "limit_price",
    "status", "broker", "attempt_count", "filled_quantity", "avg_fill_price", "reason",
)  # fmt: skip
_ATTEMPT_COLUMNS = (
    "started_at", "client_order_id", "attempt_no", "broker", "side", "quantity", "symbol", "outcome", "code",
    "broker_order_id", "message",
)  # fmt: skip
#: Of the attempts of one order.
_TRY_COLUMNS = ("attempt_no", "broker", "outcome", "code", "message", "broker_order_id", "started_at", "ended_at")
_FILL_COLUMNS = ("filled_at", "client_order_id", "broker", "side", "quantity", "symbol", "price", "commission", "late")
_UNRESOLVED_COLUMNS = (
    "client_order_id", "broker", "side", "quantity", "symbol", "started_at", "outcome", "checks", "next_look",
    "message", "latest",
)  # fmt: skip
#: A change that fits no execution is listed for so long, over a long weekend, unless a person has noted it.
_UNEXPLAINED_FOR = timedelta(days=4)
_EXTERNAL_COLUMNS = (
    "broker", "broker_order_id", "side", "quantity", "symbol", "order_type", "limit_price", "status", "filled_quantity",
    "first_seen_at", "last_seen_at",
)  # fmt: skip
_EVENT_COLUMNS = ("at", "kind", "from_status", "to_status", "detail")


def orders(
    status: Annotated[str | None, typer.Option(help="one status, or several with commas")] = None,
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
    """List orders, newest first."""
    from models.history import v_orders

    listing(
        v_orders, ORDER_COLUMNS, Form(json, out, wide), status=words("--status", status, Status),
        symbol=symbol and symbol.upper(), strategy=strategy, **placed(broker, account),
        since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


def order(client_order_id: str, wide: Wide = False, json: Json = False) -> None:
    """Show one order: its attempts, its fills, and everything that happened to it. The start of its id is enough."""
    with history() as h:
        row = h.the_order(whole_id(client_order_id, h.ids, changes=False))
    if json:
        show.document(row)
        return
    show.rows([row], ORDER_COLUMNS, title=f"order {row['client_order_id']}", wide=wide)
    fill_columns: tuple[str, ...] = _FILL_COLUMNS
    if row["legs"]:
        fill_columns = ("leg", *_FILL_COLUMNS)
        show.say()
        show.rows(filled_legs(row["legs"], row["fills"]), LEG_COLUMNS, title="legs", wide=wide)
    for part, columns in (("attempts", _TRY_COLUMNS), ("fills", fill_columns), ("events", _EVENT_COLUMNS)):
        show.say()
        show.rows(row[part], columns, title=part, wide=wide)


def fills(
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
    """List executions, newest first."""
    from models.history import v_fills

    listing(
        v_fills, _FILL_COLUMNS, Form(json, out, wide), symbol=symbol and symbol.upper(), strategy=strategy,
        **placed(broker, account), since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


def attempts(
    outcome: Annotated[str | None, typer.Option(help="one outcome, or several with commas")] = None,
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
    """List attempts, newest first: every try to place an order at one broker, and what the broker said."""
    from models.history import v_attempts

    listing(
        v_attempts, _ATTEMPT_COLUMNS, Form(json, out, wide), outcome=words("--outcome", outcome, Outcome),
        symbol=symbol and symbol.upper(), strategy=strategy, **placed(broker, account),
        since=moment("--since", since), until=moment("--until", until), limit=limit,
    )  # fmt: skip


def unresolved(out: Out = None, wide: Wide = False, json: Json = False) -> None:
    """List attempts whose outcome is unknown, with the evidence. Nothing is sent again until that is settled.

    Also what nobody can explain of an order: a cancel without effect, a status that says nothing, a changed execution,
    a row that somebody has changed by hand.
    """
    from models.record.evidence import unresolved as open_attempts
    from models.settings import load_settings

    form = Form(json, out, wide)
    timing = load_settings().timing
    with history() as h:  # a send that is merely under way is no trouble
        found = open_attempts(
            h.database, timing.deadline, cancel_alert_s=timing.cancel_alert_after, dead_after_s=timing.dead_after,
            unexplained_since=datetime.now(UTC) - _UNEXPLAINED_FOR,
        )  # fmt: skip
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


def external(
    symbol: Annotated[str | None, typer.Option()] = None,
    broker: Annotated[str | None, typer.Option()] = None,
    account: Account = None,
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
        v_external_orders, _EXTERNAL_COLUMNS, Form(json, out, wide), symbol=symbol and symbol.upper(),
        **placed(broker, account), status=_list(status), since=moment("--since", since),
        until=moment("--until", until), limit=limit,
    )  # fmt: skip


def _list(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def words(option: str, text: str | None, kind: type[StrEnum]) -> list[str] | None:
    """Read words with commas between.

    Raises:
        InvalidRequest: one of them is none of this kind.
    """
    found = _list(text)
    for word in found or ():
        if word not in set(kind):
            raise InvalidRequest(f"{option}: must be one of {', '.join(kind)}, was {word!r}")
    return found
