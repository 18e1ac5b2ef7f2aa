"""The check: what the doors' ledger and the database's rows say of every order, and where they disagree.

It shares no code with what it checks: the ledger is folded here anew, the database is read by plain SQL, and an order
is recognised at a door by its symbol and quantity, which only it has, before any id is believed.

* duplicate: more than one live or filled order for one intent, more shares than ordered, or an attempt that may
  still be alive beside one that is.
* loss: an order that was recorded and is in no book; one that ends nowhere; a fill at a door that our books lack.
* false terminal: an end, a quantity or a price that we told and the doors do not show, or an end that we had to take
  back.

Every one of linked orders is judged so, and besides: exits that exclude each other have not filled more than their
entry has, or than one of them is for, with those that `on_partial` has sent for them; what waits for an order has not
filled more than it. They are recognised by their direction and type as well. An order with legs is judged leg by leg
(:mod:`tests.soak.legs`).

Beside them, whether an order of somebody else was touched: taken for ours, or canceled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import create_engine, text

from tests.soak import legs, linked
from tests.soak.doors import AtDoor, Intent, Key, Row

TERMINAL = ("filled", "canceled", "rejected", "denied", "expired")
LIVE = ("accepted", "partially_filled", "pending_cancel")
#: Brokers where nothing proves that they do not have an order.
UNPROVABLE = ("ibkr", "tda", "schwab")
#: Prices agree when their worth differs by less a share: IB's averages have four decimals.
_FINEST = Decimal("0.002")


@dataclass
class SoakVerdict:
    """What was found in one world."""

    duplicates: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    false_terminals: list[str] = field(default_factory=list)
    #: Orders of somebody else that we took for ours, or canceled.
    touched: list[str] = field(default_factory=list)
    #: Not finished: the caller may wait and look again.
    unfinished: list[str] = field(default_factory=list)
    #: client_order_id -> what became of it, and seconds until that was known (None: it is not known).
    became: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    #: client_order_id -> (created, settled) as seconds since 1970, and the brokers that it was at.
    spans: dict[str, tuple[float, float, frozenset[str]]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not (self.duplicates or self.losses or self.false_terminals or self.touched)


def read_books(url: str) -> dict[str, list[Row]]:
    """Read our books: four tables, as they are."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return {
                name: [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
                for name in ("orders", "attempts", "fills", "order_events")
            }
    finally:
        engine.dispose()


def judge(intents: Sequence[Intent], entries: Sequence[AtDoor], books: Mapping[str, Sequence[Row]]) -> SoakVerdict:
    """Compare."""
    verdict = SoakVerdict()
    rows = {row["client_order_id"]: row for row in books["orders"]}
    tries, fills, events = (_by_order(books[name]) for name in ("attempts", "fills", "order_events"))
    strangers = [entry for entry in entries if entry.stranger]
    verdict.touched += [f"canceled by us: {entry}" for entry in strangers if entry.state == "canceled"]
    verdict.touched += _adopted(strangers, books["attempts"])
    intents = [*intents, *linked.protecting(intents, rows)]
    placed = _assign(verdict, intents, [entry for entry in entries if not entry.stranger], tries)
    groups: dict[str | None, list[Intent]] = defaultdict(list)
    for intent in intents:
        if intent.group is not None:
            groups[intent.group].append(intent)
    for intent in intents:
        id_ = intent.client_order_id
        row = rows.get(id_)
        if row is None:
            if intent.recorded or placed[id_]:
                verdict.losses.append(f"{id_}: its submit returned, but no row has it {_at(placed[id_])}")
            verdict.became[id_] = ("never recorded", None)
            continue
        kin = [other.client_order_id for other in groups.get(intent.group, []) if other is not intent]
        case = _Case(intent, row, tries[id_], fills[id_], events[id_], placed[id_], strangers)
        case.kin_tries = [attempt for other in kin for attempt in tries[other]]
        case.kin_entries = [entry for other in kin for entry in placed[other]]
        case.kin_canceled = any(rows[other]["cancel_requested_at"] for other in kin if other in rows)
        case.judge(verdict)
    for group, members in groups.items():
        verdict.duplicates += linked.overfills(members, placed, [i for i in intents if i.protects == group])
    for id_ in set(rows) - {intent.client_order_id for intent in intents}:
        verdict.losses.append(f"{id_}: in our books, but nobody asked for it")
    return verdict


