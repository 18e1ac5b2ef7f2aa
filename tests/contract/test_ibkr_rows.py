"""One field of one row that somebody else caused is noise: nothing closes, and the other rows are read whole.

Every field of completed orders, executions and positions, and every amount of an account, is spoiled in turn, and all
the spoiled rows come in one listing, through both SDKs' own decoders. Fields that say whose order a row is are left
alone here: a row without them may be ours.
"""

from __future__ import annotations

from typing import Any

import pytest

from models.reports import Ambiguous, BrokerStatus, Found
from tests.contract.tws_doors import TwsDoors, a_ref, a_resting_order, an_order, found, gateway, place
from tests.kit.waiting import eventually
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.sandbox.tws import messages as tws_messages
from worker.sandbox.tws.wire import encode

__all__ = ["gateway"]
NOISE = ("x?", "", "-1", "NaN", "1.7976931348623157E308", "2147483647", "9223372036854775807")
#: Message -> the fields that name it or say whose it is, and the one that makes each copy a row of its own.
IDS = {
    "completed_order": ({0, 19, 22, 23}, 23),
    "execution": ({0, 1, 2, 14, 16, 21, 22, 26}, 14),
    "position": ({0, 2, 3}, 3),
    "open_order": ({0, 1, 2, 23, 24, 25}, 25),
}
OTHER_CLIENT = 9


def is_theirs(message: str, *arguments: Any) -> bool:
    if message == "position":
        return bool(arguments[0] == "PEP")
    if message == "open_order":
        return bool(arguments[0].client_id == OTHER_CLIENT and arguments[0].order.symbol == "MSFT")
    asked = message != "execution" or arguments[2:] not in ((), (-1,))
    return bool(arguments[0].client_id == OTHER_CLIENT and asked)


def spoil(monkeypatch: pytest.MonkeyPatch, message: str) -> list[bytes]:
    """Send every row of theirs once for each field and each noise, and the good one; return what was sent, later."""
    sent: list[bytes] = []
    whole = getattr(tws_messages, message)
    ids, unique = IDS[message]

    def spoilt(*arguments: Any) -> bytes:
        frame: bytes = whole(*arguments)
        if not is_theirs(message, *arguments):
            return frame
        fields = frame[4:].decode().split("\0")[:-1]
        frames, number = [frame], 7_000_000
        for place_of in set(range(len(fields))) - ids:
            for noise in NOISE:
                number += 1
                name = f"{number}" if unique != 14 else f"0000{number}.01.01"
                copy = [*fields[:place_of], noise, *fields[place_of + 1 :]]
                copy[unique] = name
                frames.append(encode(*copy))
        sent[:] = frames
        return b"".join(frames)

    monkeypatch.setattr(tws_messages, message, spoilt)
    return sent


def traded(gateway: TwsDoors) -> tuple[IbkrBroker, Any, Any]:
    """Have somebody else and us trade and rest; return our broker and our two orders."""
    theirs, ours = gateway.broker(client_id=OTHER_CLIENT), gateway.broker()
    for broker, name, symbol in ((theirs, "theirs", "PEP"), (ours, "ours", "KO")):
        place(broker, name, order := an_order(symbol=symbol))
        eventually(lambda: (one := found(broker, name, order)) and one.status is BrokerStatus.FILLED)  # noqa: B023
    resting = a_resting_order(symbol="KO")
    place(theirs, "theirs-too", a_resting_order(symbol="MSFT"))
    place(ours, "resting", resting)
    return ours, an_order(symbol="KO"), resting


@pytest.mark.parametrize("message", IDS)
def test_noise_in_any_field_of_somebody_elses_row_closes_nothing(
    gateway: TwsDoors, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    broker, filled, resting = traded(gateway)
    sent = spoil(monkeypatch, message)
    listed = {one.broker_client_order_id: one for one in broker.get_orders(open_only=False)}
    assert listed["ours"].status is BrokerStatus.FILLED
    assert listed["resting"].status is BrokerStatus.ACCEPTED
    for name, order, status in (("ours", filled, BrokerStatus.FILLED), ("resting", resting, BrokerStatus.ACCEPTED)):
        seen = broker.find_order(a_ref(name, order))
        assert isinstance(seen, Found)
        assert (seen.report.status, seen.report.limit_price) == (status, order.limit_price)
    assert not isinstance(broker.find_order(a_ref("never-sent", filled)), Ambiguous)
    fills = broker.get_fills(listed["ours"].updated_at or a_ref("x", filled).sent_at.replace(hour=0, minute=0))
    assert [one.quantity for one in fills if one.broker_client_order_id == "ours"] == [10]
    assert all(one.price is None or 0 < one.price < 10**6 for one in fills)
    held = {one.symbol: one.quantity for one in broker.get_positions()}
    assert len(sent) > 10 * len(NOISE)
    assert held["KO"] == 10
    assert held["PEP"] == (None if message == "position" else 10)  # some copies do not say how many, or cannot be read
    assert broker.is_connected()


@pytest.mark.parametrize("tag", ["NetLiquidation", "TotalCashValue", "BuyingPower"])
def test_noise_in_one_amount_of_an_account_hides_no_other(
    gateway: TwsDoors, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    broker, whole = gateway.broker(), tws_messages.account_values
    good, names = broker.get_account_info(), {"NetLiquidation": "equity", "TotalCashValue": "cash"}
    for noise in NOISE:

        def spoilt(*about: object, noise: str = noise) -> list[tuple[str, ...]]:
            return [(key, noise if key == tag else value, currency) for key, value, currency in whole(*about)]

        monkeypatch.setattr(tws_messages, "account_values", spoilt)
        told = broker.get_account_info()
        for field in {"equity", "cash", "buying_power"} - {names.get(tag, "buying_power")}:
            assert getattr(told, field) == getattr(good, field), noise
        assert getattr(told, names.get(tag, "buying_power")) in (None, -1), noise
        assert told.currency == good.currency
