"""The TWS socket format: frames, fields and the placeOrder message. Pure functions; no socket, no market here.

Source: ib_insync 0.9.86 client.py and ib_async 2.1.0 client.py (`placeOrder`), server versions 157 to 176.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from decimal import Decimal, InvalidOperation
from typing import Any

from worker.sandbox.tws.contracts import Contract as Contract
from worker.sandbox.tws.contracts import con_id as con_id
from worker.sandbox.tws.contracts import contract_fields as contract_fields
from worker.sandbox.tws.contracts import ib_symbol as ib_symbol
from worker.sandbox.tws.contracts import listing as listing
from worker.sandbox.tws.contracts import read_contract as read_contract
from worker.sandbox.tws.contracts import symbol_of as symbol_of
from worker.sandbox.tws.packages import ComboLeg, read_legs

MIN_VERSION = 157
MAX_VERSION = 176
UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
#: What official clients send instead of an empty field; above 1e300 any double means unset.
_UNSET = frozenset({"", UNSET_INTEGER, "9223372036854775807", "-9223372036854775808"})
_VERSIONS = re.compile(rb"v(\d+)(?:\.\.(\d+))?")


class WireError(ValueError):
    """A message that cannot be read: the door answers error 320."""


def encode(*fields: object) -> bytes:
    """Return one frame: length prefix, then every field ended by a zero byte."""
    payload = "".join(text(f) + "\0" for f in fields).encode()
    return struct.pack(">I", len(payload)) + payload


def text(value: object) -> str:
    """Write one field the way TWS does: nothing for None, 1 and 0 for booleans, plain decimals."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    return str(value)


def agreed_version(hello: bytes) -> int:
    """Return the server version for a client's `v157..176`, or raise WireError when there is none in common."""
    match = _VERSIONS.match(hello)
    if match is None:
        raise WireError(f"not a version range: {hello!r}")
    lowest, highest = int(match[1]), int(match[2] or match[1])
    if highest < MIN_VERSION or lowest > MAX_VERSION:
        raise WireError(f"no common version with {hello!r}")
    return min(highest, MAX_VERSION)


class Fields:
    """The fields of one received message, read from left to right."""

    def __init__(self, payload: bytes) -> None:
        self._fields = payload.decode(errors="backslashreplace").split("\0")
        self._fields.pop()
        self._next = 0

    def text(self) -> str:
        """Read one field. Raises WireError at the end of the message."""
        if self._next >= len(self._fields):
            raise WireError("message too short")
        self._next += 1
        return self._fields[self._next - 1]

    def number(self) -> Decimal | None:
        """Read a number; None when unset."""
        value = self.text()
        if value in _UNSET:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation as error:
            raise WireError(f"not a number: {value!r}") from error
        return None if not number.is_finite() or abs(number) > Decimal("1e300") else number

    def integer(self, default: int = 0) -> int:
        """Read an integer; `default` when unset."""
        number = self.number()
        return default if number is None else int(number)

    def flag(self) -> bool:
        """Read a boolean."""
        return self.text() in ("1", "true", "True")

    def skip(self, count: int = 1) -> None:
        """Pass over some fields."""
        for _ in range(count):
            self.text()

    def skip_pairs(self, width: int = 2) -> None:
        """Pass over a counted list of groups."""
        self.skip(self.integer() * width)


# -- ORDERS --


@dataclass(slots=True)
class PlaceOrder:
    """One placeOrder message, as far as the sandbox trades it; prices None when unset."""

    order_id: int
    contract: Contract
    action: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    aux_price: Decimal | None
    tif: str
    oca_group: str
    account: str
    order_ref: str
    transmit: bool
    parent_id: int
    outside_rth: bool
    good_after: str = ""
    good_till: str = ""
    trail_stop_price: Decimal | None = None
    trailing_percent: Decimal | None = None
    what_if: bool = False
    limit_offset: Decimal | None = None
    display_size: int = 0
    hidden: bool = False
    algo: str = ""
    algo_params: list[list[str]] = field(default_factory=list)
    oca_type: int = 0
    legs: list[ComboLeg] = field(default_factory=list)


def request_of(told: Mapping[str, Any]) -> PlaceOrder:
    """Return a placeOrder message from the ledger, where numbers are texts."""
    kinds = {item.name: str(item.type) for item in fields_of(PlaceOrder)}
    values: dict[str, Any] = {
        name: Decimal(value) if "Decimal" in kinds[name] and value is not None else value
        for name, value in told.items()
    }
    return PlaceOrder(**{**values, "contract": Contract(**told["contract"])})


