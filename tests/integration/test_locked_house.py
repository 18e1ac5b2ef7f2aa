"""The house locked: a fleet under exactly the roles and rights that are shipped, and what they refuse.

PostgreSQL with deploy/roles.sql, the queue's server with deploy/redis.acl, every order signed.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from models.messages import OrderRequest
from models.record.left_wishes import leave_wish
from models.record.privileges import lacking
from models.record.tables import metadata
from models.settings import load_settings
from models.signing import Envelope
from producers.bell import envelope
from producers.client import OrderClient
from tests.integration.outside import BARE, body
from tests.kit import PostgresServer, World, events_of, eventually
from tests.kit.process import ROOT
from tests.unit.trust_desk import sealed, signer, wish
from worker.control.keys import add
from worker.messaging.embedded_queue import server_binary

DEPLOY = ROOT / "deploy"
SECRET = b"0123456789abcdef0123456789abcdef"
LOW = {"order_type": "limit", "limit_price": "1.00"}


class House:
    """A world whose worker, producers and operator have their own logins.

    Args:
        world: with one broker, `alpaca`.
        port: of the queue's server.
    """

    def __init__(self, world: World, port: int) -> None:
        self.world, self.port = world, port
        self._engines: list[Engine] = []
        secret = world.home / "k-1.secret"
        secret.write_bytes(SECRET)
        for key_id, bounds in {"k-1": {}, "k-2": {"may_cancel": "own"}}.items():
            add(world.database, key_id, "hmac-sha256", by="test", secret_file=str(secret), owner="test", **bounds)
        with self.role("postgres") as superuser:
            superuser.exec_driver_sql((DEPLOY / "roles.sql").read_text())
            superuser.exec_driver_sql((DEPLOY / "roles.sql").read_text())  # again, without harm
        security = {"CORRO_SECURITY__REQUIRE": "all", "CORRO_SECURITY__DEPLOYMENT": "prod"}
        logins = {"CORRO_DATABASE_URL": self.database("corro_worker"), "CORRO_REDIS_URL": self.queue_url("worker")}
        world.fleet.start("alpaca", **security, **logins)
        settings = load_settings(
            **json.loads(world.settings.model_dump_json(include={"routing", "timing"})), home=world.home,
            brokers={"alpaca": {"adapter": "alpaca"}}, database_url=self.database("corro_producer"),
            redis_url=self.queue_url("bell"), security={"require": "all", "deployment": "prod"},
        )  # fmt: skip
        self.client = OrderClient(settings, key="k-1", key_file=secret)
        self.unsigned = OrderClient(settings)

    def database(self, role: str) -> str:
        return make_url(self.world.settings.database).set(username=role).render_as_string(hide_password=False)

    def role(self, name: str) -> Any:
        """Open a transaction as a role."""
        engine = create_engine(self.database(name))
        self._engines.append(engine)
        return engine.begin()

    def queue_url(self, user: str) -> str:
        return f"redis://{user}:{user}-password@127.0.0.1:{self.port}/0"

    def queue(self, user: str) -> redis.Redis:
        return redis.Redis.from_url(self.queue_url(user))

    def send(self, task: str, queue: str, **kwargs: Any) -> None:
        """As a program with Celery alone."""
        said = self.world.script(BARE, self.queue_url("bare"), task, queue, json.dumps(kwargs))
        assert said.status == 0, said

    def push(self, *orders: object) -> None:
        with self.queue("bell") as bell:
            bell.lpush("orders.alpaca", envelope("orders.submit", "orders.alpaca", {"orders": list(orders)}))

    def denied(self, claimed: str) -> dict[str, Any]:
        """Wait for the row of an order that nobody stood behind."""

        def found() -> dict[str, Any] | None:
            rows = self.world.history.rows(_orders(), status="denied")
            return next((row for row in rows if f"called itself {claimed})" in str(row["reason"])), None)

        return eventually(found, 10)

    def close(self) -> None:
        self.client.close()
        self.unsigned.close()
        for engine in self._engines:
            engine.dispose()


def _orders() -> Any:
    from models.history import v_orders

    return v_orders


@pytest.fixture(scope="module")
def queue_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The queue's server under the shipped ACL file, each user with a password."""
    folder = tmp_path_factory.mktemp("acl")
    acl = re.sub(
        r"^user (\w+) on ", r"user \1 on >\1-password ", (DEPLOY / "redis.acl").read_text(), flags=re.MULTILINE
    )
    (folder / "users.acl").write_text(acl)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
         "--aclfile", str(folder / "users.acl")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with redis.Redis.from_url(f"redis://operator:operator-password@127.0.0.1:{port}/0") as operator:

        def answers() -> bool:
            try:
                return bool(operator.ping())
            except redis.ConnectionError:
                return False

        eventually(answers, 10)
    yield port
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def house(make_world: Callable[..., World], postgres: PostgresServer, queue_port: int) -> Iterator[House]:
    made = House(make_world(["alpaca"], database_url=postgres.fresh()), queue_port)
    yield made
    made.close()


