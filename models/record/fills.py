"""The executions of an order: each counts once, as its broker told it last.

| a report                                                   | becomes                                                |
|------------------------------------------------------------|--------------------------------------------------------|
| of an execution that is new                                | a row; what was inferred shrinks by it                 |
| of a known one, or of the same stretch under another name  | nothing but what it adds: a commission, a price        |
| of a known one, with a higher revision                     | the row as it is now: `fill_corrected`                 |
| of a known one, with other content in a listing            | the same: it was corrected while nobody listened       |
| that a known one was taken back                            | the row with nothing left: `fill_busted`               |
| the same before the execution itself came                  | a row with nothing left; what was inferred shrinks     |
| of a change to one that the record does not have           | nothing but `fill_unexplained`, where names may differ |
| that it was taken back, where no other stands              | the same, and a row with nothing left                  |
| that the broker counts more than its executions            | one inferred row for the difference                    |
| the same after one of them was taken back                  | nothing: its total may be of before                    |

Real executions split, shrink and replace what was inferred; none is ever dropped for it. Corrections may overtake what
they correct: the highest revision stands. A price that nobody told is null, never 0, and never the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import structlog

from models.encoding import plain
from models.instruments import PLAIN
from models.lifecycle import Fact, State
from models.record.leg_fills import by_legs, counted, is_nowhere, leg_of, of_its_leg, packages, traded
from models.record.linked import legs_of
from models.record.means import average, rest_price, rounded
from models.record.rows import FillRow
from models.reports import DONE, BrokerStatus, CommissionReport, FillReport, OrderReport
from models.vocabulary import Status

if TYPE_CHECKING:
    from models.record.order import OrderRecord

log = structlog.get_logger()

#: Begins the id of what we had to infer from a broker's total; what follows is our own id of the order there.
INFERRED = "inferred:"
_ZERO = Decimal(0)
_FILLED, _UNKNOWN = BrokerStatus.FILLED, BrokerStatus.UNKNOWN
#: Less than this is how a database rounds, not what a broker corrects.
_FINEST = Decimal("1E-8")
#: Two feeds that name an execution differently date it alike.
_SAME_TIME = timedelta(seconds=1)


def fill(entry: OrderRecord, attempt_no: int, report: FillReport) -> bool:
    """Record one execution; returns False if it was known, or counts for nothing."""
    if is_nowhere(entry, report):
        return False
    report = of_its_leg(entry, entry.attempts[attempt_no]["broker"], report)
    if (row := _known(entry, attempt_no, report)) is None:
        return not report.amends and _add(entry, attempt_no, report)
    if report.revision > row["revision"] or (report.busted and row["quantity"]) or _reads_otherwise(row, report):
        _correct(entry, attempt_no, row, report)
    elif not report.busted:
        _learn(entry, row, report)
    return False


def is_unexplained(entry: OrderRecord, attempt_no: int, report: FillReport) -> bool:
    """Tell whether a report changes an execution that the record does not have, under that name at least."""
    return report.amends and _known(entry, attempt_no, report) is None


def keep_bust(entry: OrderRecord, attempt_no: int, report: FillReport) -> None:
    """Keep that an unknown execution was taken back, where none is booked that could be meant under another name.

    Its row has no shares. Only by it an order that its broker calls filled, with nothing, is known to be over.
    """
    rows = _of_leg(entry, attempt_no, leg_of(entry, report))
    if report.busted and not any(row["quantity"] for row in rows if not row["inferred"]):
        _add(entry, attempt_no, report)


def unexplained(entry: OrderRecord, attempt_no: int, report: FillReport) -> str:
    """Say what such a report would change: it may mean an execution that was booked under another name."""
    broker, does = entry.attempts[attempt_no]["broker"], "takes back" if report.busted else "corrects"
    words = f"{broker} {does} execution {report.execution_id}: {_words(report.quantity, report.price)}"
    return f"{words}; the record has none of that name, so nothing was booked: compare with the broker's own page"


def filled_by(entry: OrderRecord, rows: Iterable[FillRow]) -> Decimal:
    """Return how much of an order these of its executions fill."""
    found, legs = list(rows), legs_of(entry.order)
    return _sum(found) if legs is None else packages(found, legs)


def commission(entry: OrderRecord, report: CommissionReport) -> None:
    """Take over the commission of an execution."""
    for row in entry.fills:
        if row["execution_id"] == report.execution_id:
            entry.change_fill(row, commission=report.commission, commission_currency=report.currency)


def infer(entry: OrderRecord, attempt_no: int, report: OrderReport, *, complete: bool) -> None:
    """Record the shares that a broker counts beyond its executions.

    Args:
        entry: the order.
        attempt_no: whose order at its broker the report is about.
        report: with the broker's total; an order that is filled and tells none counts its whole size where `complete`.
        complete: the executions were read before this report, so none is merely on its way.
    """
    for leg, part in by_legs(entry, report):
        _infer(entry, attempt_no, part, leg, complete=complete)


def _infer(entry: OrderRecord, attempt_no: int, report: OrderReport, leg: int | None, *, complete: bool) -> None:
    rows = _of_leg(entry, attempt_no, leg)
    real, guessed = _sum(r for r in rows if not r["inferred"]), _sum(r for r in rows if r["inferred"])
    total = report.filled_quantity or _ZERO
    if report.status is _FILLED and complete and not any(r["voided_at"] or r["revision"] for r in rows):
        # What the broker counts stands, also where it calls less than the whole order filled.
        total = (report.quantity or entry.order["quantity"] or _ZERO) if report.filled_quantity is None else total
    missing = total - real if total - real > _FINEST else _ZERO
    if any(r["voided_at"] and not r["inferred"] for r in rows):
        missing = min(missing, guessed)  # the total may have been read before the broker took one back
    price = rest_price(rows, total, report.avg_fill_price, missing)
    if missing < guessed and report.status not in DONE:
        return  # read before it traded on, perhaps
    if abs(missing - guessed) > _FINEST or (missing and price is not None):
        _guess(entry, attempt_no, missing, price, report, leg)


def filled_with_nothing(entry: OrderRecord, attempt_no: int, report: OrderReport) -> OrderReport:
    """Return an order that its broker calls filled, with no shares, as filled if all of it was taken back.

    Otherwise such words contradict themselves and are unknown: it has to be read again.
    """
    called = report.status is _FILLED or (report.status is _UNKNOWN and (report.raw_status or "").lower() == "filled")
    if not called or report.filled_quantity != 0 or report.fills:
        return report
    rows = [row for row in entry.fills_of(attempt_no) if not row["inferred"]]
    over = any(row["voided_at"] for row in rows) and not any(row["quantity"] for row in rows)
    return replace(report, status=_FILLED if over else _UNKNOWN)


# -- WHAT IS KNOWN ---
def _known(entry: OrderRecord, attempt_no: int, report: FillReport) -> FillRow | None:
    """Return the row of an execution: by its id, or by the stretch of the order that it fills.

    Two feeds of one broker may name the same execution differently, but each share is filled once.
    """
    theirs = (entry.attempts[attempt_no]["broker"], report.execution_id)
    same = next((row for row in entry.fills if (row["broker"], row["execution_id"]) == theirs), None)
    if same is not None or report.cumulative_quantity is None:
        return same
    low, high = report.cumulative_quantity - report.quantity, report.cumulative_quantity
    for row in _of_leg(entry, attempt_no, leg_of(entry, report)):
        end = row["cumulative_quantity"]
        if end is None or row["inferred"]:
            continue
        if row["voided_at"] is None and end - row["quantity"] <= low and high <= end:
            return row
        if row["voided_at"] is not None and end == high and abs(row["filled_at"] - report.filled_at) <= _SAME_TIME:
            return row
    return None


def _of_leg(entry: OrderRecord, attempt_no: int, leg: int | None) -> list[FillRow]:
    """Return the executions of one leg; in an order of one instrument, where `leg` is None, all."""
    return [row for row in entry.fills_of(attempt_no) if row["leg"] == leg]


def _reads_otherwise(row: FillRow, report: FillReport) -> bool:
    """Tell whether a listing shows another size or price than the record has under the same id and revision."""
    same = report.listed and not report.busted and row["execution_id"] == report.execution_id
    if not same or row["revision"] != report.revision or row["voided_at"] is not None:
        return False
    pairs = [(report.quantity, row["quantity"]), (report.price, row["price"])]
    return any(new is not None and old is not None and abs(new - old) > _FINEST for new, old in pairs)


def _sum(rows: Iterable[FillRow]) -> Decimal:
    return sum((row["quantity"] for row in rows), _ZERO)


# -- WHAT IS NEW ---
def _add(entry: OrderRecord, attempt_no: int, report: FillReport) -> bool:
    """Add an execution, and let guesses give way to it; tells whether it came late."""
    row = _row(entry, attempt_no, report)
    before = _sum(_of_leg(entry, attempt_no, row["leg"]))
    entry.add_fill(row)
    if report.busted:
        _bust_unknown(entry, attempt_no, row, report)
        return False
    covered = _give_way(entry, attempt_no, row, before)
    detail = _told(row, row["quantity"], row["price"])
    if covered == row["quantity"]:
        entry.note("fill_told", f"{detail}, which was inferred")
    else:
        more = counted(entry, row["quantity"] - covered)
        step = entry.happen(Fact.FILLED, attempt_no=entry.speaker(attempt_no), quantity=more, detail=detail)
        row["late"] = step.late
    average(entry)
    return bool(covered < row["quantity"])


def _bust_unknown(entry: OrderRecord, attempt_no: int, row: FillRow, report: FillReport) -> None:
    """Take back an execution that was never told here: its broker counted it, so it is in what was inferred."""
    guesses = [r for r in _of_leg(entry, attempt_no, row["leg"]) if r["inferred"] and r["quantity"]]
    taken = min(report.quantity, _sum(guesses))
    _take_out(entry, guesses, taken, report.price)
    detail = f"{_told(row, report.quantity, report.price)}, before it was told here"
    if taken:
        change = counted(entry, -taken)
        entry.happen(Fact.FILL_BUSTED, attempt_no=entry.speaker(attempt_no), quantity=change, detail=detail)
        log.error("fill_busted", client_order_id=entry.id, broker=row["broker"], change=plain(-taken), detail=detail)
        average(entry)
    else:
        entry.note("fill_busted", detail)


def _give_way(entry: OrderRecord, attempt_no: int, row: FillRow, before: Decimal) -> Decimal:
    """Take out of what was inferred what a real execution explains; returns how many shares that were."""
    rows = _of_leg(entry, attempt_no, row["leg"])
    guesses = [r for r in rows if r["inferred"] and r["quantity"]]
    if not guesses:
        return _ZERO
    told = max(before, row["cumulative_quantity"] or _ZERO)
    guessed = _sum(guesses)
    left = min(guessed, max(told - _sum(r for r in rows if not r["inferred"]), _ZERO))
    covered = guessed - left
    _take_out(entry, guesses, covered, row["price"])
    return covered


def _take_out(entry: OrderRecord, guesses: Iterable[FillRow], quantity: Decimal, price: Decimal | None) -> None:
    """Take shares that traded at a price out of what was inferred, one row after the other."""
    rest = quantity
    for guess in guesses:
        part = min(rest, guess["quantity"])
        rest -= part
        _shrink(entry, guess, guess["quantity"] - part, part, price)


def _shrink(entry: OrderRecord, guess: FillRow, left: Decimal, part: Decimal, price: Decimal | None) -> None:
    """Leave less of an inferred execution; its price goes on telling the mean that the broker told."""
    mean = guess["price"]
    worth = None if mean is None or price is None else guess["quantity"] * mean - part * price
    rest = rounded(worth / left, 9) if worth is not None and worth > 0 and left else None
    voided = None if left else entry.now
    entry.change_fill(guess, quantity=left, price=rest if left else guess["price"], voided_at=voided)


def _row(entry: OrderRecord, attempt_no: int, report: FillReport) -> FillRow:
    """Return the row of an execution."""
    symbol, leg, side = traded(entry, report)
    return {
        "broker": entry.attempts[attempt_no]["broker"],
        "account": entry.attempts[attempt_no]["account"],
        "execution_id": report.execution_id,
        "client_order_id": entry.id,
        "attempt_no": attempt_no,
        "symbol": symbol,
        "leg": leg,
        "side": side,
        "strategy": entry.order["strategy"],
        "quantity": _ZERO if report.busted else report.quantity,
        "price": report.price,
        "currency": report.currency or _currency(entry),
        "multiplier": report.multiplier,
        "cumulative_quantity": report.cumulative_quantity,
        "commission": report.commission,
        "commission_currency": report.commission_currency,
        "revision": report.revision,
        "inferred": report.inferred,
        "voided_at": entry.now if report.busted else None,
        "filled_at": report.filled_at,
        "recorded_at": entry.now,
        "late": False,
    }


def _currency(entry: OrderRecord) -> str | None:
    """Return the currency of an order's prices, where its broker does not tell: not every instrument is in dollars."""
    return None if entry.order["asset_class"] in PLAIN else entry.order["currency"]


