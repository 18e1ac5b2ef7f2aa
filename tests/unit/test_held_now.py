"""What a strategy holds now, as a limit asks: kept balances, what came since, and what was corrected since."""

from __future__ import annotations

import pytest

from models.record.balance_tables import position_changes
from models.record.database import Database
from models.record.executions import held_by, held_now
from tests.unit.trades import MadeTrade, TradeLedger, keep_all

#: What the broker corrects the first execution to, once its balance is kept, and what follows.
CASES = {"corrected": (12, 7, 15), "taken back": (0, -5, 3)}


@pytest.mark.parametrize("how", CASES)
def test_a_balance_of_which_an_execution_has_changed_is_added_up_anew(how: str, database: Database) -> None:
    told, then, after = CASES[how]
    ledger = TradeLedger(database)
    ledger.trade(MadeTrade(10, "50"), MadeTrade(-5, "51"), MadeTrade(4, "60", symbol="KO"))
    keep_all(database)
    ledger.change(0, shares=told)
    with database.read() as connection:
        assert connection.execute(position_changes.select()).first() is not None, "the kept balance is stale"
        assert held_now(connection, ["dip"], ["AAPL"]) == {("dip", "AAPL"): then}
    ledger.trade(MadeTrade(8, "52"))
    with database.read() as connection:
        found = held_now(connection, ["dip"], ["AAPL", "KO"])
        assert found == {("dip", "AAPL"): after, ("dip", "KO"): 4} == held_by(connection, lambda table: table.c.id > 0)