def bare(**changes: Any) -> dict[str, Any]:
    return body(strategy="dip", **changes)


# -- WHAT SHOULD WORK ---
def test_what_workers_throw_away_they_may_throw_away(house: House) -> None:
    paths = [path for folder in ("worker", "models/record") for path in (ROOT / folder).rglob("*.py")]
    sources = [path.read_text() for path in paths if path.name not in ("archiving.py", "moving.py")]  # the owner's work
    named = re.compile(r"\bdelete\((\w+)\)|(\w+)\.delete\(\)")
    thrown = {one or other for source in sources for one, other in named.findall(source)} & set(metadata.tables)
    assert {"leases", "position_lots"} <= thrown
    with house.role("corro_worker") as worker:
        may = worker.execute(
            text("SELECT t FROM unnest(CAST(:names AS text[])) t WHERE has_table_privilege(t, 'DELETE')"),
            {"names": sorted(thrown)},
        )
        assert thrown - set(may.scalars()) == {"controls", "halts", "risk_limits"}, "people's decisions end by command"


@pytest.mark.parametrize(
    ("role", "taken", "lacks"),
    [
        ("corro_worker", "", []),
        ("corro_admin", "", []),
        ("corro_producer", "", []),
        ("corro_analyst", "", []),
        ("corro_worker", "REVOKE INSERT ON tallies FROM corro_worker", ["INSERT on tallies"]),
        ("corro_worker", "REVOKE UPDATE (price) ON fills FROM corro_worker", ["UPDATE (price) on fills"]),
        ("corro_worker", "REVOKE DELETE ON leases FROM corro_worker", ["DELETE on leases"]),
        ("corro_producer", "REVOKE INSERT (legs) ON orders FROM corro_producer", ["INSERT (legs) on orders"]),
    ],
)
def test_a_role_that_lacks_what_the_code_writes_is_told(house: House, role: str, taken: str, lacks: list[str]) -> None:
    with house.role("postgres") as superuser:
        if taken:
            superuser.exec_driver_sql(taken)
        superuser.exec_driver_sql(f"SET LOCAL ROLE {role}")
        assert lacking(superuser) == lacks
        superuser.rollback()


def test_everything_works_that_should(house: House) -> None:
    by = signer()
    market, resting = bare(), bare(**LOW)
    house.send("orders.submit", "orders.alpaca", orders=[sealed(by, market), sealed(by, resting)])
    house.world.orders.wait(market["client_order_id"], "filled")
    house.world.orders.wait(resting["client_order_id"], "accepted")
    smaller = wish(by, "replace", client_order_id=resting["client_order_id"], quantity="2")
    house.send("orders.replace", "control.alpaca", **_wire(smaller))
    eventually(lambda: house.world.orders.row(resting["client_order_id"])["quantity"] == 2, 10)
    house.send("orders.cancel", "control.alpaca", **_wire(_cancel(by, resting)))
    house.world.orders.wait(resting["client_order_id"], "canceled")

    mine = house.client.submit(
        OrderRequest(symbol="KO", side="buy", quantity=5, strategy="dip", order_type="limit", limit_price=1)
    ).wait(15, until=lambda order: order.status == "accepted")
    mine.replace(quantity=3)
    eventually(lambda: mine.refresh().quantity == 3, 10)
    mine.cancel()
    assert mine.wait(15).status == "canceled"
    low = {"symbol": "KO", "side": "buy", "quantity": 5, "strategy": "dip", "order_type": "limit", "limit_price": 1}
    many = house.client.submit_many([OrderRequest(**low), OrderRequest(**low)])
    assert len(house.client.cancel_all(strategy="dip", symbol="KO")) == 2
    assert [order.wait(15).status for order in many] == ["canceled", "canceled"]
    assert house.client.account("alpaca").result(15).currency == "USD"
    with house.queue("operator") as operator:
        refused = [one for one in operator.acl_log() if one["username"] in ("worker", "bell", "bare")]
    assert [(one["username"], one["reason"], one["object"]) for one in refused] == []