def read_place_order(fields: Fields, version: int) -> PlaceOrder:
    """Read a placeOrder message after its id, to the end, so that a client's wrong layout is noticed.

    Raises:
        WireError: too short, or something else than a number where a number belongs.
    """
    request = _read_main(fields)
    if request.contract.sec_type == "BAG":
        request.legs = read_legs(fields)
    fields.skip(2)  # sharesAllocation, discretionaryAmt
    request.good_after, request.good_till = fields.text(), fields.text()
    fields.skip(4 if version < 177 else 3)  # faGroup, faMethod, faPercentage, faProfile
    fields.skip(4)  # modelCode, shortSaleSlot, designatedLocation, exemptCode
    request.oca_type = fields.integer()
    fields.skip(17)  # rule80A to volatilityType
    if fields.text():  # deltaNeutralOrderType
        fields.skip(9)
    else:
        fields.skip(1)
    fields.skip(2)  # continuousUpdate, referencePriceType
    request.trail_stop_price, request.trailing_percent = fields.number(), fields.number()
    _skip_scale_and_hedge(fields)
    _read_clearing_and_algo(fields, request)
    request.what_if = fields.flag()
    fields.skip(4)  # orderMiscOptions, solicited, randomizeSize, randomizePrice
    _skip_tail(fields, request, version)
    return request


def _read_main(fields: Fields) -> PlaceOrder:
    """Read the beginning of placeOrder: what every order has."""
    order_id, contract = fields.integer(), read_contract(fields)
    fields.skip(2)  # secIdType, secId
    action, quantity, order_type = fields.text(), fields.number() or Decimal(0), fields.text()
    limit_price, aux_price, tif, oca_group = fields.number(), fields.number(), fields.text(), fields.text()
    account = fields.text()
    fields.skip(2)  # openClose, origin
    order_ref, transmit, parent_id = fields.text(), fields.flag(), fields.integer()
    fields.skip(2)  # blockOrder, sweepToFill
    display_size = fields.integer()
    fields.skip(1)  # triggerMethod
    outside_rth, hidden = fields.flag(), fields.flag()
    return PlaceOrder(
        order_id=order_id,
        contract=contract,
        action=action,
        quantity=quantity,
        order_type=order_type,
        limit_price=limit_price,
        aux_price=aux_price,
        tif=tif,
        oca_group=oca_group,
        account=account,
        order_ref=order_ref,
        transmit=transmit,
        parent_id=parent_id,
        outside_rth=outside_rth,
        display_size=display_size,
        hidden=hidden,
    )


def _skip_scale_and_hedge(fields: Fields) -> None:
    """Pass over scale and hedge orders, whose fields depend on each other."""
    fields.skip(2)  # scaleInitLevelSize, scaleSubsLevelSize
    increment = fields.number()
    if increment is not None and increment > 0:
        fields.skip(7)
    fields.skip(3)  # scaleTable, activeStartTime, activeStopTime
    if fields.text():  # hedgeType
        fields.skip(1)


def _read_clearing_and_algo(fields: Fields, request: PlaceOrder) -> None:
    """Pass over clearing and delta-neutral fields; an algo has as many parameters as it says."""
    fields.skip(4)  # optOutSmartRouting, clearingAccount, clearingIntent, notHeld
    if fields.flag():  # deltaNeutralContract
        fields.skip(3)
    request.algo = fields.text()
    if request.algo:
        request.algo_params = [[fields.text(), fields.text()] for _ in range(fields.integer())]
    fields.skip(1)  # algoId


def _skip_tail(fields: Fields, request: PlaceOrder, version: int) -> None:
    """Pass over the fields that newer clients send; their number depends on the version.

    Raises:
        WireError: the order has conditions.
    """
    if request.order_type == "PEG BENCH":
        fields.skip(5)
    if fields.integer():
        raise WireError("order conditions are not supported by the sandbox")
    fields.skip(2)  # adjustedOrderType, triggerPrice
    request.limit_offset = fields.number()
    fields.skip(16)  # adjustedStopPrice to usePriceMgmtAlgo
    gates = (158, 160, 162, 166, 169)  # duration, postToAts, autoCancelParent, advancedErrorOverride, manualOrderTime
    fields.skip(sum(version >= gate for gate in gates))


def split_tags(tags: str) -> Iterable[str]:
    """Return the tags of an account summary request."""
    return [tag for tag in tags.split(",") if tag]