def _adopted(strangers: Sequence[AtDoor], tries: Iterable[Row]) -> list[str]:
    """Say which orders of strangers an attempt of ours takes for its own, by the broker's id."""
    theirs = {(entry.door, entry.wire_id): entry for entry in strangers if entry.wire_id}
    return [
        f"{t['client_order_id']} took for its own: {theirs[t['broker'], t['broker_order_id']]}"
        for t in tries
        if t["outcome"] == "accepted" and (t["broker"], t["broker_order_id"]) in theirs
    ]


def _by_order(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["client_order_id"]].append(row)
    return found


def _at(entries: Sequence[AtDoor]) -> str:
    return f"({', '.join(map(str, entries)) or 'at no door'})"


def _assign(
    verdict: SoakVerdict, intents: Sequence[Intent], entries: Sequence[AtDoor], tries: Mapping[str, list[Row]]
) -> dict[str, list[AtDoor]]:
    """Say whose every order at a door is: by what it is for; among twins by the ids that our books noted."""
    owners: dict[Key, list[Intent]] = defaultdict(list)
    for intent in intents:
        for key in intent.keys:
            owners[key].append(intent)
    theirs = {
        (t["broker"], t["broker_order_id"]): id_ for id_, found in tries.items() for t in found if t["broker_order_id"]
    }
    placed: dict[str, list[AtDoor]] = defaultdict(list)
    open_ends: list[tuple[AtDoor, list[Intent]]] = []
    for entry in entries:
        twins = owners.get(entry.key, [])
        names = {twin.client_order_id for twin in twins}
        told = entry.client_order_id and entry.client_order_id.partition("~")[0]
        noted = told or theirs.get((entry.door, entry.wire_id or ""))
        if not twins or (told and told not in names):
            verdict.duplicates.append(f"nobody asked for {entry} in {entry.symbol}")
        elif len(twins) == 1:
            placed[twins[0].client_order_id].append(entry)
        elif noted in names:
            placed[str(noted)].append(entry)
        else:
            open_ends.append((entry, twins))
    for entry, twins in open_ends:
        owner = _likeliest(entry, twins, tries, placed)
        if owner is not None:
            placed[owner].append(entry)
        elif entry.counts:
            verdict.duplicates.append(f"{entry} in {entry.symbol} is one more than the twins asked for")
    for (symbol, quantity, money, *_), twins in owners.items():
        alive = [e for twin in twins for e in placed[twin.client_order_id] if e.counts]
        if len(alive) > len(twins) > 1:  # a single one is counted by itself
            verdict.duplicates.append(f"{len(twins)} orders for {quantity or money} {symbol}, but {_at(alive)}")
    return placed


def _likeliest(
    entry: AtDoor, twins: Sequence[Intent], tries: Mapping[str, list[Row]], placed: Mapping[str, list[AtDoor]]
) -> str | None:
    """Say which twin an order at a door belongs to, whose number nobody noted: one that has an attempt to spare there.

    Which of them it is makes no difference to the sums; a refusal goes to one that says it was refused.
    """
    wanted = ("refused",) if entry.was_refused else ("unknown", "sending", "accepted", "absent", "not_sent")
    found = []
    for twin in twins:
        id_ = twin.client_order_id
        here = [t for t in tries[id_] if t["broker"] == entry.door and not t["broker_order_id"]]
        known = [e for e in placed[id_] if e.door == entry.door and e.client_order_id is None]
        if here and not (entry.counts and any(e.counts for e in placed[id_])):
            fits = any(t["outcome"] in wanted for t in here)
            found.append((not fits, len(known), id_))
    return min(found)[2] if found else None