def _wire(envelope_: Envelope) -> dict[str, str]:
    return {name: value for name, value in envelope_.to_wire().items() if name != "deployment"}


def _cancel(by: Any, order: dict[str, Any]) -> Envelope:
    return wish(by, "cancel", client_order_ids=[order["client_order_id"]])


# -- ATTACKS ON ORDERS ---
def test_nobody_trades_without_a_key_and_no_id_is_used_up(house: House) -> None:
    victim = bare()
    house.push(victim, sealed(signer(deployment="test"), bare(client_order_id="captured-1")))
    assert house.denied(victim["client_order_id"])["reason_code"] == "not_signed"
    assert house.denied("captured-1")["reason_code"] == "bad_signature"
    house.push(sealed(signer(), victim))
    house.world.orders.wait(victim["client_order_id"], "filled")


def test_a_producer_of_the_database_trades_as_nobody_else(house: House) -> None:
    order = house.unsigned.submit(OrderRequest(symbol="KO", side="buy", quantity=1, strategy="dip")).wait(15)
    assert (order.status, order.row["reason_code"]) == ("denied", "not_signed")


def test_a_strangers_order_stays(house: House) -> None:
    resting = bare(**LOW)
    house.push(sealed(signer(), resting))
    id_ = house.world.orders.wait(resting["client_order_id"], "accepted")["client_order_id"]
    house.send("orders.cancel", "control.alpaca", client_order_ids=[id_])
    house.send("orders.cancel", "control.alpaca", **_wire(_cancel(signer("k-2"), resting)))
    house.unsigned.cancel(id_)

    def refusals() -> set[str]:
        found = house.world.history.order(id_)["events"]
        return {str(one["detail"]).split(":")[0] for one in found if one["kind"] == "wish_denied"}

    eventually(lambda: refusals() == {"not_signed", "not_permitted"}, 15, lambda: house.world.history.order(id_))
    assert house.world.orders.row(id_)["status"] == "accepted"
    house.send("orders.cancel", "control.alpaca", **_wire(_cancel(signer(), resting)))
    house.world.orders.wait(id_, "canceled")
    assert events_of(house.world.history.order(id_)).count("cancel_requested") == 1


def test_nobody_is_told_that_a_wish_is_left_where_others_have_left_too_many(house: House) -> None:
    """Whoever fills up an order's wishes holds up its cancel, and nobody believes that it is asked for."""
    resting = bare(**LOW)
    house.push(sealed(signer(), resting))
    id_ = house.world.orders.wait(resting["client_order_id"], "accepted")["client_order_id"]
    with house.role("corro_producer") as producer:  # workers see nothing of it until the end
        for n in range(20):
            assert leave_wish(producer, id_, {"kind": "cancel", "sig": str(n)})
        assert leave_wish(producer, id_, {"kind": "cancel", "sig": "7"}), "that one is there"
        assert not leave_wish(producer, "nobody-1", {"kind": "cancel"})
        with pytest.raises(DBAPIError, match="20 wishes that no worker has judged"):
            leave_wish(producer, id_, {"kind": "cancel"})
        producer.rollback()
    house.client.cancel(id_)
    house.world.orders.wait(id_, "canceled")


