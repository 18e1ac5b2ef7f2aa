"""What arrives through the queue from programs that import nothing of ours, readable or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from models.history import v_orders
from producers.bell import envelope
from tests.integration.outside import ODD, UNREADABLE, WRONG, body, push, send_bare
from tests.kit import World, events_of, eventually, never, outcomes_of, tail
from worker.messaging.dead_letters import KEPT_BYTES, SET_ASIDE, DeadLetters

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # it is about the queue alone


@pytest.fixture(scope="module")
def world(make_recorded_world: Callable[..., World]) -> World:
    made = make_recorded_world(["alpaca"])
    made.fleet.start_all()
    return made


def pid(world: World) -> int:
    """Return the worker's process, which has to be the one that was started."""
    process = world.fleet.processes["alpaca"]
    status = process.popen.poll()
    assert status is None, f"the worker ended with {status}: {tail(process.log)}"
    return process.popen.pid


def works(world: World) -> None:
    """See that a good order, which only its message knows, is executed now."""
    order = body(quantity="1")
    push(world, order)
    eventually(lambda: pid(world) and (world.orders.row(order["client_order_id"]) or {}).get("status") == "filled", 10)


@pytest.fixture(autouse=True)
def _a_worker(world: World) -> None:
    """One message that ends the worker shall not fail every test after it."""
    if world.fleet.processes["alpaca"].popen.poll() is not None:
        world.fleet.queue.delete("orders.alpaca", "control.alpaca", "data.alpaca", "unacked", "unacked_index")
        world.fleet.start("alpaca")


def test_a_bare_celery_client_places_and_cancels_orders(world: World) -> None:
    market = body(strategy="bare", tags=["a", "b"])
    resting = body(order_type="limit", limit_price="1.00")
    send_bare(world, "orders.submit", "orders.alpaca", {"orders": [market, resting]})
    filled = world.orders.wait(market["client_order_id"], "filled")
    assert (filled["strategy"], filled["tags"], filled["route"]) == ("bare", ["a", "b"], ["alpaca"])
    world.orders.wait(resting["client_order_id"], "accepted")

    send_bare(world, "orders.cancel", "control.alpaca", {"client_order_ids": [resting["client_order_id"]]})
    world.orders.wait(resting["client_order_id"], "canceled")


def test_the_same_message_twice_is_one_order(world: World) -> None:
    order = body()
    push(world, order)
    push(world, order)
    push(world, order, order)
    whole = world.orders.wait(order["client_order_id"], "filled")
    push(world, order)
    works(world)

    assert outcomes_of(whole) == [("alpaca", "accepted")]
    assert len(world.orders.at_doors(order["client_order_id"])) == 1
    assert "conflict" not in events_of(world.orders.whole(order["client_order_id"]))


def test_the_same_id_with_another_body_is_a_conflict_and_nothing_else(world: World) -> None:
    order = body()
    push(world, order)
    before = world.orders.wait(order["client_order_id"], "filled")
    push(world, {**order, "quantity": "4"})
    eventually(lambda: "conflict" in events_of(world.orders.whole(order["client_order_id"])))
    after = world.orders.whole(order["client_order_id"])

    conflict = after["events"].pop()
    assert conflict["kind"] == "conflict"
    assert order["client_order_id"] in conflict["detail"]
    assert {k: after[k] for k in before if k != "events"} == {k: before[k] for k in before if k != "events"}
    assert after["events"] == before["events"]
    assert len(world.orders.at_doors(order["client_order_id"])) == 1


def test_unreadable_messages_are_set_aside_and_the_worker_lives(world: World) -> None:
    before, kept = pid(world), world.fleet.queue.llen(SET_ASIDE)
    world.fleet.queue.lpush("orders.alpaca", *UNREADABLE.values())
    eventually(lambda: world.fleet.queue.llen("orders.alpaca") == 0, 20)
    works(world)

    assert pid(world) == before
    aside = [json.loads(item) for item in world.fleet.queue.lrange(SET_ASIDE, 0, -1)]
    assert len(aside) - kept == len(UNREADABLE), [item["why"] for item in aside]
    assert all(item["why"] and item["queue"] == "orders.alpaca" for item in aside)
    for name, item in zip(reversed(UNREADABLE), aside, strict=False):
        assert item["message"] == UNREADABLE[name].decode(errors="backslashreplace")
        assert (item["size"], item["sha256"]) == (len(UNREADABLE[name]), sha256(UNREADABLE[name]).hexdigest())
        assert item["worker"].startswith("alpaca@")
        assert item["worker"].endswith(f":{before}")
        assert abs((datetime.now(UTC) - datetime.fromisoformat(item["at"])).total_seconds()) < 60


