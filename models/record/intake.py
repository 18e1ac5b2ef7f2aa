"""How an order gets its row: the same for the client that records it and for the worker that finds it in a message.

The same client_order_id with the same body is the same order; with another body it is an IdempotencyConflict and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import cast

import structlog
from sqlalchemy import Connection

from models.destinations import split
from models.errors import CorroError, IdempotencyConflict, InvalidOrder
from models.groups import objection
from models.instruments import PLAIN
from models.kinds import EXTRAS
from models.lifetimes import DatabaseClock, expiry
from models.messages import SECOND, OrderRequest
from models.record.arrivals import Arrival, MessageOrders, read_arrival, read_message, seal_of
from models.record.database import Database
from models.record.holds import LONGEST_HOLD_S, hold
from models.record.keys import KeyReader
from models.record.limits import StaticLimits
from models.record.linked import (
    Lost,
    alike,
    columns_of,
    legs_of,
    lost_legs,
    membership_of,
    must_be_free,
    on_the_wire,
    signed_apart,
    wrong_groups,
)
from models.record.rebuilt import rebuilt
from models.record.rows import AnyOrder, NewOrder, OrderRow, by_name
from models.record.sameness import must_be_named_once, same_or_conflict
from models.record.stored import IDS, insert_orders, note, stored_and_keyed, stored_rows, whole_rows
from models.record.unreadable import denied_row, without_given
from models.routes import route_of
from models.settings import Settings
from models.signing import Signs
from models.trust import required_by
from models.vocabulary import AssetClass, Denial, OrderType, Side, Status, TimeInForce

log = structlog.get_logger()

_SAME_NAME = (
    "client_order_id", "version", "strategy", "symbol", "side", "quantity", "order_type", "limit_price", "stop_price",
    "trail_amount", "trail_percent", "time_in_force", "extended_hours", "tags", "created_at", "expires_at",
    "not_before", "session", "decision_price", "notional", *EXTRAS,
)  # fmt: skip
_CLASS = ("asset_class", "currency")  #: What an instrument is, beside its symbol.
_BODY = (*_SAME_NAME, "route")
_ENUMS = {"side": Side, "order_type": OrderType, "time_in_force": TimeInForce}


def row_of(request: OrderRequest, route: Sequence[str], now: datetime, longest_s: float = 86_400.0) -> NewOrder:
    """Return the row of a new order, queued for the first broker on its route.

    Raises:
        InvalidOrder: its times are not to be believed (models/lifetimes.py).
    """
    given, (broker, account) = vars(request), split(route[0])
    row: dict[str, object] = {name: given[name] for name in _SAME_NAME}
    for name in _ENUMS:
        row[name] = str(row[name])
    row |= {
        "asset_class": str(request.instrument.asset_class),
        "currency": request.instrument.currency,
        "expires_at": _expires(request, now, longest_s),
        "status": str(Status.QUEUED),
        "route": list(route),
        "broker": broker,
        "account": account,
        "body_hash": request.body_hash,
        "available_at": now,
        "updated_at": now,
        "attempt_no": 0,
        "filled_quantity": Decimal(0),
        "reason": None,
        "reason_code": None,
        "held_for": None,
        "closed_at": None,
    }
    row["legs"] = [leg.to_wire() for leg in request.legs] if request.legs else None
    return cast("NewOrder", row | columns_of(request.group))


def _expires(request: OrderRequest, now: datetime, longest_s: float) -> datetime:
    """Return until when an order may be sent; how long one that is held may wait counts from its release."""
    created, release = request.created_at, request.not_before
    if release is None or release <= now:
        return expiry(created, request.expires_at, now, longest_s)
    life = request.expires_at - (release if request.expires_at > release else created)
    expiry(created, created + life, now, longest_s)
    return release + life


def request_of(row: AnyOrder) -> OrderRequest:
    """Return the request that a row records; it was validated when it came in."""
    columns = by_name(row)
    values = {name: columns[name] for name in _SAME_NAME}
    values |= {name: kind(str(values[name])) for name, kind in _ENUMS.items()}
    values["tags"] = [] if values["tags"] is None else values["tags"]
    named = _names_class(row)
    values |= {"asset_class": AssetClass(str(columns["asset_class"])) if named else None}
    values |= {"currency": columns["currency"] if named else None}
    values |= {"route": tuple(row["route"] or ()), "account": row["account"]}
    return rebuilt(values | {"group": membership_of(row), "legs": legs_of(row)})


def body_of(row: AnyOrder) -> dict[str, object]:
    """Return the order object that a row records; JSON writes its numbers and times as they travel."""
    columns = by_name(row)
    names = (*_BODY, *_CLASS) if _names_class(row) else _BODY
    named = [name for name in names if name not in SECOND or columns[name] is not None]
    tags = {"tags": [] if row["tags"] is None else row["tags"]}
    return {name: columns[name] for name in named} | on_the_wire(row) | tags


def _names_class(row: AnyOrder) -> bool:
    """Tell whether an order's object names its class: where the symbol says it, readers of version 1 need no more."""
    return row["asset_class"] is not None and row["asset_class"] not in PLAIN


