"""What an operator does over HTTP: the commands' own functions, each with the key's owner as `by`, and a reason.

`POST /api/v1/actions/NAME` with the fields of a form or a JSON object; `reason` is always one of them. A browser is
sent back to `next`, and its session has what was done as a notice; anybody else is told in JSON. A brake takes every
name, as the commands do: `words` say which of them nothing here has.

| name    | fields                                                                     |
|---------|----------------------------------------------------------------------------|
| cancel  | client_order_id                                                            |
| approve | client_order_id                                                            |
| deny    | client_order_id                                                            |
| resolve | client_order_id, and one of absent, noted, adopt (the broker's order id)    |
| unlock  | broker, symbol                                                             |
| halt    | a scope: broker, account, strategy, symbol, key; none is everything        |
| reduce  | the same                                                                   |
| drain   | broker                                                                     |
| resume  | a scope, or all                                                            |
| kill    | a scope; flatten, collar, external                                         |
| limit_set | name, value, until; a scope as above, strategy and symbol together as well |

A field that is there and says nothing is refused: whoever lost the name of a strategy does not mean all of them. Only
a page leaves fields blank, and `worker.page.asking.filled_in` takes those away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from models.clock import utcnow
from models.destinations import broker_of
from models.errors import ConfigurationError, InvalidRequest, Untrusted
from models.explaining import shown
from models.record.batch import change_one
from models.record.controls import NOUNS, ControlRow, KillRow, in_force
from models.record.order import cancel
from models.risk.names import LOCAL, Limit, limit_told, read_value, value_text
from models.risk.strictness import ONLY_TIGHTENED
from models.trust import must_reach
from models.vocabulary import Denial
from producers.client import OrderClient
from worker.control import controls, kill
from worker.control.known import unknown_names
from worker.control.scopes import KINDS, Scope, scope_of
from worker.orders import releases
from worker.orders.resolve import note
from worker.orders.resolve import resolve as settle
from worker.page.sessions import Visitor
from worker.positions.ledger import unlock as take
from worker.risk import changes
from worker.risk.asked import limit_scope, limit_until

Told = dict[str, object]
#: Fields that say how, not what.
_HOW = frozenset({"csrf", "next", "reason"})
#: Characters of one field.
_LONGEST = 500
_YES = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Errand:
    """What an operator asks for.

    Args:
        client: does it.
        visitor: who asks.
        fields: as they came.
    """

    client: OrderClient
    visitor: Visitor
    fields: Mapping[str, object]

    @property
    def by(self) -> str:
        """Who: in the journal for ever."""
        return self.visitor.owner

    @property
    def reason(self) -> str:
        """Why."""
        return self.need("reason")

    def text(self, name: str) -> str | None:
        """Return a field; None where it is not there.

        Raises:
            InvalidRequest: it is no text, too long, or blank.
        """
        if name not in self.fields:
            return None
        value = self.fields[name]
        if not isinstance(value, str) or len(value) > _LONGEST or "\0" in value:
            raise InvalidRequest(f"{name}: must be a text of at most {_LONGEST} characters, was {shown(value)}")
        if not (text := value.strip()):
            raise InvalidRequest(f"{name}: is blank; leave it out where nothing is meant by it")
        return text

    def need(self, name: str) -> str:
        """Return a field that has to be there.

        Raises:
            InvalidRequest: it is not.
        """
        if (value := self.text(name)) is None:
            raise InvalidRequest(f"{name}: is required")
        return value

    def flag(self, name: str) -> bool:
        """Return whether a box is ticked; in JSON true."""
        if isinstance(value := self.fields.get(name), bool):
            return value
        if (text := self.text(name)) is not None and text.lower() not in _YES:
            raise InvalidRequest(f"{name}: must be one of {', '.join(sorted(_YES))} or left out, was {shown(text)}")
        return text is not None

    def broker(self) -> str:
        """Return a configured broker's name.

        Raises:
            InvalidRequest: there is none of that name.
        """
        return self.known(Scope.of(broker=self.need("broker")).text)

    def scope(self) -> Scope:
        """Return what a control shall be about, within the bounds of the key: any name, for a brake is never refused.

        Raises:
            InvalidRequest: a name is none.
            Untrusted: the key does not reach so far.
        """
        scope = Scope.of(**{kind: self.text(kind) for kind in KINDS})
        names = scope.names
        place = names.get("broker") or names.get("account")
        self.reach(strategy=names.get("strategy"), symbol=names.get("symbol"), broker=place and broker_of(place))
        return scope

    def reach(self, strategy: str | None, symbol: str | None, broker: str | None) -> None:
        """See that the key is good for this.

        Raises:
            Untrusted: it is not.
        """
        must_reach(self.visitor.key, strategies=strategy, symbols=symbol, brokers=broker)

    def order(self) -> str:
        """Return the id of an order that the key is good for.

        Raises:
            NotFound: there is no such order.
            Untrusted: it is not.
        """
        order = self.client.order(self.need("client_order_id"))
        self.reach(order.row["strategy"], order.row["symbol"], order.row["broker"])
        return order.client_order_id

    def known(self, place: str) -> str:
        """Return a broker, or an account of one such as `ibkr:ira`.

        Raises:
            InvalidRequest: there is none of that name.
        """
        with _said_wrongly():
            self.client.settings.must_know(place)
        return place

    def remarked(self, words: str, scope: Scope) -> str:
        """Return what was done, and which names of its scope nothing here has: they may not be what was meant."""
        return "; ".join([words, *unknown_names(self.client.database, self.client.settings, scope.names.items())])


@contextmanager
def _said_wrongly() -> Iterator[None]:
    """Let a name that no setting has be a mistake of whoever asks."""
    try:
        yield
    except ConfigurationError as error:
        raise InvalidRequest(str(error)) from None


# -- ORDERS ---
def _cancel(errand: Errand) -> Told:
    words = f"by {errand.by}: {errand.reason}"
    entry, _ = change_one(errand.client.database, errand.order(), lambda found: cancel(found, words))
    errand.client.ring_for_cancels([entry])
    return {"client_order_id": entry.id, "status": str(entry.status), "words": f"cancel of {entry.id} asked for"}


def _approve(errand: Errand) -> Told:
    """Approve an order, signed where the key may approve; whether somebody else does, `models.four_eyes` says."""
    signer = errand.visitor.signer if errand.visitor.key["may_approve"] else None
    return _decide(partial(releases.approve, signer=signer), "approved", errand)


def _decide(how: Callable[..., Mapping[str, object]], word: str, errand: Errand) -> Told:
    id_ = errand.order()
    row = how(errand.client, id_, by=errand.by, reason=errand.reason)
    return {"client_order_id": id_, "status": row["status"], "words": f"{id_} {word}"}


def _resolve(errand: Errand) -> Told:
    id_, adopt, reason = errand.order(), errand.text("adopt"), errand.reason
    absent, noted = errand.flag("absent"), errand.flag("noted")
    if [absent, noted, adopt is not None].count(True) != 1:
        raise InvalidRequest("resolve: exactly one of absent, noted and adopt has to be said")
    if noted:
        row = note(errand.client, id_, by=errand.by, reason=reason)
    else:
        row = settle(errand.client, id_, adopt=adopt, by=errand.by, reason=reason)
    return {"client_order_id": id_, "status": row["status"], "words": f"{id_} resolved"}


def _unlock(errand: Errand) -> Told:
    place, symbol = errand.known(errand.need("broker")), errand.need("symbol").upper()
    errand.reach(None, symbol, broker_of(place))
    lock = take(errand.client.database, place, symbol, by=errand.by, reason=errand.reason)
    told = {name: lock[name] for name in ("broker", "symbol", "expected", "found", "since")}
    return {**told, "words": f"{symbol} at {place} unlocked"}


# -- CONTROLS ---
def _stop(kind: str, errand: Errand) -> Told:
    scope = errand.scope()
    controls.stop(errand.client.database, scope, kind, errand.reason, errand.by)
    return {"scope_kind": scope.kind, "scope": scope.text, "words": errand.remarked(f"{kind}: {scope.words}", scope)}


def _drain(errand: Errand) -> Told:
    errand.broker()
    return _stop("drain", errand)


def _resume(errand: Errand) -> Told:
    everything, scope = errand.flag("all"), errand.scope()
    if everything and scope != Scope():
        raise InvalidRequest("resume: either a scope or all has to be said")
    ended = controls.resume(errand.client.database, None if everything else scope, by=errand.by, reason=errand.reason)
    with errand.client.database.read() as connection:
        left = in_force(connection)
    words = f"resumed: {_listed(ended) or 'nothing was stopped in that scope'}"
    told: Told = {"ended": [_told(row) for row in ended], "left": [_told(row) for row in left]}
    return told | {"words": f"{words}; still in force: {_listed(left)}" if left else words}


def _listed(rows: Iterable[ControlRow]) -> str:
    return ", ".join(f"{NOUNS[row['state']]} of {scope_of(row).words}" for row in rows)


def _told(row: ControlRow) -> Told:
    return {name: value for name, value in row.items() if name in ("scope_kind", "scope", "state", "by", "reason")}


def _kill(errand: Errand) -> Told:
    scope, flatten = errand.scope(), errand.flag("flatten")
    what: KillRow = {"flatten": flatten, "collar": _collar(errand, flatten), "external": errand.flag("external")}
    database, by, reason = errand.client.database, errand.by, errand.reason
    begun = kill.begin(database, scope, by=by, reason=reason, kill=what)
    errand.client.ring_for_cancels(begun.wished)
    told: Told = {"scope_kind": scope.kind, "scope": scope.text, "generation": begun.generation}
    return told | {"wished": len(begun.wished), "words": errand.remarked(begun.words, scope)}


def _collar(errand: Errand, flatten: bool) -> str | None:
    if (text := errand.text("collar")) is None:
        return None
    if (percent := kill.collar_of(text, flatten=flatten)) is None:
        raise InvalidRequest(f"collar: is a percentage between 0 and 100, with flatten; was {shown(text)}")
    return percent


# -- LIMITS ---
def _limit_set(errand: Errand) -> Told:
    """Set a limit that loosens none: another pair of eyes is worth nothing where one operator may take it away."""
    given, name = {kind: errand.text(kind) for kind in KINDS}, errand.need("name")
    kind, scope = limit_scope(given)
    place, symbol = (errand.known(scope) if kind in LOCAL else None), given["symbol"]
    errand.reach(given["strategy"], symbol and symbol.upper(), place and broker_of(place))
    value, until = read_value(name, errand.need("value")), limit_until(errand.text("until"), utcnow())
    if name not in ONLY_TIGHTENED:
        raise InvalidRequest(f"name: {name} is set by `corro limits` or in [risk] alone")
    limit = Limit(kind, scope, name, value, until, errand.by)
    risk, reason = errand.client.settings.risk, errand.reason
    taken = changes.set_limit(errand.client.database, risk, limit, reason=reason, only_tighter=True)
    words = f"limit: {limit_told(limit)}"
    words += f"; {taken} orders that were sent before count from now on" if taken else ""
    told: Told = {"scope_kind": kind, "scope": scope, "name": name, "value": value_text(value), "until": until}
    return told | {"words": words}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that an operator may do.

    Args:
        run: does it.
        fields: that it has, beside the reason.
        approves: a key that may approve may do it, an operator's or not.
    """

    run: Callable[[Errand], Told]
    fields: frozenset[str]
    approves: bool = False


