"""Orders, logins and what operators do over HTTP: who may, what is answered, and what an attacker gets."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from sqlalchemy import update

from models.errors import ConfigurationError
from models.messages import OrderRequest
from models.record.database import Database
from models.record.tables import orders
from models.settings import load_settings
from producers import OrderClient
from tests.unit.door_site import ORDER, DoorSite
from tests.unit.page_server import serving
from tests.unit.trust_desk import DEPLOYMENT, Make, TrustDesk, order, sealed
from worker.brokers.fake import FakeBroker
from worker.control.keys import add, revoke
from worker.page import doorman, sessions
from worker.page import serving as server_module
from worker.rehearsal import rehearsal


def site_of(home: Path, **settings: Any) -> DoorSite:
    return DoorSite(load_settings(home=home, security={"deployment": DEPLOYMENT}, **settings))


@pytest.fixture
def site(bare: Path, database: Database) -> Iterator[DoorSite]:
    made = site_of(bare)
    yield made
    made.close()


# -- SUBMIT ---
def test_an_order_is_recorded_once_however_often_it_is_posted(site: DoorSite) -> None:
    token = site.token()
    first, again = site.submit(token), site.submit(token)
    assert (first.status, again.status) == (201, 200)
    assert first.headers["location"] == "/api/v1/orders/o-1"
    assert first.json["status"] == "queued"
    assert {k: v for k, v in again.json.items() if k != "updated_at"}.items() <= first.json.items()
    assert len(site.ask("GET", "/api/v1/orders").json) == 1
    other = site.submit(token, quantity="6")
    assert (other.status, other.code) == (422, "idempotency_conflict")


def test_the_location_leads_to_the_order_whatever_its_id(site: DoorSite) -> None:
    heard = site.submit(site.token(), "a/b#c=1+@")
    assert heard.headers["location"] == "/api/v1/orders/a%2Fb%23c%3D1%2B%40"
    assert site.ask("GET", "/api/v1/orders/a/b#c=1+@".replace("#", "%23")).status == 404
    assert site.ask("DELETE", "/api/v1/orders/a/b", token=site.token("k-2")).status == 404


@pytest.mark.parametrize(
    ("id_", "changes", "status", "code"),
    [
        (None, {}, 400, "invalid_request"),
        ("", {}, 400, "invalid_request"),
        ("two words", {}, 400, "invalid_request"),
        ("o-1", {"client_order_id": "o-2"}, 400, "invalid_request"),
        ("o-1", {"client_order_id": 1}, 422, "invalid_order"),
        ("o-1", {"quantity": "-5"}, 422, "invalid_order"),
        ("o-1", {"surprise": 1}, 422, "invalid_order"),
        ("o-1", {"strategy": "a\u0000b"}, 422, "invalid_order"),
        ("o-1", {"route": ["nowhere"]}, 422, "invalid_order"),
    ],
)
def test_a_wrong_order_is_a_problem_and_no_row(
    site: DoorSite, id_: str | None, changes: dict[str, Any], status: int, code: str
) -> None:
    heard = site.submit(site.token(), id_, **changes)
    assert (heard.status, heard.code) == (status, code)
    assert heard.headers["content-type"] == "application/problem+json"
    assert site.ask("GET", "/api/v1/orders").json == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"7", b"\xff\xfe", b'"\\ud800"',
        b'{"symbol":"KO","side":"buy","quantity":1,"quantity":100}', b'{"symbol":"KO","side":"buy","quantity":NaN}',
        b'{"symbol":"KO","side":"buy","quantity":1e999}', b"[" * 60_000,
        b'{"symbol":"KO","side":"buy","quantity":1,"strategy":"\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_no_json_or_no_order_is_refused(site: DoorSite, body: bytes) -> None:
    heard = site.ask("POST", "/api/v1/orders", body, token=site.token(), idempotency_key="o-1")
    assert heard.status in (400, 422), heard.body
    assert site.ask("GET", "/api/v1/orders").json == []


@pytest.mark.parametrize(
    ("body", "given", "hint"),
    [
        (
            b"symbol=KO&side=buy",
            {"content_type": "application/x-www-form-urlencoded"},
            "x-www-form-urlencoded': send a",
        ),
        (b"symbol: KO", {}, "it came without a Content-Type: send a JSON object with 'Content-Type: application/json'"),
        (b"", {"content_type": "text/plain"}, "must be JSON, and is empty; it came as Content-Type 'text/plain'"),
        (b"{", {"content_type": "application/json; charset=utf-8"}, "must be JSON: Expecting property name"),
    ],
)
def test_a_body_that_is_no_json_is_answered_with_what_it_was_called(
    site: DoorSite, body: bytes, given: dict[str, str], hint: str
) -> None:
    heard = site.ask("POST", "/api/v1/orders", body, token=site.token(), idempotency_key="o-1", **given)
    assert (heard.status, heard.code) == (400, "invalid_request")
    assert hint in heard.json["detail"]


def test_a_refused_order_is_a_problem_with_the_order(site: DoorSite, bare: Path) -> None:
    small = site_of(bare, risk={"max_quantity": 1})
    heard = small.submit(site.token())
    assert (heard.status, heard.code, heard.json["reason_code"]) == (422, "denied", "order_quantity")
    assert (heard.json["order"]["client_order_id"], heard.json["order"]["status"]) == ("o-1", "denied")
    small.close()


# -- WHO ---
def test_without_a_token_nothing_is_recorded_and_a_wrong_one_is_nobodys(site: DoorSite) -> None:
    token = site.token()
    assert (site.submit(None).status, site.submit(None).code) == (401, "not_authenticated")
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    for given in (wrong, "x", "corro_k-1_" + "0" * 64, ""):
        assert site.submit(given).status == 401
    assert site.ask("POST", "/api/v1/orders", ORDER, authorization="Basic b3BzOng=").status == 401
    revoke(site.client.database, "k-1", by="ann", reason="over")
    heard = site.submit(token)
    assert (heard.status, heard.json["reason_code"]) == (401, "key_revoked")


def test_wrong_tokens_are_soon_not_looked_up_any_more_and_lock_nobody_out(site: DoorSite) -> None:
    good = site.token()
    told = [site.submit("corro_k-1_" + "0" * 64).status for _ in range(sessions.TRIES + 1)]
    assert told == [401] * sessions.TRIES + [429]
    assert int(site.submit("x").headers["retry-after"]) > 0
    assert site.submit("x", peer="::1").status == 401, "another address"
    assert site.submit(good).status == 201


@pytest.mark.parametrize(
    ("bounds", "changes"),
    [
        ({"strategies": ["dip"]}, {"strategy": "other"}), ({"strategies": ["dip"]}, {}),
        ({"symbols": ["PEP"]}, {}), ({"brokers": ["tda"]}, {"route": ["ibkr", "alpaca"]}),
    ],
)  # fmt: skip
def test_a_key_reaches_no_further_than_its_bounds(
    site: DoorSite, bounds: dict[str, Any], changes: dict[str, Any]
) -> None:
    heard = site.submit(site.token(**bounds), **changes)
    assert heard.status == 403, heard.body
    assert (heard.code, heard.json["reason_code"]) == ("untrusted", "not_permitted")
    assert site.ask("GET", "/api/v1/orders").json == []


def test_a_key_that_needs_approval_has_its_orders_held(site: DoorSite) -> None:
    heard = site.submit(site.token(needs_approval=True))
    assert (heard.status, heard.json["status"]) == (201, "held")


def test_a_tokens_order_is_signed_by_its_key_and_stands_where_signatures_are_required(make: Make) -> None:
    desk = make(require="all")
    site = DoorSite(desk.settings)
    token = site.token(strategies=["dip"], brokers=["tda", "alpaca"])
    assert site.submit(token, "o-1", strategy="dip").status == 201
    assert site.submit(token, "o-2", strategy="dip", limit_price="1", order_type="limit").status == 201
    site.client.submit(OrderRequest(client_order_id="o-3", symbol="KO", side="buy", quantity=5))
    with desk.database.write() as connection:
        connection.execute(update(orders).where(orders.c.client_order_id == "o-2").values(quantity=500))
    desk.desk.place.work(["o-1", "o-2", "o-3"])
    stands = [desk.stands(id_) for id_ in ("o-1", "o-2", "o-3")]
    assert stands == [("filled", None), ("denied", "bad_signature"), ("denied", "not_signed")]
    assert desk.row("o-1")["key_id"] == "k-1"
    site.close()


def test_a_token_in_a_file_signs_for_a_client_too(make: Make, tmp_path: Path) -> None:
    desk = make(require="all")
    _, token = add(desk.database, "k-1", "token", by="test", owner="ann")
    path = tmp_path / "token"
    path.write_text(f"{token}\n")
    with OrderClient(desk.settings, key="k-1", key_file=path) as client:
        client.submit(OrderRequest(client_order_id="o-1", symbol="KO", side="buy", quantity=5))
    desk.desk.place.work(["o-1"])
    assert desk.stands() == ("filled", None)
    path.write_text("corro_k-1_" + "0" * 64)
    with pytest.raises(ConfigurationError, match="is not the token of that key"):
        OrderClient(desk.settings, key="k-1", key_file=path)


def test_a_signed_order_needs_no_token(site: DoorSite, desk: TrustDesk) -> None:
    signer = desk.key("k-9", strategies=["dip"])
    body = sealed(signer, order("s-1"))
    assert site.ask("POST", "/api/v1/orders", body, idempotency_key="s-1").status == 201
    assert desk.row("s-1")["signature"] == body["sig"]
    assert site.ask("POST", "/api/v1/orders", body, idempotency_key="s-2").status == 400
    forged = body | {"signed": body["signed"].replace('"5"', '"6"')}
    heard = site.ask("POST", "/api/v1/orders", forged, idempotency_key="s-3")
    assert (heard.status, heard.json["reason_code"]) == (403, "bad_signature")


# -- CANCEL ---
def test_a_cancel_is_taken_for_what_the_key_may_cancel(site: DoorSite) -> None:
    mine, other, boss = site.token(), site.token("k-2"), site.token("k-3", may_cancel="all")
    site.submit(mine, "o-1")
    site.submit(mine, "o-2")
    assert site.ask("DELETE", "/api/v1/orders/o-1", token=other).status == 403
    heard = site.ask("DELETE", "/api/v1/orders/o-1", token=mine)
    assert (heard.status, heard.json["status"]) == (202, "canceled")
    assert site.ask("DELETE", "/api/v1/orders/o-2", token=boss).status == 202
    assert (site.ask("DELETE", "/api/v1/orders/none", token=mine).code) == "not_found"


# -- FROM WHERE ---
def test_from_elsewhere_nothing_is_read_without_a_token_and_nothing_over_plain_http(bare: Path, database: Any) -> None:
    site = site_of(bare, web={"allowed_hosts": ["corro.example"], "proxies": ["10.0.0.9"]})
    token = site.token()
    paths = ("/api/v1/orders", "/metrics", "/healthz", "/api/v1/events", "/", "/orders.csv", "/fleet", "/changes")
    for peer, scheme, host in (("192.0.2.7", "https", "corro.example"), ("10.0.0.9", "http", "corro.example")):
        for path in paths:
            assert site.ask("GET", path, peer=peer, scheme=scheme, host=host).status == 401, path
        assert site.ask("GET", paths[0], peer=peer, scheme=scheme, host=host, token=token).status == 200
    assert site.ask("GET", paths[0], peer="192.0.2.7", host="corro.example", token=token).status == 400
    for name in ("x-forwarded-for", "forwarded", "via"):
        assert site.ask("GET", paths[0], more=[(name, "127.0.0.1")]).status == 401, "a proxy on this machine"
    assert site.ask("GET", paths[0], host="corro.example").status == 401
    nowhere = site.ask("GET", "/nowhere", peer="192.0.2.7", scheme="https", host="corro.example", accept="text/html")
    assert (nowhere.status, nowhere.headers["content-type"]) == (404, "application/problem+json"), "no page: it tells"
    page = site.ask("GET", paths[0], peer="192.0.2.7", scheme="https", host="corro.example", accept="text/html")
    assert (page.status, page.headers["location"]) == (303, "/login?next=%2Fapi%2Fv1%2Forders")
    site.close()


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost@evil", "", "[::1", None])
def test_another_name_is_not_answered(site: DoorSite, host: str | None) -> None:
    heard = site.ask("GET", "/api/v1/orders", host=host)
    assert heard.status == 400, heard.body
    assert heard.code == "invalid_request"
    assert "frame-ancestors 'none'" in heard.headers["content-security-policy"]


@pytest.mark.parametrize(
    "more",
    [
        [("host", "localhost")], [("idempotency-key", "o-2")], [("authorization", "Bearer x")],
        [("content-length", "5"), ("transfer-encoding", "chunked")], [("origin", "a"), ("origin", "b")],
    ],
)  # fmt: skip
def test_a_request_that_says_two_things_is_refused(site: DoorSite, more: list[tuple[str, str]]) -> None:
    heard = site.ask("POST", "/api/v1/orders", ORDER, token=site.token(), idempotency_key="o-1", more=more)
    assert (heard.status, heard.code) == (400, "invalid_request")
    assert site.ask("GET", "/api/v1/orders").json == []


def test_a_body_is_bounded_by_size_and_time(site: DoorSite, monkeypatch: pytest.MonkeyPatch) -> None:
    token, keys = site.token(), {"idempotency_key": "o-1"}
    told = site.ask("POST", "/api/v1/orders", b"", token=token, content_length="70000", **keys)
    assert (told.status, told.code) == (413, "body_too_large")
    endless = [b" " * 1000] * 70
    assert site.ask("POST", "/api/v1/orders", token=token, chunks=endless, **keys).status == 413
    monkeypatch.setattr(doorman, "BODY_S", 0.05)
    begun = time.monotonic()
    slow = site.ask("POST", "/api/v1/orders", token=token, chunks=[], **keys)
    assert (slow.status, slow.code) == (408, "body_too_slow")
    assert time.monotonic() - begun < 2


# -- NOTHING IS TOLD ---
def test_a_token_is_in_no_answer_and_no_log(site: DoorSite, capsys: pytest.CaptureFixture[str]) -> None:
    token = site.token(operator=True)
    said = [site.submit(token), site.submit(token, strategy=token), site.ask("GET", f"/{token}", token=token)]
    said += [site.ask("POST", "/login", {"token": token, "next": f"/{token}"})]
    assert not [heard for heard in said if token.encode() in heard.body]
    out = capsys.readouterr()
    assert token not in out.out + out.err
    assert json.loads(said[2].body)["code"] == "not_found"


# -- THE DOCUMENT AND THE SOCKET ---
def test_the_document_has_every_route_with_its_bodies_answers_and_problems(site: DoorSite) -> None:
    told = site.ask("GET", "/api/openapi.json").json
    submit = told["paths"]["/api/v1/orders"]["post"]
    assert {"200", "201", "400", "401", "403", "422", "429", "503"} <= submit["responses"].keys()
    assert submit["parameters"][0] | {"schema": 0, "description": 0} == {
        "name": "Idempotency-Key", "in": "header", "required": True, "schema": 0, "description": 0,
    }  # fmt: skip
    order = told["components"]["schemas"]["Order"]["properties"]
    assert order.keys() == OrderRequest.model_fields.keys()
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            problems = [answer for status, answer in operation["responses"].items() if status == "401"]
            assert [list(problem["content"]) for problem in problems] == [["application/problem+json"]], (path, method)


def test_a_strategy_in_javascript_places_follows_and_cancels_as_the_docs_have_it(tmp_path: Path) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    code = (Path(__file__).parents[2] / "docs" / "http.md").read_text().partition("```js\n")[2].partition("```")[0]
    given = "const [base, token, id] = process.argv.slice(2);\n"
    with rehearsal(tmp_path, FakeBroker("alpaca")) as client, serving(client) as port:
        _, token = add(client.database, "k-1", "token", by="test", owner="ann", strategies=["dip"])
        (tmp_path / "strategy.mjs").write_text(given + code)
        command = [node, str(tmp_path / "strategy.mjs"), f"http://127.0.0.1:{port}", str(token), "js-1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert client.order("js-1").status == "canceled", done.stderr
    wanted = ["queued", "claimed", "accepted", "cancel_requested", "canceled"]
    assert [kind for kind in done.stdout.split() if kind in wanted] == wanted


def test_a_method_that_a_path_has_not_is_answered_with_those_it_has(site: DoorSite) -> None:
    heard = site.ask("PUT", "/api/v1/orders", token=site.token())
    assert (heard.status, heard.code, heard.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/orders?strategy=dip"), ("DELETE", "/api/v1/orders/o-1?broker=tda"), ("GET", "/?statu=filled"),
        ("POST", "/hooks/tradingview/x?strategy=dip"), ("GET", "/api/v1/orders?statu=filled"),
        ("GET", "/api/v1/positions?broker=tda"), ("GET", "/api/v1/orders?status=filled&status=held"),
    ],
)  # fmt: skip
def test_what_an_address_says_is_heard_or_refused(site: DoorSite, method: str, path: str) -> None:
    heard = site.ask(method, path, ORDER, token=site.token(), idempotency_key="o-1")
    assert (heard.status, heard.code) == (400, "invalid_request")
    assert site.ask("GET", "/healthz?at=now").status == 200


@pytest.mark.parametrize("path", ["/api/v1/orders/a\0b", "/api/v1/orders?symbol=%00", "/hooks/tradingview/\0"])
def test_what_no_database_holds_is_asked_of_none(site: DoorSite, path: str) -> None:
    heard = site.ask("GET", path)
    assert heard.status == 400
    assert heard.headers["connection"] == "close"
    assert site.ask("GET", f"/api/v1/events?since={2**63}").status == 422


def test_a_request_that_drips_is_not_waited_for(site: DoorSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEADERS_S", 0.3)
    with serving(site.client) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(b"GET /api/v1/fleet HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            slow.sendall(b"GET /api/v1/fleet HT")
            assert slow.recv(1) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as two:
            lengths = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"
            two.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\n" + lengths + b"\r\n")
            assert two.recv(12) == b"HTTP/1.1 400"
            while two.recv(4096):
                pass