def _told(row: FillRow, quantity: Decimal, price: Decimal | None) -> str:
    return f"{_words(quantity, price)} at {row['broker']}"


def _words(quantity: Decimal, price: Decimal | None) -> str:
    return f"{plain(quantity)} @ {'an unknown price' if price is None else plain(price)}"


def after_the_end(before: Status, state: State, reason: str | None) -> str:
    """Say how an order came to trade that had ended otherwise.

    Args:
        before: how it had ended.
        state: what it is now.
        reason: why it had ended.
    """
    what = "filled" if state.status is Status.FILLED else "part of it was filled"
    return f"{what} after it had ended as {before}" + (f" ({reason})" if reason else "")


def shortfall(state: State, detail: str | None, ended: str) -> str | None:
    """Say why an order that ended `filled` has fewer shares than were ordered; None where it has them.

    Args:
        state: what it is now.
        detail: what took them away.
        ended: the last end that its broker told.
    """
    if state.quantity is None or state.filled_quantity >= state.quantity:
        return None
    stands = f"its broker ended it as {ended}, and {plain(state.filled_quantity)} of {plain(state.quantity)} stand"
    return f"{stands}: {detail}" if detail else stands


# -- WHAT CHANGES ---
def _correct(entry: OrderRecord, attempt_no: int, row: FillRow, report: FillReport) -> None:
    """Let a later word of the broker stand in place of an earlier one."""
    before = row["quantity"], row["price"]
    entry.change_fill(
        row,
        revision=max(report.revision, row["revision"]),
        quantity=_ZERO if report.busted else report.quantity,
        price=row["price"] if report.price is None else report.price,
        voided_at=entry.now if report.busted else None,
        cumulative_quantity=report.cumulative_quantity or row["cumulative_quantity"],
        filled_at=report.filled_at,
    )
    _learn(entry, row, report)
    after = row["quantity"], row["price"]
    change = after[0] - before[0]
    if before != after:
        fact = Fact.FILL_BUSTED if report.busted else Fact.FILL_CORRECTED
        now = "taken back" if report.busted else f"{_words(*after)} now"
        detail = f"execution {row['execution_id']}: {_told(row, *before)} is {now}"
        entry.happen(fact, attempt_no=entry.speaker(attempt_no), quantity=counted(entry, change), detail=detail)
        tell = log.error if change else log.warning
        tell(str(fact), client_order_id=entry.id, broker=row["broker"], change=plain(change), detail=detail)
    average(entry)


