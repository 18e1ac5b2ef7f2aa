"""What an assistant may ask by the Model Context Protocol: to read everything, and to submit what a person judges.

An order of an assistant is held until somebody approves it, unless it is signed by a key that was named for it, and
that key's orders need nobody's approval. Nothing can be canceled, halted or approved from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib.metadata import version
from typing import Any, cast

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import ValidationError
from sqlalchemy import Table

from models import encoding
from models.errors import CorroError, InvalidRequest
from models.history import History, v_attempts, v_fills, v_orders
from models.messages import OrderRequest
from models.outward import discreet, untold
from models.record.controls import v_controls
from models.record.evidence import unresolved as read_unresolved
from models.record.stream import EventStream, must_have_been
from models.signing import Signs
from models.troubles import trouble
from producers.cli.app import moment
from producers.client import OrderClient
from worker.fleet.picture import look
from worker.page.chosen import Filters
from worker.positions.told import told_positions

#: Rows of a list, at most.
MOST_ROWS = 200
#: Why an order of an assistant waits.
APPROVAL = "submitted by an assistant (corro mcp)"

Answer = dict[str, object]
Answers = list[Answer]


class Assistant:
    """The tools.

    Args:
        client: over the record.
        signer: of a key that was named for assistants: it says whether its orders are held; None holds every order.
    """

    def __init__(self, client: OrderClient, signer: Signs | None = None) -> None:
        self.client, self.history = client, History(client.database)
        self._filters = Filters(client.settings, client.database)
        self._submitting = client.acting_for(signer, APPROVAL if signer is None else None)

    # -- READ ---
    def orders(
        self, status: str = "", symbol: str = "", strategy: str = "", broker: str = "", since: str = "", limit: int = 50
    ) -> Answers:
        """List orders, newest first. `status` may name several, such as queued,accepted; `since` is a time or 12h."""
        return self._rows(
            v_orders, since, limit, status=status, symbol=symbol.upper(), strategy=strategy, broker=broker
        )

    def order(self, client_order_id: str) -> Answer:
        """Show one order with its attempts at brokers, its fills, and everything that happened to it."""
        return cast("Answer", told(self.history.the_order(client_order_id)))

    def fills(
        self, symbol: str = "", strategy: str = "", broker: str = "", since: str = "", limit: int = 50
    ) -> Answers:
        """List executions, newest first."""
        return self._rows(v_fills, since, limit, symbol=symbol.upper(), strategy=strategy, broker=broker)

    def attempts(
        self,
        outcome: str = "",
        symbol: str = "",
        strategy: str = "",
        broker: str = "",
        since: str = "",
        limit: int = 50,
    ) -> Answers:
        """List attempts at brokers, newest first: what was sent, and what each broker said."""
        return self._rows(
            v_attempts, since, limit, outcome=outcome, symbol=symbol.upper(), strategy=strategy, broker=broker
        )

    def events(self, since: int = 0, strategy: str = "", limit: int = 50) -> Answers:
        """List what happened to orders behind the event of an id, by rising ids; 0 is the newest."""
        must_have_been(self.client.database, since)
        stream = EventStream(self.client.database, since, strategy or None)
        if not since:
            stream.latest(_bounded(limit))
        return cast("Answers", told(stream.look()[: _bounded(limit)]))

    def positions(self) -> Answers:
        """List positions as their brokers told them last; `error` says of which broker they are not known.

        A broker without any row held nothing at `positions_at` of its worker, which `fleet` lists.
        """
        return cast("Answers", told(told_positions(self.client.database, self.client.settings).rows))

    def fleet(self) -> Answers:
        """List brokers and workers: who is connected, who leads, what waits."""
        return cast("Answers", told(look(self.client.settings, self.client.database).rows))

    def unresolved(self) -> Answers:
        """List attempts that may be live at a broker without anybody knowing, with the evidence."""
        timing = self.client.settings.timing
        found = read_unresolved(
            self.client.database, timing.deadline, cancel_alert_s=timing.cancel_alert_after,
            dead_after_s=timing.dead_after,
        )  # fmt: skip
        return cast("Answers", told(found))

    def controls(self) -> Answers:
        """List what is halted, may only reduce, or is drained; by whom and why."""
        return cast("Answers", told(self.history.rows(v_controls)))

    # -- SUBMIT ---
    def submit_order(
        self, client_order_id: str, symbol: str, side: str, quantity: str, order_type: str = "market",
        limit_price: str = "", stop_price: str = "", time_in_force: str = "day", strategy: str = "", route: str = "",
    ) -> Answer:  # fmt: skip
        """Submit an order; it is usually held until a person approves it, which the answer's `status` says.

        `client_order_id` is yours to choose, and the same for every repetition of this order: then it is never two.
        `side` is buy, sell (closes), sell_short or buy_to_cover; `order_type` market, limit, stop or stop_limit;
        `quantity` and prices are decimal texts; `route` names brokers in order, such as ibkr,alpaca.
        """
        given = {"limit_price": limit_price, "stop_price": stop_price, "strategy": strategy}
        brokers = [name.strip() for name in route.split(",") if name.strip()]
        request = OrderRequest(
            client_order_id=client_order_id, symbol=symbol, side=side, quantity=quantity, order_type=order_type,
            time_in_force=time_in_force, **{name: value for name, value in given.items() if value},
            **({"route": brokers} if brokers else {}),
        )  # fmt: skip
        return self.order(self._submitting.submit(request).client_order_id)

    def _rows(self, table: Table, since: str, limit: int, **equal: str) -> Answers:
        chosen: dict[str, Any] = {n: self._filters.read(n, text) for n, text in equal.items() if text.strip()}
        found = self.history.rows(table, limit=_bounded(limit), since=moment("since", since or None), **chosen)
        return cast("Answers", told(found))


def _bounded(limit: int) -> int:
    """Return how many rows are wanted.

    Raises:
        InvalidRequest: fewer than one, or more than there are at once.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise InvalidRequest(f"limit: must be 1 to {MOST_ROWS}, was {limit}")
    return limit


