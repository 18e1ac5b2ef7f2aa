"""What others do in the account of the TWS door, and numbers that are none: the faults `foreign` and `sentinel`.

`foreign` adds to every listing one row in a security of somebody else's: a holding, a filled order, an open one. Its
options: symbol, currency, exchange (where it is listed), sec_type, con_id, quantity, account, ref, client_id, time (the
text of its execution's time). `sentinel` puts its option `value` where a number belongs: with operation bars into the
close of every other bar, otherwise into commissions.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from worker.sandbox.faults import Faults
from worker.sandbox.tws.messages import ACCOUNT, ib_time, open_order_of
from worker.sandbox.tws.wire import encode

#: 100 shares of Shopify in Toronto, bought by hand in TWS.
#: What somebody else has entered, as the fault tells it.
ForeignRow = dict[str, Any]
_BLANK: ForeignRow = {
    "symbol": "SHOP", "currency": "CAD", "exchange": "TSE", "sec_type": "STK", "con_id": 195014116, "quantity": 100,
    "account": ACCOUNT, "ref": "", "client_id": 0, "price": "150.25", "perm_id": 1_999_000_001,
    "exec_id": "0000f3b5.6a1c22d1.01.01",
}  # fmt: skip


def strangers(faults: Faults, door: str) -> Iterator[dict[str, object]]:
    """Return the rows that the faults in force add to every listing."""
    for number, fault in enumerate(f for f in faults.all() if f.kind == "foreign" and f.door in (door, "*")):
        faults.note_once(fault, door)
        at = {"perm_id": _BLANK["perm_id"] + number, "exec_id": f"0000f3b5.6a1c22d{number}.01.01"}
        symbol = {} if fault.symbol is None else {"symbol": fault.symbol}
        yield _BLANK | at | {"time": ib_time(datetime.now(UTC))} | fault.options | symbol


def contract_of(row: dict[str, object], exchange: str) -> list[object]:
    """Return the eleven contract fields of a stranger's security."""
    local = row.get("local_symbol", row["symbol"])
    return [row["con_id"], row["symbol"], row["sec_type"], "", "0", "", "", exchange, row["currency"], local, local]


def position(row: ForeignRow) -> bytes:
    """Return the line of the positions list."""
    return encode(61, 3, row["account"], *contract_of(row, row["exchange"]), row["quantity"], row["price"])


def contract_details(row: ForeignRow, ours: bytes) -> bytes:
    """Return contractDetails of a stranger's security, made from those of ours (server version 164 and later)."""
    fields = ours[4:-1].decode().split("\0")
    fields[2], fields[3], fields[8], fields[9] = row["symbol"], row["sec_type"], row["currency"], row["symbol"]
    fields[12], fields[20] = str(row["con_id"]), row["exchange"]
    return encode(*fields)


def execution(row: ForeignRow, request_id: int) -> bytes:
    """Return execDetails of the filled order."""
    exchange = row["exchange"] or "DARK"
    return encode(
        *(11, request_id, 0, *contract_of(row, exchange), row["exec_id"], row["time"], row["account"], exchange, "BOT"),
        *(row["quantity"], row["price"], row["perm_id"], row["client_id"], 0, row["quantity"], row["price"]),
        *(row["ref"], "", "", "", 2),
    )


def open_order(row: ForeignRow, version: int) -> bytes:
    """Return openOrder of another order of theirs, which rests."""
    return open_order_of(
        contract_of(row, "SMART"), row["account"], row["ref"], row["client_id"], row["perm_id"] + 500, version
    )


def sentinel(faults: Faults, door: str, operation: str) -> str | None:
    """Return what stands for a number in the answers of an operation; None for what is true."""
    fault = next((f for f in faults.all() if f.kind == "sentinel" and f.door in (door, "*")), None)
    if fault is None or (fault.operation or "commission") != operation:
        return None
    faults.note_once(fault, door, operation=operation)
    return str(fault.options.get("value", "1.7976931348623157E308"))
