"""What the TWS door says: one function per server message, each returning one frame.

The long messages are recorded lines of a real TWS (server 164) with our values put in; `|` stands for the zero byte.
Source: rust-ibapi v1-stable, src/orders/tests.rs; field numbers as in docs/facts/ibkr.md#5.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from worker.sandbox.market.accounts import Account, Position, cents
from worker.sandbox.market.listed import listed, multiplier
from worker.sandbox.market.market import MarketOrder, Quote, Trade
from worker.sandbox.market.matching import TRAILS, TRIGGERED
from worker.sandbox.market.prices import NEW_YORK
from worker.sandbox.tws.contracts import shown
from worker.sandbox.tws.market_rules import RULES, finest, hours_of, rule_of
from worker.sandbox.tws.packages import bag_fields, combo_fields
from worker.sandbox.tws.wire import (
    UNSET_DOUBLE,
    Contract,
    PlaceOrder,
    con_id,
    contract_fields,
    encode,
    listing,
    text,
)

ACCOUNT = "DU1000001"
#: What a US stock at SMART takes, from a recorded contractDetails of AAPL (ibkr-go, 2026-04-05), shortened: no FOK.
ORDER_TYPES = (
    "ACTIVETIM,AD,ADJUST,ALERT,ALGO,ALLOC,AON,CASHQTY,COND,DAY,GTC,GTD,IOC,LIT,LMT,LOC,MIT,MKT,MOC,MTL,OCA,OPG,REL,"
    "STP,STPLMT,TRAIL,TRAILLMT,WHATIF,HID,ICE"
)
PERM_BASE = 1_376_000_000
ZONE = "US/Eastern"
_U9 = "|".join([UNSET_DOUBLE] * 9)
_U6 = "|".join([UNSET_DOUBLE] * 6)
_OPEN_ORDER = (
    "5|13|76792991|TSLA|STK||0|?||SMART|USD|TSLA|NMS|BUY|100|MKT|0.0|0.0|DAY||DU1234567||0||100|1376327563|0|0|0||"
    "1376327563.0/DU1234567/100||||||||||0||-1|0||||||2147483647|0|0|0||3|0|0||0|0||0|None||0||||?|0|0||0|0||||||0|0|0"
    f"|2147483647|2147483647|||0||IB|0|0||0|0|PreSubmitted|{_U9}||||||0|0|0|None|{_U6}|0||||0|1|0|0|0|||0"
).split("|")
_COMPLETED_ORDER = (
    "101|265598|AAPL|STK||0|?||SMART|USD|AAPL|NMS|BUY|0|MKT|0.0|0.0|DAY||DU1234567||0||1824933227|0|0|0|||||||||||0||-1"
    "||||||2147483647|0|0||3|0||0|None||0|0|0||0|0||||0|0|0|2147483647|2147483647||||IB|0|0||0|Filled|0|0|0"
    f"|{UNSET_DOUBLE}|{UNSET_DOUBLE}|0|1|0||100|2147483647|0|Not an insider or substantial shareholder|0|0"
    "|9223372036854775807|20230306 12:28:30 America/Los_Angeles|Filled Size: 100"
).split("|")
_DELTA_NEUTRAL = _COMPLETED_ORDER.index("None")
_STATUS = _COMPLETED_ORDER.index("Filled")
#: Where an openOrder has the number of its legs.
_LEGS = 79
_PEGGED = ("", "", UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE)  # the five fields of server 170 and later


@dataclass(slots=True)
class TwsOrder:
    """An order of the market with what only TWS knows about it."""

    order: MarketOrder
    request: PlaceOrder
    client_id: int
    order_id: int
    pending_cancel: bool = False
    why_held: str = ""
    inactive: bool = False  # fault revive: refused, and kept
    silent: bool = False  # fault accept_hang: never a word about it
    no_status: bool = False  # fault swallow_status
    twice: bool = False  # fault duplicate_status
    canceled_by: int | None = None  # the client id that asked for its end, if it is another one
    not_before: float = 0.0  # fault slow: loop time of the first word
    waiting: list[bytes] = field(default_factory=list)

    @property
    def perm_id(self) -> int:
        """The account-wide id of the order."""
        return PERM_BASE + self.order.number

    @property
    def status(self) -> str:
        """The order's status in TWS's words."""
        order = self.order
        closed = {"filled": "Filled", "rejected": "Inactive", "new": "", "partially_filled": ""}.get(order.state)
        if closed != "":
            return closed or "Cancelled"
        if self.pending_cancel:
            return "PendingCancel"
        if self.why_held or self.inactive:
            return "Inactive"
        if self.waits or order.waits or order.time_in_force in ("opg", "cls"):
            return "PreSubmitted"
        return "PreSubmitted" if order.order_type == "market" and not order.executions else "Submitted"

    @property
    def waits(self) -> bool:
        """Whether a live order waits for its trigger."""
        order = self.order
        return order.order_type in TRIGGERED and not order.triggered and order.is_live and not order.executions

    @property
    def held_words(self) -> str:
        """Why it does not work yet, as whyHeld says it: a child that waits for its parent, a stop for its trigger."""
        waits = ["child"] * self.order.waits + ["trigger"] * self.waits
        return self.why_held or ",".join(waits)


def ib_time(at: datetime) -> str:
    """Write a time as newer gateways do: with its zone."""
    return f"{at.astimezone(NEW_YORK):%Y%m%d %H:%M:%S} {ZONE}"


# -- CONNECTION --


def error(number: int, code: int, message: str, version: int) -> bytes:
    """Return errMsg; `number` is an order or request id, -1 for the system."""
    tail = [""] if version >= 166 else []
    return encode(4, 2, number, code, message, *tail)


def hello(version: int) -> bytes:
    """Return the answer to a client's version range."""
    return encode(version, f"{datetime.now(UTC).astimezone(NEW_YORK):%Y%m%d %H:%M:%S %Z}")


