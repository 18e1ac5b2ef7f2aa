"""Who stands behind an order or a wish: pure decisions over a signature, its key, and what the key may do.

| facts                                                        | code             |
|--------------------------------------------------------------|------------------|
| no signature, and one is required here                       | not_signed       |
| no such key, or a token without a public key, or no secret   | key_unknown      |
| the signature fits for another deployment that is known      | wrong_deployment |
| the signature does not fit                                   | bad_signature    |
| the order that was recorded says something else than the text | bad_signature   |
| it is queued for another broker or account than the text's   | bad_signature   |
| the key has been revoked                                     | key_revoked      |
| now is before not_before or after not_after                  | key_expired      |
| another strategy, symbol or broker than the key's            | not_permitted    |
| its orders need approval, and nobody has given it            | not_permitted    |
| a wish about an order that is not within may_cancel          | not_permitted    |

The first row that fits decides. What fails by its signature comes from nobody, and takes no client_order_id; what fails
by its key comes from somebody, and is denied under its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from models.destinations import broker_of, destination_of
from models.errors import ConfigurationError, InvalidOrder, Untrusted
from models.instruments import Instrument
from models.lifetimes import AHEAD_S
from models.messages import OrderRequest, plain
from models.routes import is_its_route, route_of
from models.signing import Envelope, Kind, public_key, read_secret, signed_bytes, verifies
from models.vocabulary import Denial

if TYPE_CHECKING:
    from models.record.key_rows import KeyRow
    from models.record.rows import OrderRow, ReadableOrder
    from models.settings import Settings

#: Names that a signed order object has to have: who asks, for which order, from when until when. Only `strategy` may be
#: null: an order of none.
NEEDED = ("client_order_id", "created_at", "expires_at", "strategy")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys there are, the name of this deployment, and what is required.

    Args:
        keys: by key_id, revoked ones too.
        deployment: the name that signatures are made for.
        also: other names that are known, so that a signature for them can be told from a wrong one.
        require: as the setting says: auto, off, bare or all.
    """

    keys: Mapping[str, KeyRow]
    deployment: str
    also: frozenset[str] = field(default_factory=frozenset)
    require: str = "auto"

    @property
    def required(self) -> str:
        """What is required now: off, bare or all."""
        return required_by(self.require, any(key["alg"] != "token" for key in self.keys.values()))

    def key_of(self, envelope: Envelope, kind: Kind) -> KeyRow:
        """Return the key that has signed this, whatever it may do.

        Raises:
            Untrusted: nobody has.
        """
        key = self.keys.get(envelope.key_id)
        if key is None:
            raise Untrusted(f"there is no key {envelope.key_id!r}", Denial.KEY_UNKNOWN)
        secret, alg = _secret(key), key["alg"] if key["public_key"] is None else "ed25519"
        names = (self.deployment, *sorted({*self.also, envelope.deployment or ""} - {self.deployment, ""}))
        for name in names:
            if not verifies(alg, secret, signed_bytes(kind, name, envelope.text), envelope.sig):
                continue
            if name == self.deployment:
                return key
            words = f"signed for deployment {name!r}, this one is {self.deployment!r}"
            raise Untrusted(f"key {envelope.key_id!r}: {words}", Denial.WRONG_DEPLOYMENT)
        words = f"the signature fits no {kind} with this text for deployment {self.deployment!r}"
        raise Untrusted(f"key {envelope.key_id!r}: {words}", Denial.BAD_SIGNATURE)


def required_by(setting: str, has_keys: bool) -> str:
    """Return what is required, off, bare or all: by itself bare as soon as there is a key that signs."""
    return setting if setting != "auto" else "bare" if has_keys else "off"


def _secret(key: KeyRow) -> bytes:
    """Return what a signature of this key is checked with."""
    try:
        if key["public_key"] is not None:
            return public_key(key["public_key"])
        if key["secret_ref"] is not None:
            return _from_file(key["secret_ref"], Path(key["secret_ref"]).stat().st_mtime_ns)
    except (ConfigurationError, OSError) as error:
        raise Untrusted(f"key {key['key_id']!r} cannot be used here: {error}", Denial.KEY_UNKNOWN) from None
    raise Untrusted(f"key {key['key_id']!r} is a {key['alg']}: it signs nothing", Denial.KEY_UNKNOWN)


@lru_cache(maxsize=64)
def _from_file(path: str, _changed_at: int) -> bytes:
    return read_secret(path, "hmac-sha256")