def _learn(entry: OrderRecord, row: FillRow, report: FillReport) -> None:
    """Take over what a report adds to a known execution; it takes nothing away."""
    for name in ("commission", "commission_currency", "currency", "multiplier"):
        if (value := getattr(report, name)) is not None:
            entry.change_fill(row, **{name: value})
    if row["price"] is None and report.price is not None:
        entry.change_fill(row, price=report.price)
        entry.note("fill_told", f"the price of execution {row['execution_id']}: {plain(report.price)}")
        average(entry)


# -- WHAT IS INFERRED ---
def _guess(
    entry: OrderRecord,
    attempt_no: int,
    missing: Decimal,
    price: Decimal | None,
    report: OrderReport,
    leg: int | None,
) -> None:
    """Book what a broker counts beyond its executions as one inferred fill, or as more of the one there is."""
    guesses = [row for row in _of_leg(entry, attempt_no, leg) if row["inferred"]]
    guessed = _sum(guesses)
    if not guesses:
        ours = entry.attempts[attempt_no]["broker_client_order_id"]  # a broker may begin its own numbers anew
        told = FillReport(
            execution_id=f"{INFERRED}{ours}" if leg is None else f"{INFERRED}{ours}/{leg}",
            symbol=report.symbol,
            quantity=missing,
            price=price,
            filled_at=report.updated_at or entry.now,
            inferred=True,
            currency=report.currency,
            multiplier=report.multiplier,
        )
        guesses = [_row(entry, attempt_no, told)]
        entry.add_fill(guesses[0])
    else:
        for row in guesses[1:]:
            entry.change_fill(row, quantity=_ZERO, voided_at=entry.now)
        entry.change_fill(guesses[0], quantity=missing, price=price, voided_at=None if missing else entry.now)
    change, row = missing - guessed, guesses[0]
    if change > 0:
        detail = f"{_told(row, change, price)}, inferred from its total"
        more = counted(entry, change)
        step = entry.happen(Fact.FILLED, attempt_no=entry.speaker(attempt_no), quantity=more, detail=detail)
        row["late"] = row["late"] or step.late
    elif change < 0:
        detail = f"{plain(-change)} inferred at {row['broker']} are not in its total any more"
        more = counted(entry, change)
        entry.happen(Fact.FILL_CORRECTED, attempt_no=entry.speaker(attempt_no), quantity=more, detail=detail)
    average(entry)
