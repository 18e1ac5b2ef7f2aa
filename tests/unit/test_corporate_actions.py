"""Mergers, spin-offs and changes of names, as brokers tell them: they explain positions, and nobody guesses a cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.history import History
from models.record.cash import book
from models.reports import CashEventReport
from models.vocabulary import CashKind
from tests.unit.position_desk import BROKER, PositionDesk
from tests.unit.test_lot_changes import TODAY, YESTERDAY, lines, moved
from tests.unit.test_lot_changes import desk as desk
from worker.brokers.alpaca.activities import event_of
from worker.brokers.ibkr.flex import read_flex
from worker.brokers.tda.transactions import events_of

D = Decimal
AT = TODAY + timedelta(minutes=1)


def alpaca(word: str, symbol: str, quantity: str, money: str = "0") -> CashEventReport:
    return event_of(
        {
            "activity_type": word, "id": f"20261130::{word}{symbol}", "date": f"{AT:%Y-%m-%d}", "symbol": symbol,
            "qty": quantity, "net_amount": money, "created_at": AT.isoformat(), "description": "told",
        }
    )  # fmt: skip


def schwab(text: str, money: float, **moves: float) -> list[CashEventReport]:
    items = [{"instrument": {"assetType": "EQUITY", "symbol": name}, "amount": n} for name, n in moves.items()]
    return events_of(
        {
            "activityId": 77, "time": AT.isoformat(), "type": "RECEIVE_AND_DELIVER", "description": text,
            "netAmount": money, "status": "VALID",
            "transferItems": [{"instrument": {"assetType": "CURRENCY", "symbol": "CURRENCY_USD"}, "amount": 1}, *items],
        }
    )  # fmt: skip


def flex(tmp_path: Path, *rows: str) -> list[CashEventReport]:
    day = f"{AT:%Y%m%d}"
    path = tmp_path / "flex.xml"
    tags = "".join(
        f'<CorporateAction levelOfDetail="DETAIL" currency="USD" dateTime="{day}" transactionID="{n}" {row}/>'
        for n, row in enumerate(rows)
    )
    path.write_text(f"<FlexQueryResponse>{tags}</FlexQueryResponse>")
    events, odd = read_flex(path)
    assert odd == []
    return events


#: What a broker tells when 5 OLD become 10 NEW, with or without money.
MERGERS: dict[str, Any] = {
    "Alpaca": lambda path: [alpaca("MA", "OLD", "-5"), alpaca("MA", "NEW", "10", "3.5")],
    "Alpaca, a symbol": lambda path: [alpaca("SC", "OLD", "-5"), alpaca("SC", "NEW", "10")],
    "Alpaca, a reorganisation of options and of what is worthless": lambda path: [
        alpaca("WRM", "OLD", "-5"), alpaca("OPCA", "NEW", "10")
    ],
    "Schwab, one transaction": lambda path: schwab("MERGER", 3.5, OLD=-5, NEW=10),
    "Schwab, a name": lambda path: schwab("NAME CHANGE", 0, OLD=-5, NEW=10),
    "Schwab, in other words": lambda path: schwab("MANDATORY EXCHANGE", 0, OLD=-5, NEW=10),
    "IB": lambda path: flex(
        path, 'type="TC" symbol="OLD" quantity="-5" proceeds="0"', 'type="TC" symbol="NEW" quantity="10" proceeds="3.5"'
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", MERGERS.values(), ids=MERGERS)
def test_a_merger_or_a_change_of_name_explains_both_positions_and_guesses_no_cost(
    desk: PositionDesk, told: Any, tmp_path: Path
) -> None:
    desk.read()
    desk.fill("OLD", "buy", 5, strategy="a", price="100", age_s=YESTERDAY)
    desk.read(OLD=5)
    events = told(tmp_path)
    desk.database.transact(lambda connection: book(connection, BROKER, events))
    desk.read(4, OLD=0, NEW=10)
    assert desk.locks() == {}, "both are explained"
    rows = History(desk.database).positions()
    held = {(row["strategy"], row["symbol"]): (row["quantity"], row["cost"]) for row in rows}
    assert held == {("a", "OLD"): (5, 500), ("(baseline)", "OLD"): (-5, None), ("(baseline)", "NEW"): (10, None)}
    assert len(moved(desk)) == 2, "and both are said"
    assert sum(event.amount or D(0) for event in events) in (0, D("3.5")), "its money counts once"


def test_a_spin_off_gives_shares_whose_cost_nobody_told_and_leaves_the_others_as_they_are(
    desk: PositionDesk
) -> None:  # fmt: skip
    desk.read()
    desk.fill("KO", "buy", 5, strategy="a", price="100", age_s=YESTERDAY)
    desk.read(KO=5)
    desk.database.transact(lambda connection: book(connection, BROKER, [alpaca("SPIN", "NEW", "2")]))
    desk.read(4, KO=5, NEW=2)
    assert desk.locks() == {}
    assert lines(desk) == {"a": (5, 500), "(baseline)": (2, None)}
    assert moved(desk) == [f"corporate_action of {AT:%Y-%m-%d}: SPIN told"]


def test_the_shares_and_the_money_of_a_transaction_with_several_instruments_are_told_apart() -> None:
    found = schwab("MERGER", 3.5, OLD=-5, NEW=10)
    assert [(e.event_id, e.symbol, e.quantity, e.amount) for e in found] == [
        ("77", "OLD", -5, None), ("77:1", "NEW", 10, None), ("77:money", None, None, D("3.5")),
    ]  # fmt: skip
    (one,) = schwab("SPLIT", 0, OLD=5)
    assert (one.event_id, one.kind, one.quantity) == ("77", CashKind.SPLIT, 5)


@pytest.mark.parametrize("word", ["DIVWH", "WH"])
def test_what_was_withheld_is_a_tax_and_no_dividend(word: str) -> None:
    assert alpaca(word, "KO", "5", "-1.2").kind == CashKind.TAX