# -- ATTACKS ON THE RECORD ---
REFUSED = r"permission denied|append only|records no|read-only|a wish is|must be owner"
FORGED = {
    "corro_producer": [
        "UPDATE orders SET status = 'filled'",
        "UPDATE orders SET quantity = 500",
        "DELETE FROM orders",
        "UPDATE attempts SET outcome = 'absent'",
        "INSERT INTO fills (broker, execution_id, client_order_id, attempt_no, quantity, filled_at, recorded_at, late)"
        " SELECT 'alpaca', 'x', client_order_id, 1, 1, now(), now(), false FROM orders LIMIT 1",
        "INSERT INTO order_events (client_order_id, at, kind)"
        " SELECT client_order_id, now(), 'filled' FROM orders LIMIT 1",
        "INSERT INTO orders (client_order_id, version, extended_hours, status, attempt_no, filled_quantity, body_hash,"
        " available_at, created_at, updated_at) VALUES ('f-1', 1, false, 'filled', 0, 5, '', now(), now(), now())",
        "INSERT INTO orders (client_order_id, version, extended_hours, status, attempt_no, filled_quantity, body_hash,"
        " available_at, created_at, updated_at, amended_at)"
        " VALUES ('f-2', 1, false, 'queued', 0, 0, '', now(), now(), now(), now())",
        "UPDATE keys SET public_key = NULL",
        "INSERT INTO keys (key_id, alg, operator, owner, may_cancel, needs_approval, may_approve, added_at)"
        " VALUES ('mine', 'token', true, 'me', 'all', false, true, now())",
        "DELETE FROM halts",
        "DELETE FROM order_events",
        "INSERT INTO control_events (at, kind, scope_kind, scope) VALUES (now(), 'resume', '*', '*')",
        "SELECT corro_wish('x', '{\"kind\": \"forget\"}')",
    ],
    "corro_worker": [
        "DELETE FROM orders", "DELETE FROM fills", "DELETE FROM attempts", "DELETE FROM order_events",
        "UPDATE order_events SET detail = 'nothing happened'", "UPDATE control_events SET by = 'somebody'",
        "UPDATE fills SET client_order_id = 'x'", "UPDATE fills SET execution_id = 'x'",
        "UPDATE keys SET revoked_at = NULL", "INSERT INTO keys (key_id) VALUES ('x')", "TRUNCATE order_events",
    ],
    "corro_admin": ["DELETE FROM keys", "DELETE FROM control_events", "UPDATE keys SET owner = 'me'"],
    "corro_owner": ["DELETE FROM order_events", "UPDATE control_events SET by = 'x'", "TRUNCATE order_events CASCADE"],
    "corro_analyst": ["SELECT * FROM orders", "SELECT * FROM keys", "DELETE FROM v_orders",
                      "SELECT pg_try_advisory_lock_shared((17750::bigint << 48) | 1)", "SELECT pg_advisory_lock(1, 2)"],
}  # fmt: skip


@pytest.mark.parametrize(("role", "statement"), [(role, text) for role, texts in FORGED.items() for text in texts])
def test_no_role_does_more_than_its_own(house: House, role: str, statement: str) -> None:
    with pytest.raises(DBAPIError, match=REFUSED), house.role(role) as connection:
        connection.exec_driver_sql(statement)


def test_an_analyst_reads_the_views(house: House) -> None:
    with house.role("corro_analyst") as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM v_orders").scalar_one() >= 0


# -- ATTACKS ON THE QUEUE ---
COMMANDS = [
    ("RPOP", "orders.alpaca"), ("LRANGE", "orders.alpaca", "0", "-1"), ("LREM", "orders.alpaca", "0", "x"),
    ("DEL", "orders.alpaca"), ("BRPOP", "orders.alpaca", "1"), ("LINDEX", "orders.alpaca", "0"),
    ("CLIENT", "PAUSE", "100000"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"), ("CLIENT", "NO-EVICT", "on"),
    ("SET", "corro.budget:ibkr:x:word", "0.0 99999999999999"), ("LPUSH", "corro.set_aside", "x"),
    ("LPUSH", "unacked", "x"), ("HSET", "unacked", "x", "y"), ("GET", "corro.deployment"), ("KEYS", "*"),
    ("SCAN", "0"), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "1"), ("FLUSHALL",), ("FLUSHDB",),
    ("SHUTDOWN",), ("MONITOR",), ("ACL", "SETUSER", "bell", "+@all"),
    ("EVAL", "return 1", "0"),
    ("REPLICAOF", "127.0.0.1", "1"), ("INFO",), ("PUBLISH", "corro.x", "y"), ("RENAME", "orders.alpaca", "orders.x"),
    ("EXPIRE", "orders.alpaca", "1"), ("MEMORY", "USAGE", "orders.alpaca"), ("SAVE",), ("MODULE", "LIST"),
]  # fmt: skip


def test_the_bell_rings_and_does_nothing_else(house: House) -> None:
    with house.queue("bell") as bell:
        for command in COMMANDS:
            with pytest.raises(redis.exceptions.NoPermissionError):
                bell.execute_command(*command)
        assert bell.lpush("orders.nobody", "x") == 1


def test_nobody_logs_in_by_default(house: House) -> None:
    with redis.Redis(port=house.port) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()


def test_a_user_of_the_shipped_file_has_no_password_until_somebody_sets_one() -> None:
    text = (DEPLOY / "redis.acl").read_text()
    assert not re.search(r"nopass|>\S|#[0-9a-f]{64}", text)
    assert text.startswith("user default off\n")
    assert {line.split()[1] for line in text.splitlines()} == {"default", "bell", "bare", "worker", "operator"}
    assert Path(DEPLOY / "roles.sql").exists()
