"""Connecting, being cut off, and coming back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from functools import cache

import pytest

from models.errors import BrokerError, ConfigurationError, DataError, NotConnected, NotSent
from tests.contract.suite.desk import Desk, eventually, needs, now, order, reconnect, ref, resting


def test_c01_a_port_where_nobody_listens_is_not_connected_at_once(cold_desk: Desk) -> None:
    """C01 A port where nobody listens is NotConnected, and at once.

    When: connect, with settings that lead to a closed port.
    Then: NotConnected within 5 s, also the second time; nothing is left that disconnect could not close.
    """
    broker, began = cold_desk.unreachable(), time.monotonic()
    for _ in range(2):
        with pytest.raises(NotConnected):
            broker.connect()
    assert time.monotonic() - began < 10
    assert not broker.is_connected()
    broker.disconnect()


def test_c02_keys_that_are_refused_never_connect(cold_desk: Desk) -> None:
    """C02 Keys, or an account, that the broker refuses never connect.

    When: connect.
    Then: ConfigurationError, which an operator mends, or NotConnected; is_connected stays False; nothing can be sent.
    """
    broker = cold_desk.refused_keys()
    with pytest.raises((ConfigurationError, NotConnected)):
        broker.connect()
    assert not broker.is_connected()
    with pytest.raises(NotSent):
        cold_desk.place(order(), by=broker)
    assert cold_desk.arrivals() == 0


def test_c03_real_money_has_to_be_asked_for(cold_desk: Desk) -> None:
    """C03 Real money has to be asked for with live = true.

    Given: a live URL, port or account, and no `live = true`.
    When: connect.
    Then: ConfigurationError that says `live = true`, before anything is sent to anyone.
    Skipped: adapters whose settings can never mean real money.
    """
    broker = cold_desk.real_money()
    needs(broker is not None, "its settings can never mean real money")
    assert broker is not None
    with pytest.raises(ConfigurationError, match="live = true"):
        broker.connect()
    assert not broker.is_connected()


def test_c04_before_connect_nothing_happens(cold_desk: Desk) -> None:
    """C04 An adapter that is not connected sends nothing, answers nothing and starts nothing.

    When: everything is called on an adapter that was only made.
    Then: NotSent for orders; a BrokerError or DataError for reads, never an empty list and never Missing; no thread.
    """
    threads = threading.active_count()
    broker, wanted = cold_desk.broker, order()
    assert threading.active_count() == threads
    assert not broker.is_connected()
    with pytest.raises(NotSent):
        cold_desk.place(wanted)
    with pytest.raises(BrokerError):
        broker.cancel_order(ref(wanted))
    reads = (
        lambda: broker.find_order(ref(wanted)),
        broker.get_orders,
        lambda: broker.get_fills(now()),
        broker.get_account_info,
        broker.get_positions,
        lambda: broker.get_market_data("AAPL"),
    )
    for read in reads:
        with pytest.raises((BrokerError, DataError)):
            read()
    assert cold_desk.arrivals() == 0
    broker.disconnect()


def test_c05_connecting_twice_is_connecting_once(desk: Desk) -> None:
    """C05 Connecting twice is connecting once.

    When: connect on a connected adapter, then one order.
    Then: still connected; the order is there once and its fill is told once.
    """
    desk.broker.connect()
    assert desk.broker.is_connected()
    placed = desk.place(order())
    eventually(lambda: desk.executions(placed))
    desk.the_one(order())


def test_c06_disconnecting_twice_is_safe_and_final(desk: Desk) -> None:
    """C06 Disconnecting twice is safe; afterwards nothing is sent until connect.

    When: disconnect, disconnect, an order, connect, an order.
    Then: the first order is NotSent and never arrives; the second is taken.
    """
    desk.broker.disconnect()
    desk.broker.disconnect()
    assert not desk.broker.is_connected()
    with pytest.raises(NotSent):
        desk.place(order())
    assert desk.arrivals() == 0
    desk.back()
    desk.place(order())
    assert desk.arrivals() == 1


def test_c07_a_broker_that_is_down_is_noticed_and_comes_back(desk: Desk) -> None:
    """C07 A broker that is down is noticed, sends nothing, and works again when it is back.

    Given: the broker refuses connections.
    When: an order, connect; then the broker is back, connect, an order.
    Then: NotSent, is_connected False, NotConnected; then accepted, one order in all.
    """
    desk.down()
    with pytest.raises(NotSent):
        desk.place(order())
    eventually(lambda: not desk.broker.is_connected())
    with pytest.raises(NotConnected):
        desk.broker.connect()
    desk.back()
    assert desk.broker.is_connected()
    desk.place(order())
    assert desk.arrivals() == 1


def test_c08_an_idle_connection_that_was_cut_does_not_cost_an_order(desk: Desk) -> None:
    """C08 An idle connection that was cut costs no order its certainty once connected again.

    Given: every connection was cut while nothing was under way.
    When: the account is read, after connect if that is needed, and an order is placed.
    Then: the order is accepted, once.
    """
    desk.broker.get_account_info()
    desk.cut()
    eventually(lambda: _answers(desk))
    desk.place(resting())
    desk.the_one(resting())


def _answers(desk: Desk) -> bool:
    try:
        desk.broker.get_account_info()
    except (BrokerError, DataError):
        reconnect(desk.broker)
        return False
    return True


def test_c09_a_peer_that_never_speaks_does_not_hold_connect(cold_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """C09 A peer that takes the connection and never speaks does not hold connect for ever.

    Given: the port is a listener that accepts and stays silent.
    When: connect.
    Then: NotConnected within 10 s.
    """
    cold_desk.hasten(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = cold_desk.leading_to(silent.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(NotConnected):
            broker.connect()
    assert time.monotonic() - began < 10
    assert not broker.is_connected()


def test_c10_importing_the_adapter_brings_no_sdk_and_no_thread(cold_desk: Desk) -> None:
    """C10 Importing the adapter's module brings no SDK along and starts no thread.

    When: the module is imported in a fresh interpreter.
    Then: no broker SDK is loaded (the worker of another broker may not have it), and there is one thread.
    """
    assert _imported(type(cold_desk.broker).__module__, tuple(cold_desk.foreign_modules)) == ("1", "")


@cache
def _imported(module: str, foreign: tuple[str, ...]) -> tuple[str, str]:
    code = (
        f"import sys, threading, {module}; found = set(sys.modules) & set({foreign!r})\n"
        "print(found or threading.active_count())"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return done.stdout.strip(), done.stderr