# -- ORDERS --


def open_order(tws: TwsOrder, version: int, commission: Decimal | None = None, status: str | None = None) -> bytes:
    """Return openOrder, 131 fields and five more from server 170 on."""
    fields = _open_order_fields(tws)
    fields[94] = status or tws.status
    if commission is not None:
        fields[104], fields[107] = text(commission), "USD"
    return _cut(fields, version, tws.request)


def what_if(tws: TwsOrder, version: int, account: Account, value: Decimal) -> bytes:
    """Return the openOrder that answers a what-if request: margins before, change and after; nothing is placed."""
    fields = _open_order_fields(tws)
    fields[25], fields[93], fields[94] = "0", "1", "PreSubmitted"
    margin = sum((abs(p.quantity) * p.avg_price for p in account.positions.values()), Decimal(0)) / 4
    before, change = (margin, margin, account.equity), (value / 4, value / 4, Decimal(0))
    after = [old + new for old, new in zip(before, change, strict=True)]
    fields[95:104] = [text(cents(v)) for v in (*before, *change, *after)]
    fields[105], fields[106], fields[107] = "1", text(cents(max(Decimal(1), tws.request.quantity / 200))), "USD"
    return _cut(fields, version, tws.request)


def open_order_of(
    contract: Sequence[object], account: str, ref: str, client_id: int, perm_id: int, version: int
) -> bytes:
    """Return openOrder of an order that this door did not take: a limit order of another program, which rests."""
    fields = list(_OPEN_ORDER)
    fields[1] = "0"
    fields[2:13] = [text(field) for field in contract]
    fields[15:17] = ["LMT", "1.0"]
    fields[20], fields[23:26] = account, [ref, str(client_id), str(perm_id)]
    fields[30] = f"{perm_id}.0/{account}/100"
    fields[94] = "Submitted"
    return _cut(fields, version)


def _open_order_fields(tws: TwsOrder) -> list[str]:
    """Return the fields of an open order: those of a template, with ours in their places."""
    fields, request, perm = list(_OPEN_ORDER), tws.request, str(tws.perm_id)
    fields[1] = str(tws.order_id)
    fields[2:13] = _contract(tws)
    fields[13:21] = [*_main(tws), request.oca_group, tws.order.account]
    fields[23:27] = [request.order_ref, str(tws.client_id), perm, text(request.outside_rth)]
    fields[29] = request.good_after
    fields[30] = f"{perm}.0/{tws.order.account}/{text(tws.order.quantity)}"
    fields[27], fields[36] = text(request.hidden), request.good_till
    fields[49] = text(request.display_size or None)
    fields[54], fields[58] = str(request.oca_type or 3), str(request.parent_id)
    if tws.order.order_type in TRAILS:
        fields[74] = fields[114] = text(tws.order.stop_price)
        fields[115] = text(request.limit_offset)
        fields[75] = text(request.trailing_percent)
    return fields


def _cut(fields: list[str], version: int, request: PlaceOrder | None = None) -> bytes:
    kept = fields[: 128 + (version >= 159) + (version >= 160) + (version >= 162)]
    if request is not None and request.algo:  # its parameters stand behind its name
        kept[91:92] = [
            request.algo,
            str(len(request.algo_params)),
            *(word for pair in request.algo_params for word in pair),
        ]
    if request is not None and request.legs:  # behind their number; the algo is further on
        kept[_LEGS : _LEGS + 1] = [str(len(request.legs)), *combo_fields(request.legs)]
    return encode(*kept, *(_PEGGED if version >= 170 else ()))


