"""Which attempt speaks for an order: a replace that comes to nothing; two attempts that would trade side by side."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import NoResultFound

from models.errors import BrokerError, NotConnected, NotSent, OrderRejected, QuotaExhausted
from models.messages import utcnow
from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.tables import attempts, order_events, orders
from models.reports import BrokerStatus, FillReport, OrderReport
from models.settings import Settings
from models.vocabulary import Side
from tests.unit.words import Put
from worker.orders.record import Recorder
from worker.orders.succession import REPLACED_AFTER_ALL, SURPLUS, is_doubted

D = Decimal


class Contest:
    """One order in a database, and what its brokers' workers make of reports about it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings

    def told(self, *reports: Any, broker: str = "alpaca", infer: bool = False) -> Effects:
        recorder = Recorder(self.settings, broker, dedupes=True)
        with self.database.write() as connection:
            return recorder.updates(connection, reports, utcnow(), infer=infer)

    def answered(self, attempt_no: int, report: OrderReport | BrokerError, broker: str = "alpaca") -> Effects:
        with self.database.write() as connection:
            batch = OrderBatch.open(connection, ["o-1"], utcnow())
            Recorder(self.settings, broker, dedupes=True).settle(batch["o-1"], attempt_no, report)
            batch.write()
            return batch.effects

    def attempt(self, number: int, **values: Any) -> None:
        now = utcnow()
        row = {
            "client_order_id": "o-1", "attempt_no": number, "broker": "alpaca", "worker": "w", "started_at": now,
            "broker_client_order_id": f"o-1~{number}", "outcome": "sending", "lease_until": now, "checks": 0,
            "missing": 0,
        } | values  # fmt: skip
        with self.database.write() as connection:
            connection.execute(insert(attempts).values(**row))
            if row.get("replaces") is None:
                connection.execute(update(orders).values(attempt_no=number, broker=row["broker"], status="submitted"))

    @property
    def order(self) -> dict[str, Any]:
        with self.database.read() as connection:
            return dict(connection.execute(select(orders)).mappings().one())

    def row(self, number: int) -> dict[str, Any]:
        with self.database.read() as connection:
            query = select(attempts).where(attempts.c.attempt_no == number)
            return dict(connection.execute(query).mappings().one())

    @property
    def kinds(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(select(order_events.c.kind).order_by(order_events.c.id)).scalars())


@pytest.fixture
def contest(database: Database, settings: Settings) -> Contest:
    return Contest(database, settings)


def shown(number: int, status: BrokerStatus, **more: Any) -> OrderReport:
    ours = "o-1" if number == 1 else f"o-1~{number}"
    values: dict[str, Any] = {"broker_order_id": f"b{number}", "broker_client_order_id": ours}
    values |= {"symbol": "AAPL", "side": Side.BUY}
    return OrderReport(status=status, **values | more)


def executed(number: int, quantity: str, execution_id: str = "e1") -> FillReport:
    ours = "o-1" if number == 1 else f"o-1~{number}"
    return FillReport(
        execution_id=execution_id, quantity=D(quantity), price=D(50), filled_at=utcnow(), broker_client_order_id=ours,
        broker_order_id=f"b{number}", cumulative_quantity=D(quantity),
    )  # fmt: skip