# -- WHAT A KEY MAY DO ---
def must_be_valid(key: KeyRow, now: datetime) -> None:
    """See that a key is neither revoked nor out of its time.

    Raises:
        Untrusted: it is.
    """
    if key["revoked_at"] is not None:
        when = f"{key['revoked_at']:%Y-%m-%d %H:%M:%S} UTC"
        raise Untrusted(f"key {key['key_id']!r} was revoked at {when}", Denial.KEY_REVOKED)
    for name, is_over in (("not_before", -1), ("not_after", 1)):
        limit = key[name]  # type: ignore[literal-required]
        if limit is not None and (now - limit).total_seconds() * is_over > 0:
            raise Untrusted(f"key {key['key_id']!r}: {name} is {limit.isoformat()}", Denial.KEY_EXPIRED)


def must_reach(key: KeyRow, **asked: str | None) -> None:
    """See that a key is good for what is asked by the names of its bounds: strategies, symbols, brokers.

    Raises:
        Untrusted: it is not; names the bound.
    """
    for bound, value in asked.items():
        allowed = key[bound]  # type: ignore[literal-required]
        if allowed is not None and value not in allowed:
            words = f"is good for the {bound} {', '.join(allowed)}, not for {value or 'none'}"
            raise Untrusted(f"key {key['key_id']!r} {words}", Denial.NOT_PERMITTED)


def must_be_its(key: KeyRow, order: OrderRow | ReadableOrder) -> None:
    """See that a key may cancel or replace an order.

    Raises:
        Untrusted: it may not.
    """
    scope = key["may_cancel"]
    strategies = key["strategies"]
    its = {
        "own": order["key_id"] == key["key_id"],
        "strategy": strategies is None or order["strategy"] in strategies,
        "all": True,
    }[scope]
    if not its:
        words = f"may cancel and replace {scope} orders; {order['client_order_id']} is not among them"
        raise Untrusted(f"key {key['key_id']!r} {words}", Denial.NOT_PERMITTED)


# -- THE ORDER AND ITS TEXT ---
@dataclass(frozen=True, slots=True)
class Journaled:
    """What the journal tells of an order: only workers and operators write it, and nobody changes it.

    Args:
        status: that its last step has led to.
        at: when a step of a kind was last told: released, approved, cancel_requested.
        terms: that it was given by replaces, before it was sent or by its broker's word.
    """

    status: str | None
    at: Mapping[str, datetime]
    terms: Mapping[str, str]


def must_be_vouched_for(
    ring: KeyRing, order: ReadableOrder, recorded: OrderRequest, now: datetime, told: Journaled, settings: Settings
) -> KeyRow | None:
    """See that somebody who may trade stands behind a recorded order; at which broker is a question of its own.

    Args:
        ring: the keys.
        order: its row.
        recorded: the same as a request.
        now: the time.
        told: what its journal tells.
        settings: where an order goes whose text leaves that open.

    Returns:
        The key; None where it has none, and none is required.

    Raises:
        Untrusted: nobody does.
    """
    if (found := signed_by(ring, order, recorded, told, settings)) is None:
        return None
    key, signed = found
    must_be_due(signed, order, now, told)
    must_be_valid(key, now)
    must_reach(key, strategies=recorded.strategy, symbols=recorded.symbol)
    if key["needs_approval"] and "approved" not in told.at:
        raise Untrusted(f"key {key['key_id']!r}: its orders need somebody's approval", Denial.NOT_PERMITTED)
    return key


def signed_by(
    ring: KeyRing, order: ReadableOrder, recorded: OrderRequest, told: Journaled, settings: Settings
) -> tuple[KeyRow, OrderRequest] | None:
    """Return which key has signed a recorded order, whatever that may do now, and what it has signed.

    Args:
        ring: the keys.
        order: its row.
        recorded: the same as a request.
        told: what its journal tells.
        settings: where an order goes whose text leaves that open.

    Returns:
        None where it has no signature, and none is required.

    Raises:
        Untrusted: nobody has signed it, or something else.
    """
    if order["key_id"] is None and order["signed_text"] is None:
        if ring.required == "all":
            raise Untrusted("not signed: every order has to be, here ([security] require is all)", Denial.NOT_SIGNED)
        return None
    envelope = Envelope(order["signed_text"] or "", order["key_id"] or "", order["signature"] or "")
    key = ring.key_of(envelope, "order")
    try:
        signed = signed_order(envelope)
    except InvalidOrder as error:
        raise Untrusted(f"key {envelope.key_id!r} has signed no order: {error}", Denial.BAD_SIGNATURE) from None
    must_be_the_same(signed, recorded, destination_of(order), settings, told)
    return key, signed