@dataclass
class _Case:
    """One order, both sides of it."""

    intent: Intent
    row: Row
    tries: list[Row]
    fills: list[Row]
    events: list[Row]
    entries: list[AtDoor]
    #: Orders of somebody else, at any door.
    strangers: Sequence[AtDoor] = ()
    #: Of the other legs of its group: what is at doors, their attempts, whether a cancel of one was wished.
    kin_entries: Sequence[AtDoor] = ()
    kin_tries: Sequence[Row] = ()
    kin_canceled: bool = False

    def judge(self, verdict: SoakVerdict) -> None:
        self._duplicates(verdict)
        self._losses(verdict)
        self._false_ends(verdict)
        if self.intent.parts:
            self._legs(verdict)
        verdict.became[self.row["client_order_id"]] = (self._became(), self._settled_after())
        verdict.spans[self.row["client_order_id"]] = self._span()

    # -- TWICE ---
    def _duplicates(self, verdict: SoakVerdict) -> None:
        alive = [e for e in self.entries if e.counts]
        exposed, most = sum(map(self._exposed, alive), Decimal(0)), self.intent.money or self.intent.quantity
        if len(alive) > 1 or exposed > most:
            verdict.duplicates.append(self._say(f"{len(alive)} orders live or filled, {exposed} of {most}"))
        open_ = [t for t in self.tries if t["outcome"] in ("sending", "unknown")]
        known = [e for e in alive if e.door not in {t["broker"] for t in open_}]
        if len(open_) > 1 or (open_ and known):
            verdict.duplicates.append(self._say(f"{len(open_)} attempts may be live beside {_at(known)}"))

    def _exposed(self, entry: AtDoor) -> Decimal:
        """Return how much an order has traded, or may: shares, or money where it is of money.

        What somebody has put right since says nothing of what was spent then.
        """
        if self.intent.money is None:
            return entry.quantity if entry.state == "live" else entry.filled
        return self.intent.money if entry.state == "live" or entry.amended else entry.spent

    def _legs(self, verdict: SoakVerdict) -> None:
        found = legs.look(self.intent, self.row, self.fills, self.entries)
        verdict.duplicates += map(self._say, found.duplicates)
        verdict.losses += map(self._say, found.losses)
        verdict.false_terminals += map(self._say, found.false_terminals)

    # -- LOST ---
    def _losses(self, verdict: SoakVerdict) -> None:
        filled = sum((e.filled for e in self.entries), Decimal(0))
        booked, listed = (
            _number(self.row["filled_quantity"]),
            sum((_number(f["quantity"]) for f in self.fills), Decimal(0)),
        )
        if booked != listed and not self.intent.parts:
            verdict.losses.append(self._say(f"{booked} filled in its row, {listed} in its fills"))
        if filled > booked and not self._is_listed():
            verdict.losses.append(self._say(f"{filled} filled at the doors, {booked} in our books"))
        if filled < booked:
            verdict.false_terminals.append(self._say(f"{booked} filled in our books, {filled} at the doors"))
        status = self.row["status"]
        if status in LIVE and not any(e.state == "live" for e in self.entries):
            verdict.losses.append(self._say("live in our books, at no door"))
        if status in ("queued", "submitted") and not (self._is_listed() and self._needs_a_person()):
            verdict.unfinished.append(self._say("has not ended"))

    def _is_listed(self) -> bool:
        """It waits for evidence, and `corro unresolved` shows it."""
        return self.row["status"] not in TERMINAL and (
            any(t["outcome"] == "unknown" for t in self.tries) or self._is_unclear()
        )

    def _is_unclear(self) -> bool:
        """All of its executions were taken back before we saw one, and its broker goes on to call it filled."""
        busted = any(e.amended and e.executions and not e.filled for e in self.entries)
        return busted and self.row.get("reason_code") == "unclear_at_broker"

    def _needs_a_person(self) -> bool:
        """Nothing proves what became of it at its broker, or a stranger's order has its id there."""
        if self._is_unclear():
            return True
        tries = [t for t in (*self.tries, *self.kin_tries) if t["outcome"] == "unknown"]
        return any(t["broker"] in UNPROVABLE or self._is_taken(t) for t in tries)

    def _is_taken(self, attempt: Row) -> bool:
        """Under the id of this attempt stands an order of somebody else."""
        names = {(e.door, e.client_order_id) for e in self.strangers}
        return (attempt["broker"], attempt["broker_client_order_id"]) in names

    # -- A GUESS TOLD AS A FACT ---
    def _false_ends(self, verdict: SoakVerdict) -> None:
        status = self.row["status"]
        words = [*self._taken_back(), *self._false_attempts()]
        words += [] if self.intent.parts else self._false_prices()
        if status in TERMINAL and any(e.state == "live" for e in self.entries):
            words.append("ended in our books, live at a door")
        traded = any(e.state == "filled" for e in self.entries)
        if status == "filled" and not traded:
            words.append("no door has filled it")
        if status in ("rejected", "denied", "expired") and any(e.counts for e in self.entries):
            words.append("traded or live at a door")
        if status == "canceled" and traded:
            words.append("filled at a door")
        if status == "rejected" and not any(e.was_refused for e in (*self.entries, *self.kin_entries)):
            words.append("no door has refused it")
        refused_at = {e.door for e in self.kin_entries if e.was_refused}  # a leg dies with its lead
        taken = [e for e in self.entries if e.was_taken and not e.was_refused and e.door not in refused_at]
        if status == "denied" and taken:
            words.append("a door had it")
        if status == "canceled" and not self._may_be_canceled():
            words.append("nobody canceled it")
        verdict.false_terminals += [self._say(word) for word in words]

    def _may_be_canceled(self) -> bool:
        ended_in_part = any(e.filled and e.state != "live" for e in self.entries)
        return (
            bool(self.row["cancel_requested_at"])
            or self.kin_canceled
            or ended_in_part
            or any(e.state in ("canceled", "replaced") for e in self.entries)
        )

    def _false_prices(self) -> list[str]:
        """Hold prices against the doors'; one that is not known, and says so, is no claim."""
        fills = [f for f in self.fills if _number(f["quantity"])]
        theirs = [pair for e in self.entries for pair in e.executions.values() if pair[0]]
        shares = sum((quantity for quantity, _ in theirs), Decimal(0))
        if any(f["price"] is None for f in fills) or shares != _number(self.row["filled_quantity"]):
            return []  # how many is judged elsewhere
        known = {price for _, price in theirs}
        odd = [f["price"] for f in fills if not f["inferred"] and not any(_agree(f["price"], p) for p in known)]
        found = [f"an execution at {price}, the doors have {sorted(map(str, known))}" for price in odd]
        worth = sum((quantity * price for quantity, price in theirs), Decimal(0))
        booked = sum((_number(f["quantity"]) * _number(f["price"]) for f in fills), Decimal(0))
        if abs(worth - booked) > _FINEST * shares:
            found.append(f"traded for {booked} in our books, for {worth} at the doors")
        average = self.row["avg_fill_price"]
        if shares and average is not None and not _agree(average, worth / shares):
            found.append(f"{average} on average in its row, {worth / shares} at the doors")
        return found

    def _taken_back(self) -> list[str]:
        """An end that was followed by another one was never one."""
        moves = [(e["from_status"], e["to_status"]) for e in self.events if e["from_status"] in TERMINAL]
        return list(dict.fromkeys(f"told {a}, then {b}" for a, b in moves if b not in (a, None)))

    def _false_attempts(self) -> list[str]:
        """Ends of attempts, held against what reached that door under that attempt's id."""
        ids = Counter((t["broker"], t["broker_client_order_id"]) for t in self.tries)
        found = []
        for attempt in self.tries:
            broker, theirs = attempt["broker"], attempt["broker_client_order_id"]
            mine = [e for e in self.entries if e.door == broker and e.client_order_id == theirs]
            if ids[broker, theirs] > 1:
                continue
            if attempt["outcome"] in ("absent", "not_sent") and any(e.was_taken for e in mine):
                found.append(f"attempt {attempt['attempt_no']} is {attempt['outcome']}, but {_at(mine)}")
            if attempt["outcome"] == "refused" and any(e.counts for e in mine):
                found.append(f"attempt {attempt['attempt_no']} is refused, but {_at(mine)}")
        return found

    # -- WHAT BECAME OF IT ---
    def _became(self) -> str:
        status = self.row["status"]
        if status == "filled":
            brokers = [t["broker"] for t in sorted(self.tries, key=lambda t: t["attempt_no"])]
            if len(brokers) == 1:
                return "filled at once"
            return "filled elsewhere" if brokers[-1] != self.intent.route[0] else "filled later"
        if self._is_listed():
            return "unresolved, listed"
        return "resting" if status in LIVE else str(status)

    def _span(self) -> tuple[float, float, frozenset[str]]:
        ends = [_time(self.row[name]) for name in ("accepted_at", "closed_at") if self.row[name] is not None]
        brokers = {t["broker"] for t in self.tries} | {self.row["broker"]}
        return _time(self.row["created_at"]), min(ends, default=float("inf")), frozenset(brokers)

    def _settled_after(self) -> float | None:
        began, ended, _ = self._span()
        return None if ended == float("inf") else ended - began

    def _say(self, words: str) -> str:
        tries = [f"{t['attempt_no']} {t['broker']} {t['outcome']} {t['code'] or ''}".strip() for t in self.tries]
        return f"{self.row['client_order_id']} [{self.row['status']}]: {words}; attempts {tries}; {_at(self.entries)}"


def _agree(ours: Any, theirs: Decimal) -> bool:
    return abs(_number(ours) - theirs) <= _FINEST


def _number(value: Any) -> Decimal:
    return Decimal(str(value))


def _time(value: Any) -> float:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
