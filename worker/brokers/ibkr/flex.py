"""Interactive Brokers' Flex statements, which tell by file what the API of TWS does not: cash, corporate actions.

A Flex query in Client Portal exports XML: `CashTransaction`, `CorporateAction`, `Transfer`, `OptionEAE` and
`TransactionFee` elements whose attributes are the columns that were chosen (IB's guide to Activity Flex Queries). The
same row may stand there in detail and in sum: only the detail counts. Times are the account's, New York unless it was
told otherwise. Nothing outside the file is ever read, a document type is refused, and so is a file beyond `LARGEST`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from xml.parsers import expat
from zoneinfo import ZoneInfo

from models.errors import InvalidRequest
from models.reports import CashEventReport
from models.troubles import trouble
from models.vocabulary import CashKind
from worker.brokers.values import UNREADABLE, identity, number, positive, soft

#: Bytes of the largest statement that is read.
LARGEST = 256 * 1024 * 1024
_CHUNK = 1 << 16
_NEW_YORK = ZoneInfo("America/New_York")
_TIMES = ("%Y%m%d;%H%M%S", "%Y-%m-%d;%H:%M:%S", "%Y-%m-%d, %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y%m%d", "%Y-%m-%d")

Attributes = Mapping[str, str]
#: The beginning of a cash transaction's type -> its kind, the first that fits.
_CASH = (
    ("dividend", CashKind.DIVIDEND), ("payment in lieu", CashKind.DIVIDEND), ("withholding", CashKind.TAX),
    ("871(m)", CashKind.TAX), ("broker interest", CashKind.INTEREST), ("bond interest", CashKind.INTEREST),
    ("deposit", CashKind.TRANSFER), ("other fees", CashKind.FEE), ("broker fees", CashKind.FEE),
    ("commission adj", CashKind.FEE), ("advisor fees", CashKind.FEE),
)  # fmt: skip
_ACTIONS = {"FS": CashKind.SPLIT, "RS": CashKind.SPLIT, "SD": CashKind.SPLIT}
_EXERCISES = {"exercise": CashKind.EXERCISE, "assignment": CashKind.ASSIGNMENT, "expiration": CashKind.EXPIRY}


def read_flex(path: Path) -> tuple[list[CashEventReport], list[str]]:
    """Read a statement.

    Returns:
        Its events, oldest first; and what could not be read, in words.

    Raises:
        InvalidRequest: it is no Flex statement, or too large, or carries a document type.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > LARGEST:
        raise InvalidRequest(f"{path}: a statement of more than {LARGEST >> 20} MB is not read: export fewer days")
    found: dict[str, CashEventReport] = {}
    odd: list[str] = []
    names = set[str]()

    def start(name: str, attributes: dict[str, str]) -> None:
        names.add(name)
        read = _READERS.get(name)
        if read is None or attributes.get("levelOfDetail", "DETAIL").upper() not in ("DETAIL", "TRANSACTION"):
            return
        try:
            event = read(attributes)
            found[event.event_id] = event
        except UNREADABLE as error:
            odd.append(f"{name} {attributes.get('transactionID') or ''}: {trouble(error)}")

    _parse(path, start)
    if "FlexQueryResponse" not in names:
        raise InvalidRequest(f"{path}: no FlexQueryResponse is in it: export the query as XML")
    return sorted(found.values(), key=lambda event: event.at), odd


def _parse(path: Path, start: Callable[[str, dict[str, str]], None]) -> None:
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InvalidRequest(f"{path}: no XML: {error}") from None


def _refuse(name: str, *_: object) -> None:
    """A statement has no document type; one could name other files, or grow without an end."""
    raise InvalidRequest(f"the document type {name!r} is not read: a Flex statement has none")


# -- ROWS ---
def _event(row: Attributes, kind: CashKind, detail: str, *, moves: bool, word: str) -> CashEventReport:
    amount = soft(number, row.get("amount") or row.get("proceeds") or row.get("cashTransfer"))
    quantity = soft(number, row.get("quantity")) if moves else None
    return CashEventReport(
        event_id=_id(row, word), kind=kind, at=_at(row), amount=amount or None, currency=row.get("currency") or None,
        symbol=_symbol(row), quantity=quantity or None, account_id=soft(identity, row.get("accountId")),
        detail=detail.strip(), price=soft(positive, row.get("transferPrice") or row.get("tradePrice")),
    )  # fmt: skip


def _id(row: Attributes, word: str) -> str:
    """Return IB's id of a row; where the query has none, a digest of the whole row, which is the same every time."""
    if named := row.get("transactionID") or row.get("tradeID"):
        return f"{word}:{named}"[:128]
    text = "\n".join(f"{name}={row[name]}" for name in sorted(row))
    return f"{word}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _at(row: Attributes) -> datetime:
    text = next((row[name] for name in ("dateTime", "reportDate", "date", "settleDate") if row.get(name)), "")
    text = text.removesuffix(" EST").removesuffix(" EDT")
    for form in _TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=_NEW_YORK)
        except ValueError:
            continue
    raise ValueError(f"no time in it that can be read, was {text!r}")


def _symbol(row: Attributes) -> str | None:
    """Return the symbol: share classes with a dot, options without blanks."""
    symbol = row.get("symbol", "").strip()
    if not symbol:
        return None
    return symbol.replace(" ", "") if row.get("assetCategory") in ("OPT", "FOP") else symbol.replace(" ", ".")


def _cash(row: Attributes) -> CashEventReport:
    text = row["type"].lower()
    kind = next((kind for start, kind in _CASH if text.startswith(start)), CashKind.OTHER)
    return _event(row, kind, f"{row['type']} {row.get('description', '')}", moves=False, word="cash")


def _action(row: Attributes) -> CashEventReport:
    kind = _ACTIONS.get(row.get("type", ""), CashKind.CORPORATE_ACTION)
    detail = row.get("actionDescription") or row.get("description", "")
    return _event(row, kind, f"{row.get('type', '')} {detail}", moves=True, word="action")


def _transfer(row: Attributes) -> CashEventReport:
    detail = f"{row.get('type', '')} {row.get('direction', '')} {row.get('description', '')}"
    event = _event(row, CashKind.TRANSFER, detail, moves=True, word="transfer")
    if row.get("direction") == "OUT" and event.quantity is not None and event.quantity > 0:
        raise ValueError("a transfer out with shares that came in")
    return event


def _exercise(row: Attributes) -> CashEventReport:
    word = row.get("transactionType", "")
    kind = _EXERCISES.get(word.lower(), CashKind.OTHER)
    event = _event(row, kind, f"{word} {row.get('description', '')}", moves=True, word="option")
    told = [soft(number, row.get(name)) for name in ("proceeds", "tradePrice")]
    # That no money moved is told as well: the option went for nothing.
    return replace(event, amount=Decimal(0)) if event.amount is event.price is None and 0 in told else event


def _fee(row: Attributes) -> CashEventReport:
    detail = row.get("taxDescription") or row.get("description", "")
    return _event(row, CashKind.REGULATORY_FEE, detail, moves=False, word="fee")


_READERS: dict[str, Callable[[Attributes], CashEventReport]] = {
    "CashTransaction": _cash, "CorporateAction": _action, "Transfer": _transfer, "OptionEAE": _exercise,
    "TransactionFee": _fee,
}  # fmt: skip