@pytest.mark.parametrize("name", ODD)
def test_an_odd_message_does_not_stop_the_worker(world: World, name: str) -> None:
    before = pid(world)
    world.fleet.queue.lpush("orders.alpaca", ODD[name])
    works(world)
    assert pid(world) == before


@pytest.mark.parametrize("queue", ["control.alpaca", "data.alpaca"])
def test_unreadable_messages_on_the_other_queues_are_set_aside_too(world: World, queue: str) -> None:
    before, kept = pid(world), world.fleet.queue.llen(SET_ASIDE)
    task, odd = ("orders.cancel", "client_order_ids") if queue.startswith("control") else ("data.quote", "fetch_id")
    world.fleet.queue.lpush(queue, b"\xff", b"{}", envelope(task, queue, {}), envelope(task, queue, {odd: {"a": 1}}),
                      envelope(task, queue, {odd: None}))  # fmt: skip
    eventually(lambda: world.fleet.queue.llen(queue) == 0)
    eventually(
        lambda: world.fleet.queue.llen(SET_ASIDE) >= kept + 2, what=lambda: world.fleet.queue.lrange(SET_ASIDE, 0, 5)
    )
    works(world)
    assert pid(world) == before


def test_orders_that_make_no_sense_are_denied_by_name_and_value(world: World) -> None:
    before = pid(world)
    wrong = {name: body(**changes) for name, (changes, _) in WRONG.items()}
    good = body()
    push(world, *wrong.values(), good)  # one message: a bad order does not take its neighbours with it
    world.orders.wait(good["client_order_id"], "filled")

    for name, order in wrong.items():
        called = f"called itself {order['client_order_id']}"
        (id_,) = [row["client_order_id"] for row in _denied(world) if called in row["reason"]]
        assert id_.startswith("invalid-")
        row = world.orders.whole(id_)
        assert row["status"] == "denied", (name, row)
        missing = [word for word in WRONG[name][1] if word not in row["reason"]]
        assert not missing, (name, missing, row["reason"])
        assert row["attempts"] == []
        assert row["closed_at"] is not None
    assert pid(world) == before


def test_a_text_that_the_database_cannot_hold_does_not_take_its_neighbours_with_it(world: World) -> None:
    before, first, bad, last = pid(world), body(), body(tags=["\0"]), body()
    push(world, first, bad, last)
    for order in (first, last):
        world.orders.wait(order["client_order_id"], "filled")
    (row,) = [row for row in _denied(world) if f"called itself {bad['client_order_id']}" in row["reason"]]
    assert "tags" in row["reason"]
    assert world.orders.row(bad["client_order_id"]) is None
    assert pid(world) == before


@pytest.mark.parametrize("odd", ["a word", 7, None, {"a": 1}, [["nested"]], [None, 5, "x"]])
def test_something_that_is_no_list_of_orders_is_denied_under_a_stable_id(world: World, odd: Any) -> None:
    before = pid(world)
    message = envelope("orders.submit", "orders.alpaca", {"orders": odd})
    world.fleet.queue.lpush("orders.alpaca", message, message)
    works(world)
    assert pid(world) == before
    if odd:
        assert any(row["client_order_id"].startswith("invalid-") for row in _denied(world))


@pytest.mark.parametrize("id_", ["", "x" * 65, "with blank", "tilde~2", "ünïcode", 7, None])
def test_an_unusable_id_is_denied_and_not_executed(world: World, id_: Any) -> None:
    order = body(client_order_id=id_, symbol="GLD")
    push(world, order)
    works(world)
    denied = [r for r in _denied(world) if (r["symbol"], r["status"]) == ("GLD", "denied")]
    assert denied
    assert world.orders.at_doors(symbol="GLD") == []


def _denied(world: World) -> list[dict[str, Any]]:
    return world.history.rows(v_orders, status="denied")