class Intake:
    """Records new orders, and recognises those that are there already."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self.clock = DatabaseClock(database)
        self.limits = StaticLimits(settings.risk, database)
        self.keys = KeyReader(database, settings.security)
        self._longest_s = settings.timing.longest_life
        self._longest_hold_s = float(settings.risk.max_lifetime or LONGEST_HOLD_S)

    def route(self, request: OrderRequest, queue_broker: str | None = None) -> tuple[str, ...]:
        """Return the route an order takes, from the broker of its queue on; raises as `models.routes.route_of`."""
        return route_of(self.settings, request, queue_broker)

    # -- THE CLIENT'S WAY ---
    def record(
        self, requests: Sequence[OrderRequest], signer: Signs | None = None, approval: str | None = None
    ) -> Sequence[NewOrder]:
        """Record new orders in one transaction; returns the rows as they are now, in the order of the requests.

        An order that a limit forbids wherever it would go is recorded as denied.

        Args:
            requests: the orders.
            signer: signs them; None leaves them unsigned.
            approval: why somebody has to approve them, whatever limits and keys say; None where nobody has to for that.

        Raises:
            InvalidOrder, IdempotencyConflict: nothing was recorded.
            DatabaseUnavailable: nothing was recorded.
        """
        if words := objection(requests):
            raise InvalidOrder(words)
        must_be_named_once(requests)
        now = self.clock.now()
        key_id = None if signer is None else signer.key_id
        rows = alike([self._row_within_limits(request, now, key_id, approval) for request in requests])
        if signer is not None:
            # With its route in full: nothing is left to the settings of whoever reads it.
            texts = [{**one.to_wire(), "route": row["route"]} for one, row in zip(requests, rows, strict=True)]
            seals = [seal_of(signer.sign("order", text)) for text in texts]
            rows = list(map(_sealed, rows, seals))
        try:
            return self._record(requests, rows)
        except CorroError:
            raise
        except Exception as error:
            raise InvalidOrder(
                f"the database refuses to record {_names(requests)}; nothing was recorded: {_words(error)}"
            ) from error

    def _held(
        self, request: OrderRequest, row: NewOrder, now: datetime, key_id: str | None, asked: str | None = None
    ) -> NewOrder:
        """Hold an order that has to wait for its time, or for somebody's approval."""
        approval = asked or self.limits.approval(request, now) or (self.keys.approval(key_id) if key_id else None)
        return hold(row, request, now, approval, self._longest_hold_s)

    def _row_within_limits(
        self, request: OrderRequest, now: datetime, key_id: str | None, approval: str | None
    ) -> NewOrder:
        row = self._held(request, row_of(request, self.route(request), now, self._longest_s), now, key_id, approval)
        if (refused := self.limits.refusal(request, now, key_id)) is not None:
            row["status"], row["closed_at"] = str(Status.DENIED), now
            row["reason"], row["reason_code"], row["held_for"] = refused.words, str(refused.code), None
        return row

    def _record(self, requests: Sequence[OrderRequest], rows: Sequence[NewOrder]) -> Sequence[NewOrder]:
        """Insert the rows that are new, and compare the others with what is there, in one transaction."""

        def work(connection: Connection) -> Sequence[NewOrder]:
            must_be_free(connection, requests)
            new = insert_orders(connection, rows)
            must_be_free(connection, requests)
            if new == len(rows):
                return rows
            stored = stored_rows(connection, [row["client_order_id"] for row in rows])
            for request in requests:
                found = stored[request.client_order_id]
                same_or_conflict(request, found, partial(_now, found))
            return [stored[request.client_order_id] for request in requests]

        # One order is one statement; many are recorded together, or none of them.
        return (self.database.at_once if len(rows) == 1 else self.database.transact)(work)

    # -- THE QUEUE'S WAY ---
    def bodies(self, ids: Sequence[str]) -> dict[str, dict[str, object]]:
        """Return the order objects of these ids; those that no order has are left out."""
        with self.database.read() as connection:
            return {id_: body_of(row) for id_, row in whole_rows(connection, ids).items()}

    def without_row(self, ids: Sequence[str]) -> set[str]:
        """Return those ids that no order has."""
        with self.database.read() as connection:
            return set(ids) - {row["client_order_id"] for row in IDS.rows(connection, ids=ids)}

    def take(self, bodies: Sequence[Mapping[str, object]], queue_broker: str) -> dict[str, str]:
        """See that every order object of a message has a row.

        Returns:
            client_order_id -> broker of the orders that exist and match; a malformed one is recorded as denied, a
            conflicting one is noted on the order that owns the id, and neither is in the answer.
        """
        now = self.clock.now()

        def read(body: object) -> Arrival:
            arrival = read_arrival(body, self.keys.ring)
            self.route(arrival.request, queue_broker)
            return arrival

        came = read_message(bodies, read)
        if came.refused:
            self._deny([denied_row(body, why, queue_broker, now, code=code) for body, why, code in came.refused])
        known = self._known(came, queue_broker, now) if came.arrivals else {}
        if came.copies:
            with self.database.read() as connection:
                rows = stored_rows(connection, [copy.client_order_id for copy in came.copies])
            for copy in came.copies:
                if copy.client_order_id in rows:
                    self._same(copy, rows[copy.client_order_id])
        return known

    def _known(self, came: MessageOrders, queue_broker: str, now: datetime) -> dict[str, str]:
        """Return the brokers of these orders, once each has its row; those that conflict are left out."""
        with self.database.read() as connection:
            stored, keyed = stored_and_keyed(connection, list(came.arrivals))
        new = [arrival for id_, arrival in came.arrivals.items() if id_ not in stored]
        vouched = self._vouched(new, keyed, queue_broker, now)
        signed = {one.id for one in vouched}
        lost = chain(
            ((one.body, "it is not signed") for one in new if one.id not in signed),
            ((came.arrivals[id_].body, f"{id_} is {row['status']} already") for id_, row in stored.items()),
        )
        new = self._whole(vouched, came, lost, queue_broker, now)
        missing = alike([self._row(arrival, queue_broker, now) for arrival in new])
        if missing:
            for done in self._each(missing, now):
                stored |= done
            for row in missing:
                log.info("order_recorded", client_order_id=row["client_order_id"], broker=row["broker"])
        return {
            id_: stored[id_]["broker"] or queue_broker
            for id_, arrival in came.arrivals.items()
            if id_ in stored and self._same(arrival.request, stored[id_])
        }

    def _whole(
        self, new: list[Arrival], came: MessageOrders, lost: Iterable[Lost], queue_broker: str, now: datetime
    ) -> list[Arrival]:
        """Return the new orders without the legs of groups that are not whole, or whose name is taken: denied."""
        groups = {arrival.request.group.id for arrival in new if arrival.request.group is not None}
        if not groups:
            return new
        apart = {id_: why for id_, keys in came.signers().items() if (why := signed_apart(id_, keys)) is not None}
        gone = apart | lost_legs([*((body, why) for body, why, _ in came.refused), *lost])
        with self.database.read() as connection:
            wrong = wrong_groups(connection, came.legs_of(groups), gone)
        self._deny([self._alone(one, wrong[one.id], queue_broker, now) for one in new if one.id in wrong])
        return [arrival for arrival in new if arrival.id not in wrong]

    def _alone(self, arrival: Arrival, why: str, queue_broker: str, now: datetime) -> NewOrder:
        """Return the row of a leg without its group: denied, under its own id, as it can be read."""
        denied = {"status": str(Status.DENIED), "reason": why, "reason_code": None, "held_for": None, "closed_at": now}
        return cast("NewOrder", by_name(self._row(arrival, queue_broker, now)) | denied | columns_of(None))

    def _vouched(self, new: list[Arrival], keyed: bool, queue_broker: str, now: datetime) -> list[Arrival]:
        """Return the new orders that may have a row: where signatures are required, those that are signed."""
        bare = [arrival for arrival in new if arrival.envelope is None]
        if not bare or (required := required_by(self.settings.security.require, keyed)) == "off":
            return new
        why = f"not signed: a message without a row has to be, here ([security] require is {required})"
        self._deny([denied_row(one.body, why, queue_broker, now, code=Denial.NOT_SIGNED) for one in bare])
        return [arrival for arrival in new if arrival.envelope is not None]

    def _row(self, arrival: Arrival, queue_broker: str, now: datetime) -> NewOrder:
        """Return the row of an order from a message: queued, or denied under its own id where its times are wrong."""
        request, seal = arrival.request, arrival.seal
        route = self.route(request, queue_broker)
        try:
            row = row_of(request, route, now, self._longest_s)
            return _sealed(self._held(request, row, now, seal.get("key_id")), seal)
        except InvalidOrder as error:
            seen = min(request.created_at, now)  # a listing by time has it where it came
            dated = request.model_copy(update={"created_at": seen, "expires_at": seen})
            log.warning("order_denied", client_order_id=request.client_order_id, reason=str(error))
            row = _sealed(row_of(dated, route, now, self._longest_s), seal)
            return row | {"status": str(Status.DENIED), "reason": str(error), "closed_at": now, "expires_at": None}

    def _each(self, rows: Sequence[NewOrder], now: datetime) -> list[dict[str, OrderRow]]:
        """Insert rows; where the database refuses that, each alone, and what it refuses is denied."""
        ids = [row["client_order_id"] for row in rows]

        def work(connection: Connection) -> list[dict[str, OrderRow]]:
            insert_orders(connection, rows)
            return [stored_rows(connection, ids)]

        try:
            return self.database.transact(work)
        except CorroError:
            raise
        except Exception as error:
            if len(rows) > 1:
                return [done for row in rows for done in self._each([row], now)]
            body = {name: str(rows[0][name]) for name in ("client_order_id", "symbol", "side", "quantity")}
            self._deny([denied_row(body, f"the database refuses it: {_words(error)}", str(rows[0]["broker"]), now)])
            return []

    def _same(self, request: OrderRequest, row: OrderRow) -> bool:
        """Tell whether a request is the order that has its id; a conflict is noted on that order."""
        try:
            same_or_conflict(request, row, partial(_now, row))
        except IdempotencyConflict as error:
            log.error("idempotency_conflict", client_order_id=request.client_order_id, error=str(error))
            told = (request.client_order_id, row["status"], "conflict", str(error))
            self.database.transact(lambda connection: note(connection, *told))
            return False
        return True

    def _deny(self, rows: Sequence[NewOrder]) -> None:
        """Record what cannot be read as denied orders, so that somebody sees them."""

        def work(connection: Connection) -> None:
            for row in rows:
                if not insert_orders(connection, [row]):
                    status = stored_rows(connection, [row["client_order_id"]])[row["client_order_id"]]["status"]
                    note(connection, row["client_order_id"], status, "denied_copy", str(row["reason"]))

        try:
            self.database.transact(work)
        except CorroError:
            raise
        except Exception as error:
            if len(rows) == 1 and rows[0]["tags"] is None:
                raise  # not even that it came
            for row in rows:  # each alone; what is alone already, without what came from outside
                if len(rows) == 1:
                    log.warning("denied_order_unwritable", client_order_id=row["client_order_id"], error=_words(error))
                self._deny([row] if len(rows) > 1 else [without_given(row)])
            return
        for row in rows:
            log.warning("order_denied", client_order_id=row["client_order_id"], reason=row["reason"])


def _sealed(row: NewOrder, seal: Mapping[str, str]) -> NewOrder:
    """Return the row with what stands behind the order."""
    return cast("NewOrder", by_name(row) | dict(seal))


def _now(row: OrderRow) -> OrderRequest | None:
    """Return an order as its terms are now; None of one that is archived, or was denied as it came."""
    return request_of(row) if row["status"] != Status.DENIED and row["time_in_force"] is not None else None


def _words(error: Exception) -> str:
    """Return what the driver says, without the statement and its values."""
    return str(getattr(error, "orig", None) or error)[:300]


def _names(requests: Sequence[OrderRequest]) -> str:
    names = [request.client_order_id for request in requests]
    return names[0] if len(names) == 1 else f"{len(names)} orders ({', '.join(names[:5])}{' ...' if names[5:] else ''})"
