"""Every request a TWS client may send, by message id: reads here, orders handed to the order desk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, cast

from worker.sandbox.market.market import Position
from worker.sandbox.tws import messages
from worker.sandbox.tws.chains import matching, option_parameters, several
from worker.sandbox.tws.foreign import contract_details, execution, open_order, position, sentinel, strangers
from worker.sandbox.tws.history import HistoryError, history, parse_end, read_request
from worker.sandbox.tws.messages import TwsOrder
from worker.sandbox.tws.packages import traded
from worker.sandbox.tws.rules import about_account, accounts_of
from worker.sandbox.tws.wire import Fields, encode, read_contract, read_place_order, split_tags

if TYPE_CHECKING:
    from worker.sandbox.tws.door import ApiClient, TwsDoor

Handler = Callable[["ApiClient", Fields], None]
#: Faults that strike at a request, if they name its operation.
_FAULTS = ("hang", "slow", "error_code", "half")
#: The rest of what these two may meet is the desk's.
_OWN_FAULTS: dict[str, tuple[str, ...]] = {"place": (), "cancel": ("slow",)}
#: The messages that say that a listing is complete: open orders, executions, positions, completed orders.
_ENDS = frozenset({53, 55, 62, 102})
_NO_SECURITY = "No security definition has been found for the request"


class _Half:
    """A client whose listings never come to their end."""

    def __init__(self, session: ApiClient) -> None:
        self._session = session

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def answer(self, *frames: bytes) -> None:
        """Send rows, but not the message that ends them."""
        self._session.answer(*(f for f in frames if int(f[4:].split(b"\0", 1)[0]) not in _ENDS))


class Requests:
    """Answers requests of all clients of one door."""

    def __init__(self, door: TwsDoor) -> None:
        self._door = door
        self._market = door.market
        self._desk = door.desk
        self._handlers: dict[int, tuple[str, Handler]] = {
            1: ("quote", self._quote),
            2: ("quote", self._cancel_quote),
            3: ("place", self._place),
            4: ("cancel", self._cancel),
            5: ("open_orders", partial(self._open_orders, everyone=False)),
            6: ("account", self._account_updates),
            7: ("executions", self._executions),
            8: ("ids", self._ids),
            9: ("contract", self._contract_details),
            15: ("bind", self._auto_open_orders),
            16: ("open_orders", partial(self._open_orders, everyone=True)),
            17: ("accounts", lambda session, _: self._door.send_accounts(session)),
            20: ("bars", self._bars),
            25: ("bars", self._ignore),
            49: ("time", lambda session, _: session.answer(encode(49, 1, int(datetime.now(UTC).timestamp())))),
            58: ("cancel_all", lambda _, __: self._desk.cancel_all()),
            59: ("quote", self._ignore),
            61: ("positions", self._positions),
            62: ("account", self._account_summary),
            63: ("account", self._ignore),
            64: ("positions", self._cancel_positions),
            76: ("account", self._account_multi),
            77: ("account", self._ignore),
            78: ("contract", self._option_parameters),
            81: ("contract", self._matching),
            91: ("contract", lambda session, fields: session.answer(messages.market_rule(fields.integer()))),
            99: ("completed", self._completed),
        }

    def handle(self, session: ApiClient, kind: int, fields: Fields) -> None:
        """Answer one message, late or never where a fault says so."""
        if kind not in self._handlers:
            session.error(-1, 505, f"Unknown message id: {kind}")
            return
        operation, handler = self._handlers[kind]
        fault = self._market.faults.take_aimed(self._door.name, _OWN_FAULTS.get(operation, _FAULTS), operation)
        if fault is not None and fault.kind == "slow":
            self._door.later(float(fault.options.get("seconds", 1.0)), partial(handler, session, fields))
        elif fault is not None and fault.kind == "error_code":
            if fault.options.get("notice"):  # the answer comes all the same
                self._fail(session, kind, copy.copy(fields), fault.options)
                handler(session, fields)
            else:
                self._fail(session, kind, fields, fault.options)
        elif fault is not None and fault.kind == "half":
            handler(cast("ApiClient", _Half(session)), fields)
            if fault.options.get("cut"):
                session.close()
        elif fault is None:
            handler(session, fields)

    def _fail(self, session: ApiClient, kind: int, fields: Fields, options: dict[str, object]) -> None:
        """Answer a request with an error of the fault's choice, under the request's id where it has one."""
        if kind in (1, 7, 9, 62, 76):
            fields.skip(1)
        number = -1 if kind in (5, 6, 16, 61, 99) else fields.integer()
        session.error(number, int(str(options.get("code", 162))), str(options.get("text", "sandbox")))

    def _ignore(self, session: ApiClient, fields: Fields) -> None:
        """Nothing to stop or to change here."""

    # -- ORDERS --

    def _place(self, session: ApiClient, fields: Fields) -> None:
        self._desk.place(session, read_place_order(fields, session.version))

    def _cancel(self, session: ApiClient, fields: Fields) -> None:
        fields.skip(1)
        self._desk.cancel(session, fields.integer())

    def _ids(self, session: ApiClient, _: Fields) -> None:
        self._door.send_next_id(session)

    def _auto_open_orders(self, session: ApiClient, fields: Fields) -> None:
        fields.skip(1)
        if session.client_id != 0 and fields.flag():
            session.error(-1, 327, "Only the default client (i.e 0) can set the auto bind attribute.")

    def _strangers(self) -> Iterable[dict[str, object]]:
        return strangers(self._market.faults, self._door.name)

    def _visible(self) -> list[TwsOrder]:
        """Return the orders TWS can tell about: during an outage, none that came after it began."""
        since = self._door.outage_since
        return [tws for tws in self._desk.all() if since is None or tws.order.received_at < since]

    def _open_orders(self, session: ApiClient, _: Fields, *, everyone: bool) -> None:
        """Send the open orders: this client's, or everybody's with those that other people have entered."""
        for tws in self._visible():
            if tws.order.is_live and (everyone or tws.client_id == session.client_id):
                self._desk.show(session.client_id, tws)
                session.answer(messages.open_order(tws, session.version), messages.order_status(tws))
        if everyone:
            session.answer(*(open_order(row, session.version) for row in self._strangers()))
        session.answer(encode(53, 1))

    def _completed(self, session: ApiClient, _: Fields) -> None:
        for tws in self._visible():
            if not tws.order.is_live:
                session.answer(messages.completed_order(tws, session.version))
        session.answer(encode(102))

    def _executions(self, session: ApiClient, fields: Fields) -> None:
        """Send the executions that fit a filter, each with its commission, and their end."""
        fields.skip(1)
        request_id, client_id, account = fields.integer(), fields.integer(), fields.text()
        since, symbol = fields.text(), fields.text()
        fields.skip(2)  # secType, exchange
        side = {"BUY": True, "BOT": True, "SELL": False, "SLD": False}.get(fields.text())
        if self._market.faults.take(self._door.name, "mute_executions"):
            return
        try:
            earliest = parse_end(since, datetime.now(UTC)) if since else None
        except HistoryError as error:
            session.error(request_id, error.code, str(error))
            return
        for tws in self._visible():
            if (
                client_id in (0, tws.client_id)
                and account in ("", tws.order.account)
                and symbol.replace(" ", ".") in ("", tws.order.symbol)
                and side in (None, tws.order.is_buy)
            ):
                self._send_executions(session, request_id, tws, earliest)
        session.answer(*(execution(row, request_id) for row in self._strangers()), encode(55, 1, request_id))

    def _send_executions(self, session: ApiClient, request_id: int, tws: TwsOrder, earliest: datetime | None) -> None:
        """Send the executions of one order; one that was taken back has no commission."""
        for order, fill in [(one, fill) for one in traded(tws.order) for fill in one.executions]:
            if earliest is None or fill.at >= earliest:
                spoiled = sentinel(self._market.faults, self._door.name, "commission")
                part = order if order is not tws.order else None
                session.answer(messages.execution(tws, fill, request_id, part))
                if not fill.taken_back and not order.legs:
                    session.answer(messages.commission(fill, spoiled))

    # -- ACCOUNT --

    def _account_updates(self, session: ApiClient, fields: Fields) -> None:
        fields.skip(1)
        wanted, account = fields.flag(), fields.text()
        if wanted and (number := self._account_named(session, -1, account)):
            session.subscribed_account = number
            self._send_account(session, number)
            session.answer(encode(54, 1, number))
        elif not wanted:
            session.subscribed_account = ""

    def _account_named(self, session: ApiClient, request_id: int, account: str) -> str:
        """Return the number of the account that a request means; empty where it was refused, in recorded words."""
        known = self._accounts
        if not account and len(known) > 1:
            words = "Error validating request.-'bN' : cause - The account code is required for this operation."
            session.error(request_id, 321, words)
            return ""
        wrong = about_account(account or known[0], known)
        if wrong is not None:
            session.error(request_id, *wrong)
        return "" if wrong is not None else account or known[0]

    @property
    def _accounts(self) -> tuple[str, ...]:
        return accounts_of(self._market, self._door.name)

    def _send_account(self, session: ApiClient, number: str) -> None:
        """Send account values and portfolio, as a subscription begins."""
        account = self._market.account(self._door.name, number)
        session.answer(*(encode(6, 2, *line, number) for line in messages.account_values(account, number)))
        for symbol, held in account.positions.items():
            last = self._market.quote(symbol).last
            session.answer(messages.portfolio(symbol, held, last, account.realized, number))
        session.answer(encode(8, 1, f"{datetime.now(UTC):%H:%M}"))

    def push_account(self, session: ApiClient, moved: Iterable[tuple[str, str]]) -> None:
        """Tell a client that subscribed what fills did to the accounts: `moved` has each with its symbol."""
        if told := session.subscribed_account:
            values = messages.account_values(self._market.account(self._door.name, told), told)
            session.push(*(encode(6, 2, *line, told) for line in values))
        for number, symbol in moved:
            account = self._market.account(self._door.name, number)
            held = account.positions.get(symbol, Position(Decimal(0), Decimal(0)))
            if session.subscribed_positions:
                session.push(messages.position(symbol, held, number))
            if session.subscribed_account == number:
                last = self._market.quote(symbol).last
                session.push(messages.portfolio(symbol, held, last, account.realized, number))

    def _positions(self, session: ApiClient, _: Fields) -> None:
        session.subscribed_positions = True
        for number in self._accounts:
            held = self._market.account(self._door.name, number).positions
            session.answer(*(messages.position(symbol, one, number) for symbol, one in held.items()))
        session.answer(*(position(row) for row in self._strangers()))
        session.answer(encode(62, 1))

    def _cancel_positions(self, session: ApiClient, _: Fields) -> None:
        session.subscribed_positions = False

    def _account_summary(self, session: ApiClient, fields: Fields) -> None:
        """Send the values of the tags that were asked for, of every account."""
        fields.skip(1)
        request_id = fields.integer()
        fields.skip(1)
        wanted = set(split_tags(fields.text()))
        for number in self._accounts:
            for key, *told in messages.account_values(self._market.account(self._door.name, number), number):
                if key in wanted or "$LEDGER" in wanted:
                    session.answer(encode(63, 1, request_id, number, key, *told))
        session.answer(encode(64, 1, request_id))

    def _account_multi(self, session: ApiClient, fields: Fields) -> None:
        fields.skip(1)
        request_id, account, model = fields.integer(), fields.text(), fields.text()
        if number := self._account_named(session, request_id, account):
            lines = messages.account_values(self._market.account(self._door.name, number), number)
            session.answer(*(encode(73, 1, request_id, number, model, *line) for line in lines))
            session.answer(encode(74, 1, request_id))

    # -- CONTRACTS AND PRICES --

    def _contract_details(self, session: ApiClient, fields: Fields) -> None:
        """Send what a contract is, or 200: no security definition."""
        fields.skip(1)
        request_id, contract = fields.integer(), read_contract(fields)
        symbol = contract.market_symbol
        faults, name = self._market.faults, self._door.name
        broken = faults.peek(name, "definitions_broken")
        if broken is not None:
            faults.note_once(broken, name, symbol, "contract")
        strange = [row for row in self._strangers() if row["con_id"] == contract.con_id and not contract.symbol]
        if strange and broken is None:
            ours = messages.contract_details(request_id, "AAPL", contract, session.version)
            session.answer(*(contract_details(row, ours) for row in strange), encode(52, 1, request_id))
            return
        names = [symbol] if (many := several(self._market, contract)) is None else many
        known = [name for name in names if name is not None and self._market.exists(name)]
        if broken is not None or not known:
            session.error(request_id, 200, _NO_SECURITY)
            return
        session.answer(*(messages.contract_details(request_id, name, contract, session.version) for name in known))
        session.answer(encode(52, 1, request_id))

    def _matching(self, session: ApiClient, fields: Fields) -> None:
        session.answer(matching(fields.integer(), fields.text(), session.version))

    def _option_parameters(self, session: ApiClient, fields: Fields) -> None:
        request_id, symbol = fields.integer(), fields.text()
        fields.skip(2)  # futFopExchange, underlyingSecType
        session.answer(*option_parameters(self._market, request_id, symbol, fields.integer()))

    def _quote(self, session: ApiClient, fields: Fields) -> None:
        """Send ticks of one quote, and the end of a snapshot."""
        fields.skip(1)
        request_id, contract = fields.integer(), read_contract(fields)
        symbol = contract.market_symbol
        if symbol is None or not self._market.exists(symbol):
            session.error(request_id, 200, _NO_SECURITY)
            return
        if fields.flag():  # deltaNeutralContract
            fields.skip(3)
        fields.skip(1)  # genericTicks
        snapshot = fields.flag()
        session.answer(encode(58, 1, request_id, 1), encode(81, request_id, "0.01", "9c0001", 3))
        quote = self._market.quote(symbol)
        session.answer(*messages.quote_ticks(request_id, quote, self._door.day_prices(symbol)))
        if snapshot:
            session.answer(encode(57, 1, request_id))
        else:
            session.quotes[request_id] = (symbol, (quote.bid, quote.ask, quote.last))

    def _cancel_quote(self, session: ApiClient, fields: Fields) -> None:
        fields.skip(1)
        session.quotes.pop(fields.integer(), None)

    def _bars(self, session: ApiClient, fields: Fields) -> None:
        """Send bars, or the error that TWS has instead."""
        request = read_request(fields)
        try:
            spoiled = sentinel(self._market.faults, self._door.name, "bars")
            session.answer(history(self._market, request, datetime.now(UTC), spoiled))
        except HistoryError as error:
            session.error(request.request_id, error.code, str(error))
