"""Rings go past Celery, as many as are taken at once; everything else takes its own way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from producers.bell import envelope
from tests.kit import eventually
from worker.messaging.guard import clean
from worker.messaging.handover import THREADS, Bodies, Handover
from worker.messaging.rings import hand_over, together

QUEUE = "orders.alpaca"


class Sender:
    """Whoever claims and sends: takes note, and is busy for as long as the test wants."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = threading.Event()
        self.is_ending = False

    def begin(self, queue: str, bodies: Bodies) -> bool:
        if self.is_ending:
            return False
        self.begun += [f"{queue} {body['client_order_id']}" for body in bodies]
        assert self.go.wait(20)
        return True


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.go.set()


@pytest.fixture
def handover(sender: Sender) -> Iterator[Handover]:
    made = Handover()
    made.start(sender.begin)
    yield made
    sender.go.set()
    made.stop()


def message(*ids: str, task: str = "orders.submit", ring: bool = True, **more: object) -> bytes:
    """A message as it stands in the queue and has passed the guard."""
    orders = [{"client_order_id": id_, **more} for id_ in ids]
    kwargs = {"orders": orders} if task == "orders.submit" else {"client_order_ids": list(ids)}
    return clean(envelope(task, QUEUE, kwargs, ring=ring), QUEUE)


def test_a_ring_is_handed_over_with_its_orders(handover: Handover, sender: Sender) -> None:
    assert hand_over(QUEUE, message("a", "b"), handover)
    eventually(lambda: len(sender.begun) == 2)
    assert sender.begun == [f"{QUEUE} a", f"{QUEUE} b"]


def test_rings_that_were_taken_together_are_handed_over_together(handover: Handover, sender: Sender) -> None:
    assert hand_over(QUEUE, together([message("a"), message("b")]), handover)
    eventually(lambda: len(sender.begun) == 2)


@pytest.mark.parametrize(
    "other",
    [
        message("a", ring=False),
        message("a", ring=False, tags=['"corro-ring":1,']),
        message("a", task="orders.cancel"),
        message("a", task="orders.replace"),
    ],
    ids=["no ring", "no ring, though it says so", "cancel", "replace"],
)
def test_what_is_no_ring_for_orders_takes_its_own_way(handover: Handover, sender: Sender, other: bytes) -> None:
    assert not hand_over(QUEUE, other, handover)
    assert sender.begun == []


def test_a_ring_that_finds_everybody_busy_takes_celerys_way(handover: Handover, sender: Sender) -> None:
    assert not handover.is_busy
    for number in range(THREADS):
        assert handover.offer(QUEUE, [{"client_order_id": number}])
    assert handover.is_busy
    assert not handover.offer(QUEUE, [{"client_order_id": "more"}])
    sender.go.set()
    eventually(lambda: not handover.is_busy)
    assert handover.offer(QUEUE, [{"client_order_id": "later"}])


def test_what_was_not_begun_when_the_worker_ended_is_handed_back(handover: Handover, sender: Sender) -> None:
    sender.is_ending = True
    assert handover.offer(QUEUE, [{"client_order_id": "a"}])
    assert handover.stop() == [(QUEUE, [{"client_order_id": "a"}])]
    assert not handover.offer(QUEUE, [{"client_order_id": "b"}])


def test_before_the_worker_is_up_nothing_is_handed_over() -> None:
    assert not Handover().offer(QUEUE, [{"client_order_id": "a"}])