def replaced_to(contest: Contest, put: Put, price: str, **second: Any) -> None:
    """A resting order whose replace its broker has taken: by a new order unless `second` says otherwise."""
    put(
        status="accepted", broker="alpaca", broker_order_id="b1", order_type="limit", limit_price=D(50),
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip
    contest.attempt(2, replaces=1, terms={"limit_price": price}, **second)
    contest.answered(2, shown(2, BrokerStatus.ACCEPTED, limit_price=D(price)))
    assert (contest.order["attempt_no"], contest.order["limit_price"]) == (2, D(price))


# -- A REPLACE THAT COMES TO NOTHING ---
def test_a_new_order_that_is_rejected_after_it_was_taken_gives_the_voice_back_to_the_old_one(
    contest: Contest, put: Put
) -> None:
    """The old order may live: nothing goes on along the route, and its terms are the order's again."""
    replaced_to(contest, put, "51")
    after = contest.told(shown(2, BrokerStatus.REJECTED, filled_quantity=D(0)))
    assert not after.rings
    assert (contest.order["status"], contest.order["broker"]) == ("accepted", "alpaca")
    assert (contest.order["attempt_no"], contest.order["broker_order_id"], contest.order["limit_price"]) == (
        1,
        "b1",
        50,
    )
    assert (contest.row(1)["outcome"], contest.row(2)["outcome"]) == ("accepted", "refused")
    assert contest.kinds[-1] == "replace_refused"


@pytest.mark.parametrize(
    ("error", "pauses"),
    [(QuotaExhausted("no turn", broker="alpaca", retry_after=0.01), 1), (NotConnected("away", broker="alpaca"), 8)],
)
def test_a_replace_that_our_own_budget_holds_back_waits_no_longer_than_an_order(
    contest: Contest, put: Put, error: NotSent, pauses: int
) -> None:
    """The budget says when the turn is; whoever comes later and later loses every turn to orders that come in time."""
    terms = {"limit_price": "51"}
    put(
        status="accepted", broker="alpaca", order_type="limit", limit_price=D(50), replace_request=terms,
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip
    for number in (2, 3, 4, 5):
        contest.attempt(number, replaces=1, terms=terms)
        contest.answered(number, error)
        asked = utcnow()
    assert contest.kinds == ["replace_not_sent"] * 4
    pause = contest.settings.timing.retry_pause * pauses
    assert 0 <= pause - (contest.order["available_at"] - asked).total_seconds() < 0.5 * pause


def test_executions_that_come_with_the_answer_to_a_replace_are_not_late(contest: Contest, put: Put) -> None:
    """Schwab and TDA: the new order is filled by the time it is read back."""
    put(
        status="accepted", broker="alpaca", broker_order_id="b1", order_type="limit", limit_price=D(50),
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip
    contest.attempt(2, replaces=1, terms={"limit_price": "51"})
    told = {"fills": (executed(2, "10"),), "filled_quantity": D(10), "limit_price": D(51)}
    contest.answered(2, shown(2, BrokerStatus.FILLED, **told))
    assert (contest.order["status"], contest.order["attempt_no"]) == ("filled", 2)
    assert "late_fill" not in contest.kinds
    assert not is_doubted(contest.row(2))


def test_the_old_order_is_followed_again_after_a_rejected_replace(contest: Contest, put: Put) -> None:
    replaced_to(contest, put, "51")
    contest.told(shown(2, BrokerStatus.REJECTED, filled_quantity=D(0)))
    after = contest.told(shown(1, BrokerStatus.ACCEPTED), executed(1, "10"))
    assert (contest.order["status"], contest.order["filled_quantity"]) == ("filled", 10)
    assert not after.strays
    assert "late_fill" not in contest.kinds


@pytest.mark.parametrize("heir", ["b2", None])
def test_an_order_replaced_by_one_that_was_rejected_has_ended(contest: Contest, put: Put, heir: str | None) -> None:
    replaced_to(contest, put, "51")
    contest.told(shown(2, BrokerStatus.REJECTED, filled_quantity=D(0)))
    contest.told(shown(1, BrokerStatus.REPLACED, replaced_by=heir))
    assert (contest.order["status"], contest.row(2)["outcome"]) == ("accepted", "unknown")  # it may work after all
    contest.answered(2, OrderRejected("no", broker="alpaca", code=REPLACED_AFTER_ALL, broker_order_id="b2"))
    after = contest.told(shown(1, BrokerStatus.REPLACED, replaced_by=heir))
    assert contest.order["status"] == "rejected"
    assert not after.rings
    assert "replaced_outside" not in contest.kinds


def test_a_new_order_that_works_after_its_rejection_speaks_again(contest: Contest, put: Put) -> None:
    replaced_to(contest, put, "51")
    contest.told(shown(2, BrokerStatus.REJECTED, filled_quantity=D(0)))
    contest.told(shown(2, BrokerStatus.ACCEPTED, limit_price=D(51)))
    assert (contest.order["attempt_no"], contest.order["limit_price"]) == (2, 51)


def test_an_order_changed_in_place_and_then_rejected_is_doubted_like_any_other(contest: Contest, put: Put) -> None:
    replaced_to(contest, put, "51", broker_client_order_id="o-1")
    rejected = shown(1, BrokerStatus.REJECTED, broker_order_id="b2", filled_quantity=D(0))
    contest.told(rejected)
    assert is_doubted(contest.row(2))
    assert contest.order["attempt_no"] == 2


# -- ONE AT A TIME ---
@pytest.mark.parametrize(("shares", "status"), [("10", "filled"), ("4", "partially_filled")])
def test_an_order_that_traded_where_it_was_given_up_is_withdrawn_where_it_went(
    contest: Contest, put: Put, shares: str, status: str
) -> None:
    put(status="queued", broker="alpaca", attempt={"outcome": "refused", "broker": "ibkr", "broker_order_id": "b1"})
    contest.attempt(2)
    contest.answered(2, shown(2, BrokerStatus.ACCEPTED))
    contest.told(executed(1, shares), broker="ibkr")
    assert (contest.order["status"], contest.order["filled_quantity"]) == (status, D(shares))
    assert (contest.row(2)["outcome"], contest.row(2)["code"]) == ("unknown", SURPLUS)
    assert is_doubted(contest.row(2))


@pytest.mark.parametrize("shares", ["10", "4"])
def test_what_is_to_be_withdrawn_still_is_when_a_part_of_it_trades_first(
    contest: Contest, put: Put, shares: str
) -> None:
    """Else all of it would trade beside what the earlier attempt has filled."""
    put(status="queued", broker="alpaca", attempt={"outcome": "refused", "broker": "ibkr", "broker_order_id": "b1"})
    contest.attempt(2)
    contest.answered(2, shown(2, BrokerStatus.ACCEPTED))
    contest.told(executed(1, shares), broker="ibkr")
    contest.told(executed(2, "1", "e2"))
    assert (is_doubted(contest.row(2)), contest.row(2)["code"]) == (True, SURPLUS)
    contest.told(shown(2, BrokerStatus.PARTIALLY_FILLED, filled_quantity=D(1)))
    assert is_doubted(contest.row(2))


def test_an_answer_that_comes_after_the_order_was_filled_elsewhere_is_withdrawn(contest: Contest, put: Put) -> None:
    put(status="queued", broker="alpaca", attempt={"outcome": "refused", "broker": "ibkr", "broker_order_id": "b1"})
    contest.attempt(2)
    contest.told(executed(1, "10"), broker="ibkr")
    assert contest.row(2)["outcome"] == "sending"
    contest.answered(2, shown(2, BrokerStatus.ACCEPTED))
    assert is_doubted(contest.row(2))


def test_what_is_read_again_withdraws_nothing_again(contest: Contest, put: Put) -> None:
    put(status="queued", broker="alpaca", attempt={"outcome": "refused", "broker": "ibkr", "broker_order_id": "b1"})
    contest.attempt(2)
    contest.answered(2, shown(2, BrokerStatus.ACCEPTED))
    contest.told(executed(1, "10"), broker="ibkr")
    contest.answered(2, shown(2, BrokerStatus.CANCELED, filled_quantity=D(0)))
    after = contest.told(executed(1, "10"), broker="ibkr", infer=True)
    assert contest.row(2)["outcome"] == "accepted"
    assert contest.kinds.count("surplus") == 1
    assert not after.strays  # nothing is left of it


@pytest.mark.parametrize("at_work", [BrokerStatus.ACCEPTED, BrokerStatus.PARTIALLY_FILLED])
def test_an_order_that_ended_here_long_ago_and_is_at_work_there_is_a_stray(
    contest: Contest, put: Put, at_work: BrokerStatus
) -> None:
    ended = {"status": "canceled", "broker": "alpaca", "closed_at": utcnow() - timedelta(minutes=2)}
    put(**ended, attempt={"outcome": "accepted", "broker_order_id": "b1"})
    assert contest.told(shown(1, at_work), infer=True).strays == [("o-1", 1)]
    assert not contest.told(shown(1, BrokerStatus.CANCELED), infer=True).strays


def test_an_end_of_a_moment_ago_is_not_doubted_by_a_listing_from_before(contest: Contest, put: Put) -> None:
    put(
        status="canceled", broker="alpaca", closed_at=utcnow(),
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip
    assert not contest.told(shown(1, BrokerStatus.ACCEPTED), infer=True).strays


def test_an_answer_that_names_an_order_from_before_the_send_is_not_believed(contest: Contest, put: Put) -> None:
    put("o-1", broker="schwab", attempt={"outcome": "sending", "broker": "schwab", "baseline": ["7", "8"]})
    for known in ("7", "8"):
        contest.answered(1, shown(1, BrokerStatus.FILLED, broker_order_id=known), broker="schwab")
        assert contest.row(1)["outcome"] == "unknown"
        assert "listed before" in contest.row(1)["message"]
    contest.answered(1, shown(1, BrokerStatus.ACCEPTED, broker_order_id="9"), broker="schwab")
    assert (contest.row(1)["outcome"], contest.order["broker_order_id"]) == ("accepted", "9")


# -- A LEG THAT ITS BROKER REPLACES ---
def test_a_leg_that_is_replaced_again_and_again_keeps_what_each_of_its_orders_has_filled(
    contest: Contest, put: Put
) -> None:
    """A smaller quantity would end it in our books while the rest of it trades."""
    put(
        status="accepted", broker="alpaca", broker_order_id="b1", order_type="limit", limit_price=D(50),
        leg="take_profit", group_id="g-1", group_kind="bracket",
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip
    whole = contest.order["quantity"]
    for number, filled, left in ((1, 4, 6), (2, 2, 4)):
        terms = {"order_type": "limit", "limit_price": D(51), "quantity": D(left)}
        heir = shown(number + 1, BrokerStatus.ACCEPTED, **terms)
        contest.told(executed(number, str(filled), f"e{number}"))
        done = {"filled_quantity": D(filled), "replaced_by": heir.broker_order_id, "heir": heir}
        contest.told(shown(number, BrokerStatus.REPLACED, **done))
    assert (contest.order["attempt_no"], contest.order["quantity"]) == (3, whole)
    assert (contest.order["status"], contest.order["filled_quantity"]) == ("partially_filled", 6)


def a_leg(contest: Contest, put: Put, **more: Any) -> None:
    """A take profit of 10 at 50 that its broker has."""
    terms = {"order_type": "limit", "limit_price": D(50), "side": "sell"}
    linked = {"leg": "take_profit", "group_id": "g-1", "group_kind": "bracket"}
    put(
        status="accepted", broker="alpaca", broker_order_id="b1", quantity=D(10), **terms | linked | more,
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip


def replaced_by(heir: OrderReport, number: int = 1) -> OrderReport:
    """Return how the order of an attempt is shown that another one has replaced."""
    return shown(number, BrokerStatus.REPLACED, side=Side.SELL, replaced_by=heir.broker_order_id, heir=heir)


@pytest.mark.parametrize(
    ("terms", "prices"),
    [
        ({"order_type": "stop", "stop_price": D(45)}, (None, D(45), None, None)),
        ({"order_type": "market"}, (None, None, None, None)),
        ({"order_type": "trailing_stop", "trail_percent": D(2)}, (None, None, None, D(2))),
        ({"order_type": "stop_limit", "stop_price": D(45), "limit_price": D(44)}, (D(44), D(45), None, None)),
    ],
)
def test_a_leg_that_is_replaced_by_an_order_of_another_type_is_that_order_from_then_on(
    contest: Contest, put: Put, terms: dict[str, Any], prices: tuple[Decimal | None, ...]
) -> None:
    a_leg(contest, put)
    heir = shown(2, BrokerStatus.ACCEPTED, side=Side.SELL, quantity=D(10), **terms)
    contest.told(replaced_by(heir))
    row = contest.order
    assert (row["status"], row["attempt_no"], row["broker_order_id"]) == ("accepted", 2, "b2")
    assert row["order_type"] == terms["order_type"]
    assert tuple(row[name] for name in ("limit_price", "stop_price", "trail_amount", "trail_percent")) == prices
    assert contest.row(1)["terms"]["limit_price"] == "50"
    contest.told(shown(2, BrokerStatus.FILLED, side=Side.SELL, filled_quantity=D(10), avg_fill_price=D(44), **terms))
    assert contest.order["status"] == "filled"


def test_a_leg_whose_new_order_lacks_what_its_type_needs_is_not_taken_for_it(contest: Contest, put: Put) -> None:
    a_leg(contest, put)
    contest.told(replaced_by(shown(2, BrokerStatus.ACCEPTED, side=Side.SELL, quantity=D(10), order_type="stop")))
    assert (contest.order["status"], contest.order["order_type"]) == ("canceled", "limit")
    assert contest.kinds[-1] == "replaced_outside"


def test_a_leg_whose_new_order_is_rejected_has_ended_and_is_not_followed_again(contest: Contest, put: Put) -> None:
    a_leg(contest, put)
    heir = shown(2, BrokerStatus.ACCEPTED, side=Side.SELL, quantity=D(10), order_type="limit", limit_price=D(51))
    contest.told(replaced_by(heir))
    for _ in range(3):  # what took its place is looked for once more, as after any replace that came to nothing
        contest.told(shown(2, BrokerStatus.REJECTED, side=Side.SELL, filled_quantity=D(0)))
        contest.told(replaced_by(heir))
    with pytest.raises(NoResultFound):
        contest.row(3)
    assert (contest.order["status"], contest.order["attempt_no"]) == ("rejected", 1)
    assert contest.order["limit_price"] == 50


def test_the_lead_of_an_oco_is_followed_like_its_other_leg(contest: Contest, put: Put) -> None:
    a_leg(contest, put, leg="first", group_kind="oco")
    heir = shown(2, BrokerStatus.ACCEPTED, side=Side.SELL, quantity=D(10), order_type="limit", limit_price=D(51))
    contest.told(replaced_by(heir))
    assert (contest.order["status"], contest.order["broker_order_id"]) == ("accepted", "b2")
    assert contest.order["limit_price"] == 51


@pytest.mark.parametrize(("kind", "leg"), [("bracket", "entry"), ("oto", "first")])
def test_an_entry_for_which_exits_wait_is_not_followed(contest: Contest, put: Put, kind: str, leg: str) -> None:
    """Whether they wait for the new order, nobody knows."""
    a_leg(contest, put, leg=leg, group_kind=kind)
    heir = shown(2, BrokerStatus.ACCEPTED, side=Side.SELL, quantity=D(10), order_type="limit", limit_price=D(51))
    contest.told(replaced_by(heir))
    assert contest.order["status"] == "canceled"