@SQLITE
def test_a_message_with_more_orders_than_agreed_is_set_aside_whole(world: World) -> None:
    before, counted = pid(world), counts(world).get("too_many", 0)
    many = [body(quantity="1", symbol="T") for _ in range(101)]
    push(world, *many)
    works(world)
    assert counts(world)["too_many"] == counted + 1
    assert not any(world.orders.row(order["client_order_id"]) for order in many)
    push(world, *many[:100])
    for order in many[:100]:
        world.orders.wait(order["client_order_id"], "filled", 30)
    assert pid(world) == before


@SQLITE
def test_what_is_set_aside_costs_little_memory_and_is_counted_for_ever(world: World) -> None:
    before, counted = pid(world), counts(world).get("too_large", 0)
    huge = b"\xff" * 50_000_000
    world.fleet.queue.lpush("orders.alpaca", huge)
    works(world)
    kept = world.fleet.queue.lindex(SET_ASIDE, 0)
    entry = json.loads(kept)
    assert (entry["reason"], entry["size"]) == ("too_large", len(huge))
    assert entry["sha256"] == sha256(huge).hexdigest()
    assert len(kept) < 6 * KEPT_BYTES + 2000
    world.fleet.kill(world.fleet.processes["alpaca"])
    world.fleet.queue.lpush("orders.alpaca", *[b"\xff" * 2_000_000] * 3)
    world.fleet.start("alpaca")
    works(world)
    assert counts(world)["too_large"] == counted + 4
    assert pid(world) != before


def counts(world: World) -> dict[str, int]:
    return DeadLetters(world.fleet.queue).counts()


@SQLITE
def test_the_command_line_shows_counts_and_forgets_what_was_set_aside(world: World) -> None:
    world.fleet.queue.lpush("orders.alpaca", b"one of them", b"the newest\n\x1b[2J\xff")
    works(world)
    newest, other = world.corro("dead-letters", "--json", "--limit", "2").json
    assert set(newest) == {"id", "at", "worker", "queue", "reason", "why", "size", "sha256", "message"}
    assert (newest["queue"], newest["reason"]) == ("orders.alpaca", "not_a_message")
    assert newest["message"] == "the newest\n\x1b[2J\\xff"
    assert other["message"] == "one of them"
    shown = world.corro("dead-letters", "--show", newest["id"]).out
    assert newest["sha256"] in shown
    assert "\x1b" not in shown, "what others write does not reach a terminal raw"
    assert {"reason": "not_a_message", "count": counts(world)["not_a_message"]} in world.corro(
        "dead-letters", "--counts", "--json"
    ).json
    kept = world.fleet.queue.llen(SET_ASIDE)
    assert f"messages set aside: {kept}" in world.corro("fleet").err

    before = counts(world)
    assert world.corro("dead-letters", "--drop", newest["id"], "--json").json == {"dropped": 1}
    gone = world.corro("dead-letters", "--show", newest["id"], "--json")
    assert (gone.status, gone.json["error"]) == (1, "NotFound")
    assert world.corro("dead-letters", "--drop", "all", "--json").json == {"dropped": kept - 1}
    assert world.fleet.queue.llen(SET_ASIDE) == 0
    assert counts(world) == before


@SQLITE
@pytest.mark.parametrize("key", ["orders.alpaca", "control.alpaca", "data.alpaca", SET_ASIDE])
@pytest.mark.parametrize("kind", ["string", "hash"])
def test_something_else_at_a_queues_key_is_moved_out_of_the_way(world: World, key: str, kind: str) -> None:
    before = pid(world)
    world.fleet.queue.delete(key)
    pipe = world.fleet.queue.pipeline()
    pipe.set(key, "a text") if kind == "string" else pipe.hset(key, "a", "b")
    if key == SET_ASIDE:
        pipe.lpush("orders.alpaca", b"to be set aside")
    pipe.execute()
    eventually(lambda: world.fleet.queue.type(key) in (b"none", b"list"), 10)
    works(world)
    assert pid(world) == before
    away = f"{SET_ASIDE}.{key}"
    assert world.fleet.queue.type(away) == kind.encode()
    world.fleet.queue.delete(away)


