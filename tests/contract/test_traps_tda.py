"""Traps of TD Ameritrade and Schwab, each with the guard that keeps us out of it; the list is in test_traps.py."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    AccessLost,
    ConfigurationError,
    InsufficientFunds,
    NotConnected,
    OutcomeUnknown,
    Refused,
    UnreadableReply,
)
from models.reports import Ambiguous, Found, Missing
from tests.contract.desks import SchwabDesk, TdaDesk
from tests.contract.suite.desk import eventually, order, resting
from tests.contract.token_bank import TokenBank, keeper


@pytest.fixture(params=[TdaDesk, SchwabDesk], ids=lambda kind: kind.name)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as found:
        found.broker.connect()
        yield found


# -- LOCATION ---
def test_a_location_that_leads_to_another_order_is_not_believed(desk: TdaDesk) -> None:
    """Location may point to another order of the account.

    Guard: `TdaOrders._judged` compares the terms of the order it leads to. docs/facts/tda.md#2.2.
    """
    other = desk.place(resting(symbol="MSFT"))
    desk.fault("location_foreign")
    wanted = resting()
    with pytest.raises(UnreadableReply):
        desk.place(wanted)
    assert desk.found(wanted).broker_order_id != other.broker_order_id
    desk.the_one(wanted)


def test_an_order_without_a_location_is_unknown_and_found_by_its_terms(desk: TdaDesk) -> None:
    """Location may be missing, on instant fills for example.

    Guard: `TdaOrders._promised`; find_order looks for the terms. docs/facts/tda.md#2.2.
    """
    desk.fault("location_missing")
    wanted = resting()
    with pytest.raises(UnreadableReply):
        desk.place(wanted)
    assert desk.found(wanted).quantity == 10
    assert desk.arrivals() == 1


def test_a_201_that_ends_rejected_is_refused(desk: TdaDesk) -> None:
    """201 is no acceptance: the order may be REJECTED a moment later.

    Guard: `TdaOrders.verified` reads the order before it is called accepted. docs/facts/schwab.md#2.3.
    """
    with pytest.raises(InsufficientFunds) as caught:
        desk.place(order(quantity=9_000_000))
    assert caught.value.broker_order_id is not None
    desk.hold("MSFT", 5)
    with pytest.raises(Refused):
        desk.place(order("MSFT", "sell", 6))
    assert {seen.state for seen in desk.orders()} == {"rejected"}


def test_a_listing_that_lags_proves_no_absence(desk: TdaDesk) -> None:
    """A listing shows an order seconds after it was taken: one that misses it proves nothing, ever.

    Guard: `AbsenceRule(possible=False)`: the reconciler never calls it absent. docs/facts/schwab.md#2.1.
    """
    desk.fault("list_lag", seconds=0.4)
    desk.fault("accept_drop")
    wanted = resting()
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)
    assert isinstance(desk.find(wanted), Missing)
    assert not desk.can.absence.possible
    eventually(lambda: isinstance(desk.find(wanted), Found))


def test_an_order_taken_but_not_readable_yet_is_unknown_until_it_is_found(desk: TdaDesk) -> None:
    """201 with a Location that cannot be read back may be another order's.

    Guard: `TdaOrders.verified` calls it unknown. docs/facts/schwab.md#2.2.
    """
    desk.fault("status", 3, status=503, operation="get")
    wanted = order()
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)
    desk.clear()
    assert desk.found(wanted).symbol == "AAPL"


def test_look_alikes_are_never_guessed(desk: TdaDesk) -> None:
    """Two orders with the same terms cannot be told apart: there is no client order id.

    Guard: `TdaBroker._chosen` answers Ambiguous. docs/facts/schwab.md#2.1.
    """
    third = resting()
    both = {desk.place(resting()).broker_order_id for _ in range(2)}
    seen = desk.find(third)
    assert isinstance(seen, Ambiguous)
    assert {candidate.broker_order_id for candidate in seen.candidates} == both


# -- TOKENS ---
def test_an_expired_token_is_renewed_once_and_the_order_sent_once(desk: Any) -> None:
    """401 comes before any order is taken; to send it again is safe, and only then.

    Guard: `TdaRest._signed`. docs/facts/schwab.md#1.3.
    """
    before = desk.broker._rest.keeper._held
    desk.fault("token_expired", operation="place")
    desk.place(order())
    desk.the_one(order())
    assert desk.broker._rest.keeper._held != before


def test_a_second_401_is_a_lost_access_and_no_loop(desk: TdaDesk) -> None:
    """A broker that answers 401 to every token must not be asked for ever, and says nothing about the order.

    Guard: `TdaRest._signed` repeats once; `TdaRest._is_shut_out`. docs/facts/schwab.md#1.3.
    """
    desk.fault("token_expired", None, operation="place")
    began = time.monotonic()
    with pytest.raises(AccessLost) as caught:
        desk.place(order())
    assert (caught.value.code, desk.arrivals()) == ("401", 0)
    assert not desk.broker.is_connected()
    assert time.monotonic() - began < 2


def test_a_token_that_cannot_be_renewed_sends_nothing(desk: TdaDesk) -> None:
    """Between the 401 and the new token the order is nowhere.

    Guard: `TdaRest._token` says NotConnected, before the order is sent again. docs/facts/schwab.md#1.3.
    """
    desk.fault("token_expired", operation="place")
    desk.fault("status", None, status=503, operation="token")
    with pytest.raises(NotConnected):
        desk.place(order())
    assert desk.arrivals() == 0
    assert not desk.broker.is_connected()
    desk.back()
    desk.place(order())


def test_a_refresh_token_that_has_run_out_is_named(desk: TdaDesk) -> None:
    """Schwab's refresh token ends after seven days, and its error does not say so in any words one could search for.

    Guard: `TokenKeeper._needs_login` names the setting; it is a ConfigurationError. docs/facts/schwab.md#1.1.
    """
    with pytest.raises(ConfigurationError, match=r"brokers\.\w+\.refresh_token is refused .*log in again"):
        desk.refused_keys().connect()


def test_a_refused_chain_is_not_offered_with_every_order(tmp_path: Path) -> None:
    """A refresh token that has run out would be offered again with every order, and the app be throttled.

    Guard: `TokenKeeper._bought` remembers the refusal for a while. docs/facts/schwab.md#1.2.
    """
    bank = TokenBank()
    bank.valid = "other"
    mine = keeper(bank, tmp_path / "t.json")
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            mine.token()
    assert bank.offers == ["r0"]


def test_a_rotated_refresh_token_survives_a_restart(tmp_path: Path) -> None:
    """The broker forgets the old refresh token when it gives a new one: the configured one is worthless from then on.

    Guard: `TokenKeeper._keep` stores the new one before the access token is used. docs/facts/schwab.md#1.4.
    """
    bank = TokenBank(life_s=1e-6)
    assert keeper(bank, tmp_path / "t.json").token() == "a1"
    assert keeper(bank, tmp_path / "t.json").token() == "a2"
    assert bank.offers == ["r0", "r1"]


def test_a_rotated_refresh_token_survives_a_crash_between_the_two_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies between writing the draft and renaming it leaves the only good token in the draft.

    Guard: `TokenKeeper._stored` reads drafts of dead processes, too. docs/facts/schwab.md#1.4.
    """
    bank, path = TokenBank(life_s=1e-6), tmp_path / "t.json"
    assert keeper(bank, path).token() == "a1"

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            keeper(bank, path).token()
    assert json.loads(path.read_text())["refresh_token"] == "r1"
    monkeypatch.setattr(os, "getpid", lambda: 999_999)
    assert keeper(bank, path).token() == "a3"
    assert bank.offers == ["r0", "r1", "r2"]
    assert [one.name for one in tmp_path.glob("*.tmp")] == []


def test_many_workers_refresh_once(tmp_path: Path) -> None:
    """Schwab may end older access tokens when several workers refresh at once.

    Guard: `TokenKeeper._alone`, a lock across processes. docs/facts/schwab.md#1.4.
    """
    bank, found = TokenBank(), list[str]()
    keepers = [keeper(bank, tmp_path / "t.json") for _ in range(8)]
    threads = [threading.Thread(target=lambda k=one: found.append(k.token())) for one in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["a1"] * 8
    assert bank.offers == ["r0"]