def told(found: Mapping[str, object] | Sequence[Mapping[str, object]]) -> object:
    """Return rows, or one, as JSON has them: decimals and times as texts, no secret."""
    return untold(encoding.to_json(found))


class ToolServer(MCPServer[None]):
    """A server whose tools hear everything that they are asked: an argument of no tool would be a filter left out.

    As everywhere, null is not given, and a number may be a number or its text.
    """

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: it has no such argument, or one is not what it has to be; or as the tool says.
        """
        tool = self._tool_manager.get_tool(name)
        known: dict[str, Any] = tool.parameters["properties"] if tool is not None else {}
        strange = sorted(set(arguments) - set(known)) if tool is not None else []
        if strange:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise ToolError(f"InvalidRequest: {name} has no argument {strange[0]!r:.100}, {there}")
        given = {n: _as_text(v, known.get(n, {})) for n, v in arguments.items() if v is not None}
        try:
            return await super().call_tool(name, given, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(f"InvalidRequest: {trouble(error.__cause__)}") from None
            raise


def _as_text(value: object, schema: Mapping[str, object]) -> object:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number and schema.get("type") == "string" else value


def assistant_server(assistant: Assistant) -> MCPServer:
    """Return the server; `run()` speaks on stdin and stdout until they are closed."""
    server = ToolServer("corro", version=version("corro"), instructions=__doc__, log_level="WARNING")
    reads: tuple[Callable[..., object], ...] = (
        assistant.orders, assistant.order, assistant.fills, assistant.attempts, assistant.events, assistant.positions,
        assistant.fleet, assistant.unresolved, assistant.controls,
    )  # fmt: skip
    for tool in reads:
        server.add_tool(_explained(tool), annotations=ToolAnnotations(read_only_hint=True))
    writes = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True)
    server.add_tool(_explained(assistant.submit_order), annotations=writes)
    return server


def _explained(tool: Callable[..., object]) -> Callable[..., object]:
    """Return a tool whose errors are told to the assistant: it can mend its question."""

    @wraps(tool)
    def run(*given: object, **named: object) -> object:
        try:
            return tool(*given, **named)
        except CorroError as error:
            raise ToolError(f"{type(error).__name__}: {discreet(str(error))}") from None

    return run
