"""IBKR's own client at a TWS door whose login manages two accounts."""

from __future__ import annotations

import threading
from typing import Any

from drive_ibapi import App, order, stock
from driver import PORTS, control, eventually, report
from ibapi.execution import ExecutionFilter

USUAL, OTHER = "DU1000001", "DU1000002"


def main() -> None:
    control("/price", symbol="AAPL", price="100")
    app, told = App(), []
    app.connect("127.0.0.1", PORTS["ibkr"], 42)
    threading.Thread(target=app.run, daemon=True).start()
    seen: dict[str, Any] = {"accounts": app.got("managedAccounts")[0][0]}
    app.error = lambda number, _, code, words, *__: told.append([number, code, words.rpartition(" - ")[2]])
    first = app.got("nextValidId")[0][0]
    for number, account in enumerate(("", "DU9", OTHER), first):
        app.placeOrder(number, stock(), order(quantity=4, account=account))
    eventually(lambda: app.last(first + 2) == "Filled", "the order that names its account fills")
    app.placeOrder(first + 3, stock(), order("LMT", lmtPrice=50.0, account=USUAL))
    eventually(lambda: app.last(first + 3), "the order in the usual account rests")
    app.placeOrder(first + 3, stock(), order("LMT", lmtPrice=51.0, account=OTHER))
    eventually(lambda: any(code == 105 for _, code, _ in told), "an order does not change its account")
    app.reqAccountUpdates(True, "")
    eventually(lambda: any(number == -1 and code == 321 for number, code, _ in told), "the account has to be named")
    app.reqAccountUpdates(True, OTHER)
    app.got("accountDownloadEnd")
    app.reqPositions()
    app.got("positionEnd")
    app.reqAccountSummary(9001, "All", "TotalCashValue")
    app.got("accountSummaryEnd")
    before = len(app.heard["execDetails"])
    app.reqExecutions(9002, _of(OTHER))
    app.got("execDetailsEnd")
    app.reqAllOpenOrders()
    app.got("openOrderEnd")
    seen |= {
        "refused": sorted(row for row in told if row[1] == 321),
        "values_of": sorted({row[3] for row in app.heard["updateAccountValue"]}),
        "portfolio_of": sorted({row[-1] for row in app.heard["updatePortfolio"]}),
        # a fill whose news comes meanwhile is told a second time
        "positions": list(
            {(account, contract.symbol, str(size)) for account, contract, size, _ in app.heard["position"]}
        ),
        "summary_of": [row[1] for row in app.heard["accountSummary"]],
        "executions_of": list({row[2].acctNumber for row in app.heard["execDetails"][before:]}),
        "open_in": app.open[first + 3][1].account,
        "first": first,
    }
    app.disconnect()
    report(seen)


def _of(account: str) -> ExecutionFilter:
    wanted = ExecutionFilter()
    wanted.acctCode = account
    return wanted


main()