def signed_order(envelope: Envelope) -> OrderRequest:
    """Read the order that was signed.

    Raises:
        InvalidOrder: it cannot be executed as written, or leaves out who asks and until when.
    """
    content = envelope.content()
    if missing := [
        name for name in NEEDED if content.get(name) is None and (name != "strategy" or name not in content)
    ]:
        raise InvalidOrder(f"{missing[0]}: is required in a signed order")
    return OrderRequest(**content)


def must_be_the_same(
    signed: OrderRequest,
    recorded: OrderRequest,
    where: str,
    settings: Settings,
    told: Journaled,
) -> None:
    """See that the order which was recorded is the one that was signed, and is where its text lets it be.

    Args:
        signed: as the text says.
        recorded: as the row says; it may be executed for less long, and for longer only where it was held.
        where: the destination that it is queued for.
        settings: say where an order goes whose text leaves that open.
        told: what its journal tells: somebody who may has replaced its terms since; it was held, and how long it may
            wait counts from its release.

    Raises:
        Untrusted: names the first field that differs.
    """
    released_at = told.at.get("released")
    for name in OrderRequest.model_fields:
        was, is_now = getattr(signed, name), getattr(recorded, name)
        meant = _MEANT.get(name, attrgetter(name))
        same = meant(signed) == meant(recorded)
        if name in told.terms:
            was = told.terms[name]
            same = was == (plain(is_now) if isinstance(is_now, Decimal) else str(is_now))
        elif name == "expires_at":
            until = was if released_at is None else max(was, released_at + (was - signed.created_at))
            same = is_now is not None and is_now <= until
        elif name == "route":
            same = is_its_route(signed, is_now) and _may_be_at(settings, signed, is_now)
        elif name == "account":
            is_now = where
            same = _may_be_at(settings, signed, (where,))
        if not same:
            words = f"{name} was signed as {was}, and recorded as {is_now}"
            raise Untrusted(f"{signed.client_order_id}: {words}", Denial.BAD_SIGNATURE)


def _may_be_at(settings: Settings, signed: OrderRequest, found: Sequence[str]) -> bool:
    """Tell whether an order may be in all these places: a name of its route means what the settings make of it.

    Which queue it came through is signed by nobody: where the text names no route, any broker may be first. A broker
    that these settings do not have gets nothing through them; whoever works for it judges by its own.
    """
    return all(_leads_to(settings, signed, where) for where in found if broker_of(where) in settings.all_brokers)


def _leads_to(settings: Settings, signed: OrderRequest, where: str) -> bool:
    here = broker_of(where)
    named = [name for name in signed.route or () if broker_of(name) == here]
    if signed.route and not named:
        return False
    try:
        return where in route_of(settings, signed.model_copy(update={"route": named}), here)
    except InvalidOrder:
        return False


def must_be_due(signed: OrderRequest, order: ReadableOrder, now: datetime, told: Journaled) -> None:
    """See that an order which waits to be sent has come to that by its steps, and not before its time.

    Raises:
        Untrusted: somebody has set its row back, or has let it out of a hold.
    """
    if told.status != order["status"]:
        words = f"its row says {order['status']}, its journal {told.status}"
        raise Untrusted(f"{signed.client_order_id}: {words}", Denial.BAD_SIGNATURE)
    if signed.not_before is not None and (signed.not_before - now).total_seconds() > AHEAD_S:
        words = f"is not to be sent before {signed.not_before.isoformat()}"
        raise Untrusted(f"{signed.client_order_id}: {words}", Denial.BAD_SIGNATURE)


def _instrument(request: OrderRequest) -> Instrument | None:
    """Return what is traded, however much of it was said; None where a row from outside says nonsense."""
    try:
        return request.instrument
    except ValueError:
        return None


#: What two orders have to have alike where it is not the words of a field; of `preview` no row has anything.
_MEANT: Mapping[str, Callable[[OrderRequest], object]] = {
    "tags": lambda request: request.tags or [],
    "asset_class": _instrument,
    "currency": _instrument,
    "preview": lambda _: None,
}