@SQLITE
def test_somebody_elses_notes_do_not_stop_what_is_in_hand(world: World) -> None:
    """Kombu notes messages in hand in two keys, and hands out again from there every few seconds."""
    before, counted = pid(world), counts(world).get("not_a_message", 0)
    world.fleet.queue.hset("unacked", "theirs", b"\xff garbage")
    world.fleet.queue.zadd("unacked_index", {"theirs": 1.0})
    mine = body(quantity="2")
    note = [json.loads(envelope("orders.submit", "orders.alpaca", {"orders": [mine]})), "", "orders.alpaca"]
    world.fleet.queue.hset("unacked", "lost", json.dumps(note))
    world.fleet.queue.zadd("unacked_index", {"lost": 0.5})  # older, so it is looked at after the other one
    world.orders.wait(mine["client_order_id"], "filled", 15)
    assert world.fleet.queue.hlen("unacked") == 0
    assert counts(world)["not_a_message"] == counted + 1

    world.fleet.queue.set("unacked", "a text")
    works(world)
    world.fleet.queue.delete("unacked_index")
    world.fleet.queue.hset("unacked_index", "a", "b")
    works(world)
    assert pid(world) == before


@SQLITE
def test_nobody_ends_a_worker_by_celerys_remote_control(world: World) -> None:
    before = pid(world)
    world.script(
        "import sys; from celery import Celery; app = Celery(broker=sys.argv[1]); app.control.shutdown(); app.close()",
        world.settings.queue_url,
    )
    for item in (b"[1]", b"null", b"\xff", b"{}"):
        world.fleet.queue.publish("/0.celery.pidbox", item)
    works(world)
    never(lambda: pid(world) != before, 0.5)


def test_a_cancel_of_an_order_nobody_knows_changes_nothing(world: World) -> None:
    before = pid(world)
    ids = ["nobody-knows-this", "", "x" * 500]
    world.fleet.queue.lpush("control.alpaca", envelope("orders.cancel", "control.alpaca", {"client_order_ids": ids}))
    works(world)
    assert pid(world) == before
    never(lambda: any(world.orders.row(id_) for id_ in ids), 0.3)


@SQLITE
def test_a_cancel_that_overtakes_its_order_ends_it_unsent(world: World) -> None:
    overtaken, other = body(), body()
    wish = envelope("orders.cancel", "control.alpaca", {"client_order_ids": [overtaken["client_order_id"]]})
    world.fleet.queue.lpush("control.alpaca", wish)
    eventually(lambda: world.fleet.queue.exists(f"corro.early_cancel:{overtaken['client_order_id']}"))
    push(world, overtaken, other)

    world.orders.wait(other["client_order_id"], "filled")
    ended = world.orders.wait(overtaken["client_order_id"], "canceled")
    assert events_of(ended) == ["queued", "cancel_requested", "canceled"]
    assert ended["attempts"] == []
    assert world.orders.at_doors(overtaken["client_order_id"]) == []


@SQLITE
def test_what_celery_would_drop_without_a_word_is_set_aside(world: World) -> None:
    late = json.loads(envelope("orders.submit", "orders.alpaca", {"orders": [order := body()]}))
    late["headers"]["expires"] = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    no_ids = envelope("orders.cancel", "control.alpaca", {"client_order_ids": ["a\x00", {"b": 1}, "some-id"]})
    world.fleet.queue.lpush("orders.alpaca", json.dumps(late))
    world.fleet.queue.lpush("control.alpaca", no_ids)

    def kept(reason: str) -> list[str]:
        return [one["message"] for one in DeadLetters(world.fleet.queue).kept() if one["reason"] == reason]

    eventually(lambda: any(order["client_order_id"] in one for one in kept("expired")))
    eventually(lambda: any("some-id" in one for one in kept("not_an_id")))
    assert world.orders.row(order["client_order_id"]) is None


@SQLITE
def test_a_signed_wish_that_cannot_be_read_is_set_aside_for_its_arguments_and_is_no_defect_of_ours(
    world: World,
) -> None:
    strange: tuple[object, ...] = (None, 5, [], {"a": 1}, "\u202e", "x" * 9000)
    before = DeadLetters(world.fleet.queue).counts()
    for task in ("orders.cancel", "orders.replace"):
        for one in strange:
            wish = envelope(task, "control.alpaca", {"signed": one, "key": one, "sig": one})
            world.fleet.queue.lpush("control.alpaca", wish)

    def more(reason: str) -> int:
        return DeadLetters(world.fleet.queue).counts().get(reason, 0) - before.get(reason, 0)

    eventually(lambda: more("arguments") >= 2 * len(strange), what=lambda: DeadLetters(world.fleet.queue).counts())
    assert more("task_failed") == 0