def completed_order(tws: TwsOrder, version: int) -> bytes:
    """Return completedOrder, 96 fields and five more from server 170 on; it knows neither order id nor client id."""
    fields, order, request = list(_COMPLETED_ORDER), tws.order, tws.request
    fields[1:12] = _contract(tws)
    fields[12:20] = [*_main(tws), request.oca_group, tws.order.account]
    # Recorded: 0 of a filled one, the whole of one that was canceled unfilled. Of one that was filled in part it may
    # be its size or what was left (docs/facts/ibkr.md#2.10): the door says what was left.
    fields[13] = text(order.remaining_quantity)
    fields[22:25] = [request.order_ref, str(tws.perm_id), text(request.outside_rth)]
    if order.order_type in TRAILS:
        fields[_DELTA_NEUTRAL + 8] = fields[_STATUS + 4] = text(order.stop_price)
        fields[_STATUS + 5] = text(request.limit_offset)
        fields[_DELTA_NEUTRAL + 9] = text(request.trailing_percent)
    fields[_STATUS] = tws.status
    filled = text(order.filled_quantity)
    fields[fields.index("100", _STATUS)] = filled
    words = {"filled": f"Filled Size: {filled}", "rejected": f"Rejected by System: {order.reason}"}
    fields[-2] = ib_time(order.closed_at or order.received_at)
    fields[-1] = words.get(order.state, "Cancelled by Trader")
    if legs := combo_fields(request.legs):
        place = _DELTA_NEUTRAL + 11
        fields[place : place + 1] = [str(len(request.legs)), *legs]
    return encode(*fields, *(_PEGGED if version >= 170 else ()))


def _contract(tws: TwsOrder) -> list[str]:
    exchange = tws.request.contract.exchange or "SMART"
    if tws.request.legs:
        return [text(f) for f in bag_fields(tws.request.contract.symbol, exchange)]
    return [text(f) for f in contract_fields(tws.order.symbol, exchange)]


def _main(tws: TwsOrder) -> list[str]:
    """Return action, quantity, type, limit price, aux price and time in force."""
    order, request = tws.order, tws.request
    aux = order.trail_amount if order.order_type in TRAILS else order.stop_price
    # Recorded: a TRAIL order without any limit shows a lmtPrice all the same.
    limit = order.stop_price if order.order_type in TRAILS else order.limit_price
    prices = [text(value) if value is not None else "0.0" for value in (limit, aux)]
    return [request.action, text(order.quantity), request.order_type, *prices, request.tif or "DAY"]


def order_status(tws: TwsOrder, status: str | None = None) -> bytes:
    """Return orderStatus as the order stands."""
    order = tws.order
    last = order.executions[-1].price if order.executions else 0
    # Recorded: why_held "trigger" on a PreSubmitted TRAIL order; the canceling client's id on an order it canceled.
    client_id = tws.client_id if tws.canceled_by is None else tws.canceled_by
    return encode(
        *(3, tws.order_id, status or tws.status, order.filled_quantity, order.remaining_quantity),
        *(order.avg_fill_price or 0, tws.perm_id, tws.request.parent_id, last, client_id),
        *(tws.held_words, 0),
    )


def execution(tws: TwsOrder, fill: Trade, request_id: int = -1, part: MarketOrder | None = None) -> bytes:
    """Return execDetails; -1 when nobody asked; `part` is the leg that traded."""
    order = part or tws.order
    is_bag = tws.request.legs and part is None
    what = bag_fields(tws.request.contract.symbol, "SMART") if is_bag else contract_fields(order.symbol, "ISLAND", "")
    fields: list[object] = [11, request_id, tws.order_id, *what]
    side = "BOT" if order.is_buy else "SLD"
    until = [e for e in order.executions if e.cumulative <= fill.cumulative]
    average = sum((e.quantity * e.price for e in until), Decimal(0)) / (fill.cumulative or 1)
    return encode(
        *fields,
        *(_exec_id(fill), ib_time(fill.at), tws.order.account, "ISLAND", side, fill.quantity, fill.price, tws.perm_id),
        *(tws.client_id, 0, fill.cumulative, average.quantize(Decimal("0.0001")), tws.request.order_ref),
        *("", "", "", 2),
    )


def commission(fill: Trade, instead: str | None = None) -> bytes:
    """Return the commissionReport of a fill; `instead` is what stands for its amount."""
    gain: object = fill.realized if fill.realized else UNSET_DOUBLE
    amount: object = fill.commission if instead is None else instead
    return encode(59, 1, _exec_id(fill), amount, "USD", gain, UNSET_DOUBLE, "")


def _exec_id(fill: Trade) -> str:
    number, part = fill.execution_id.split(".")
    return f"00025b46.{number}.{part}.{fill.revision:02d}"


# -- ACCOUNT --