_ORDER, _SCOPE = frozenset({"client_order_id"}), frozenset(KINDS)
ACTIONS: dict[str, Action] = {
    "cancel": Action(_cancel, _ORDER),
    "approve": Action(_approve, _ORDER, approves=True),
    "deny": Action(partial(_decide, releases.deny, "denied"), _ORDER, approves=True),
    "resolve": Action(_resolve, _ORDER | {"absent", "noted", "adopt"}),
    "unlock": Action(_unlock, frozenset({"broker", "symbol"})),
    "halt": Action(partial(_stop, "halt"), _SCOPE),
    "reduce": Action(partial(_stop, "reduce"), _SCOPE),
    "drain": Action(_drain, frozenset({"broker"})),
    "resume": Action(_resume, _SCOPE | {"all"}),
    "kill": Action(_kill, _SCOPE | {"flatten", "collar", "external"}),
    "limit_set": Action(_limit_set, _SCOPE | {"name", "value", "until"}),
}


def act(client: OrderClient, visitor: Visitor, name: str, fields: Mapping[str, object]) -> Told:
    """Do what somebody asks.

    Args:
        client: over the record.
        visitor: who.
        name: of the action.
        fields: of the form, or of the JSON object.

    Returns:
        What was done: `words` for a person, the rest for a program.

    Raises:
        CorroError: why not; nothing was done.
    """
    action = ACTIONS.get(name)
    if action is None:
        raise InvalidRequest(f"there is no action {name!r}, there are {', '.join(ACTIONS)}")
    if not visitor.may_operate and not (action.approves and visitor.key["may_approve"]):
        raise Untrusted(f"key {visitor.key['key_id']!r} is no operator's: it may not {name}", Denial.NOT_PERMITTED)
    if strange := sorted(set(fields) - action.fields - _HOW):
        raise InvalidRequest(f"{strange[0]}: {name} has no such field, there are {', '.join(sorted(action.fields))}")
    return action.run(Errand(client, visitor, fields))