def account_values(account: Account, number: str = ACCOUNT) -> list[tuple[str, str, str]]:
    """Return key, value and currency of what TWS tells about an account."""
    stocks = account.equity - account.cash
    exposure = account.equity * 4 - account.buying_power
    money = {
        "NetLiquidation": account.equity,
        "EquityWithLoanValue": account.equity,
        "TotalCashValue": account.cash,
        "TotalCashBalance": account.cash,
        "CashBalance": account.cash,
        "SettledCash": account.cash,
        "StockMarketValue": stocks,
        "GrossPositionValue": abs(stocks),
        "BuyingPower": account.buying_power,
        "AvailableFunds": account.buying_power / 4,
        "ExcessLiquidity": account.buying_power / 4,
        "FullAvailableFunds": account.buying_power / 4,
        "InitMarginReq": exposure / 4,
        "MaintMarginReq": exposure / 4,
        "AccruedCash": Decimal(0),
        "RealizedPnL": account.realized,
        "UnrealizedPnL": Decimal(0),
    }
    plain = [("AccountCode", number, ""), ("AccountType", "INDIVIDUAL", ""), ("AccountReady", "true", "")]
    plain += [("DayTradesRemaining", "-1", "")]  # no limit
    return [*plain, *((key, f"{cents(value):f}", "USD") for key, value in money.items())]


def portfolio(symbol: str, position: Position, last: Decimal, realized: Decimal, account: str = ACCOUNT) -> bytes:
    """Return updatePortfolio for one position."""
    s, size = shown(symbol), multiplier(symbol)
    units = position.quantity * size
    value, gain = cents(units * last), cents(units * (last - position.avg_price))
    return encode(
        *(7, 8, con_id(symbol), s.symbol, s.kind, s.ends, s.strike, s.right or "0", s.multiplier, s.primary or s.venue),
        *(s.currency, s.local, s.trading_class),
        *(position.quantity, last, value, position.avg_price * size, gain, realized, account),
    )


def position(symbol: str, held: Position, account: str = ACCOUNT) -> bytes:
    """Return one line of the positions list; what a unit cost is told with its multiplier (docs/facts/ibkr.md#9.7)."""
    cost = held.avg_price * multiplier(symbol)
    return encode(61, 3, account, *contract_fields(symbol, shown(symbol).primary, ""), held.quantity, cost)


# -- CONTRACTS AND QUOTES --


def contract_details(request_id: int, symbol: str, asked: Contract, version: int) -> bytes:
    """Return contractDetails of what a market symbol names."""
    s, hours, step = shown(symbol), hours_of(symbol, datetime.now(UTC)), finest(symbol)
    primary, trading_class = (s.primary, s.trading_class) if listed(symbol) else listing(symbol)
    name, local, exchange = s.symbol, s.local, (asked.exchange or "SMART") if s.venue == "SMART" else s.venue
    venues = f"SMART,AMEX,NYSE,CBOE,{primary}" if s.venue == "SMART" else s.venue
    old = version < 164
    return encode(
        *((10, 8) if old else (10,)),
        *(request_id, name, s.kind, s.ends, s.strike, s.right, exchange, s.currency, local, trading_class),
        *(trading_class, con_id(symbol)),
        *((text(step), "100") if old else (text(step),)),
        *(
            s.multiplier,
            ORDER_TYPES,
            venues,
            s.parts,
            0,
            f"{name} INC",
            primary,
            s.month,
            "Technology",
            "Computers",
        ),
        *("Computers", *hours, "", "", 0),
        *(1, "", "", ",".join([str(rule_of(symbol))] * (venues.count(",") + 1)), "", "COMMON"),
        *(() if version < 163 else ("1",) if old else ("1", _lot(s.kind), "100")),
    )


def market_rule(number: int) -> bytes:
    """Return marketRule: each price, and the step from it on."""
    bands = RULES.get(number, ())
    return encode(93, number, len(bands), *(value for band in bands for value in band))


def _lot(kind: str) -> str:
    """Return the step of quantities."""
    return "0.00000001" if kind == "CRYPTO" else "1"


def quote_ticks(request_id: int, quote: Quote, day: Sequence[Decimal]) -> list[bytes]:
    """Return the ticks of a quote.

    Args:
        request_id: of the market data request.
        quote: what to tell.
        day: open, high, low of the session and the close before it; empty leaves them out.
    """
    frames: list[bytes] = []
    sides = ((1, 0, quote.bid, quote.bid_size), (2, 3, quote.ask, quote.ask_size), (4, 5, quote.last, quote.last_size))
    for price_type, size_type, price, size in sides:
        frames.append(encode(1, 6, request_id, price_type, price, size, 0))
        frames.append(encode(2, 6, request_id, size_type, size))
    frames.append(encode(2, 6, request_id, 8, quote.volume))
    frames.extend(encode(1, 6, request_id, kind, price, 0, 0) for kind, price in zip((14, 6, 7, 9), day, strict=False))
    return frames
