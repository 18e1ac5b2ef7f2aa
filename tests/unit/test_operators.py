"""Logins, and what operators do over HTTP: in whose name, within which bounds, and by nobody's trick."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from models.history import History
from models.record.database import Database
from models.record.tables import control_events
from models.settings import load_settings
from tests.unit.door_site import ORDER, DoorSite
from worker.control.keys import revoke
from worker.page import sessions


@pytest.fixture
def site(bare: Path, database: Database) -> Iterator[DoorSite]:
    made = DoorSite(load_settings(home=bare))
    yield made
    made.close()


# -- LOGIN ---
def test_an_operator_logs_in_and_out_and_the_cookie_is_nobody_elses_to_read(site: DoorSite) -> None:
    token = site.token(operator=True)
    heard = site.ask("POST", "/login", form={"token": token, "next": "/orders/1"}, accept="text/html")
    assert (heard.status, heard.headers["location"]) == (303, "/orders/1")
    cookie = heard.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in cookie
    csrf = site.ask("GET", "/api/v1/session").json["csrf"]
    assert site.ask("POST", "/logout", origin="http://localhost", x_csrf_token=csrf).status == 204
    assert site.ask("GET", "/api/v1/session").status == 401


def test_only_an_operators_token_logs_in(site: DoorSite) -> None:
    assert site.ask("POST", "/login", {"token": site.token()}).status == 403
    assert site.ask("POST", "/login", {"token": "x"}).status == 401
    assert site.ask("POST", "/login", {"token": ["x"], "next": 7}).status == 401
    page = site.ask("POST", "/login", form={"token": "x", "next": "//evil.example"}, accept="text/html")
    assert (page.status, page.headers["location"]) == (303, "/login?failed=1&next=%2F")
    token = site.token("k-2", operator=True)
    heard = site.ask("POST", "/login", {"token": token}, origin="https://evil.example")
    assert (heard.status, heard.code) == (403, "cross_site")


def test_over_https_the_cookie_is_the_hosts_own_and_goes_over_nothing_else(bare: Path, database: Any) -> None:
    site = DoorSite(load_settings(home=bare, web={"allowed_hosts": ["corro.example"]}))
    token = site.token(operator=True)
    heard = site.ask("POST", "/login", {"token": token}, peer="192.0.2.7", scheme="https", host="corro.example")
    assert heard.headers["set-cookie"].startswith("__Host-corro=")
    assert "secure" in heard.headers["set-cookie"].lower()
    assert "max-age" in heard.headers["strict-transport-security"]
    site.close()


def test_who_has_not_logged_in_is_not_told_from_elsewhere_how_everything_stands(bare: Path, database: Any) -> None:
    site = DoorSite(load_settings(home=bare, web={"allowed_hosts": ["corro.example"]}))
    there = {"peer": "192.0.2.7", "scheme": "https", "host": "corro.example", "accept": "text/html"}
    asked: dict[str, dict[str, Any]] = {"here": {"accept": "text/html"}, "there": there}
    told = {place: site.ask("GET", "/login", **keys).body for place, keys in asked.items()}
    assert b"alarms" in told["here"]
    assert b"alarms" not in told["there"]
    assert b'name="token"' in told["there"]
    site.close()


@pytest.mark.parametrize(
    ("origin", "csrf"),
    [
        ("http://localhost", ""), ("http://localhost", "wrong"), ("https://evil.example", None), ("null", None),
        ("", None), ("http://localhost:81", None), ("http://localhost@evil.example", None),
    ],
)  # fmt: skip
def test_what_another_sites_page_makes_a_browser_do_is_not_done(site: DoorSite, origin: str, csrf: str | None) -> None:
    own = site.login(site.token(operator=True))
    given = own if csrf is None else csrf
    for keys in ({"origin": origin, "x_csrf_token": given}, {"origin": origin}):
        form = {"reason": "x", "csrf": given} if "x_csrf_token" not in keys else {"reason": "x"}
        heard = site.ask("POST", "/api/v1/actions/halt", form=form, **keys)
        assert heard.status == 403, heard.body
        assert heard.code == "cross_site"
    assert site.ask("POST", "/api/v1/orders", ORDER, idempotency_key="o-1", origin=origin).status == 403
    assert controls(site) == []
    assert (
        site.ask("POST", "/api/v1/actions/halt", form={"reason": "x", "csrf": own}, origin="http://localhost").status
        == 200
    )


def journal(site: DoorSite) -> list[dict[str, Any]]:
    return History(site.client.database).rows(control_events, newest_first=False)


def controls(site: DoorSite) -> list[tuple[Any, ...]]:
    names = ("kind", "scope_kind", "scope", "by", "reason")
    return [tuple(row[name] for name in names) for row in journal(site) if row["kind"] != "key_add"]


def test_a_session_ends_by_time_and_with_its_key(site: DoorSite, monkeypatch: pytest.MonkeyPatch) -> None:
    token = site.token(operator=True)
    site.login(token)
    assert site.ask("GET", "/api/v1/session").status == 200
    monkeypatch.setattr(sessions, "IDLE_S", -1.0)
    assert site.ask("GET", "/api/v1/session").status == 401
    monkeypatch.undo()
    site.login(token)
    revoke(site.client.database, "k-1", by="ann", reason="over")
    assert site.ask("GET", "/api/v1/session").status == 401


# -- WHAT OPERATORS DO ---
def test_each_action_stands_in_the_journal_with_the_owner_and_the_reason(site: DoorSite) -> None:
    ops = site.token(operator=True)

    def act(name: str, **fields: object) -> Any:
        heard = site.ask("POST", f"/api/v1/actions/{name}", fields | {"reason": "drill"}, token=ops)
        assert heard.status == 200, heard.body
        return heard.json

    site.submit(site.token("k-2"), "o-1")
    site.submit(site.token("k-3", needs_approval=True, owner="bob"), "o-2")
    site.submit(site.token("k-4", needs_approval=True, owner="bob"), "o-3")
    assert act("cancel", client_order_id="o-1")["status"] == "canceled"
    assert act("approve", client_order_id="o-2")["status"] == "queued"
    assert act("deny", client_order_id="o-3")["status"] == "denied"
    act("halt", broker="ibkr")
    act("reduce", strategy="dip", symbol="ko")
    act("drain", broker="tda")
    assert act("resume", broker="ibkr")["ended"][0]["state"] == "halted"
    assert act("kill", strategy="dip", flatten=True, collar="2")["generation"] > 0
    act("resume", all=True)
    told = controls(site)
    assert {(by, reason) for *_, by, reason in told} == {("ann", "drill")}
    assert [kind for kind, *_ in told] == [
        "approve", "deny", "halt", "reduce", "drain", "resume", "kill", "resume", "resume", "resume",
    ]  # fmt: skip
    assert ("reduce", "strategy+symbol", "dip:KO", "ann", "drill") in told
    events = site.ask("GET", "/api/v1/orders/o-1").json["events"]
    assert "by ann: drill" in events[-1]["detail"]


NOT_DONE: list[tuple[str, dict[str, Any], int]] = [
        ("halt", {}, 400), ("halt", {"reason": " "}, 400), ("halt", {"reason": "x", "brokr": "ibkr"}, 400),
        ("drain", {"reason": "x", "broker": "nowhere"}, 400), ("halt", {"reason": 7}, 400),
        ("fly", {"reason": "x"}, 400),
        ("cancel", {"reason": "x", "client_order_id": "none"}, 404), ("drain", {"reason": "x"}, 400),
        ("resolve", {"reason": "x", "client_order_id": "o-1"}, 400), ("kill", {"reason": "x", "collar": "2"}, 400),
        ("resolve", {"reason": "x", "client_order_id": "o-1", "absent": True}, 422),
        *(("kill", {"reason": "x", "flatten": True, "collar": text}, 400)
          for text in ("NaN", "inf", "1_0", "1e-400", "0")),
        ("unlock", {"reason": "x", "broker": "ibkr", "symbol": "KO"}, 404),
        ("deny", {"reason": "x", "client_order_id": "o-1"}, 400),
        *((name, {"reason": "x", kind: lost}, 400) for name in ("halt", "reduce", "resume", "kill") for kind, lost in (
            ("strategy", ""), ("symbol", " "), ("broker", None), ("account", "\t"), ("key", ""))),
        ("resume", {"reason": "x", "all": None}, 400), ("kill", {"reason": "x", "flatten": ""}, 400),
        *((f"{name}?strategy=dip", {"reason": "x"}, 400) for name in ("halt", "reduce", "resume", "kill")),
        ("cancel?client_order_id=o-1", {"reason": "x", "client_order_id": "o-1"}, 400),
    ]  # fmt: skip


def test_an_action_that_cannot_be_done_is_a_problem_and_leaves_no_trace(site: DoorSite) -> None:
    ops = site.token(operator=True)
    site.submit(ops, "o-1")
    for name, fields, status in NOT_DONE:
        heard = site.ask("POST", f"/api/v1/actions/{name}", fields, token=ops)
        assert heard.status == status, (name, fields, heard.body)
    assert controls(site) == []


def test_a_scope_is_blank_only_in_the_form_of_a_page(site: DoorSite) -> None:
    """A script whose variable is empty, `-d strategy=$S`, does not mean everything."""
    form = {"reason": "x", "strategy": ""}
    heard = site.ask("POST", "/api/v1/actions/kill", form=form, token=site.token(operator=True))
    assert (heard.status, "strategy: is blank" in heard.json["detail"], controls(site)) == (400, True, [])
    form["csrf"] = site.login(site.token("k-2", operator=True))
    assert site.ask("POST", "/api/v1/actions/halt", form=form, origin="http://localhost").json["scope"] == "*"


def test_an_action_takes_an_operators_key_within_its_bounds(site: DoorSite) -> None:
    plain, judge = site.token("k-2"), site.token("k-3", may_approve=True)
    site.submit(site.token("k-4", needs_approval=True, owner="bob"), "o-1")
    site.submit(site.token("k-5", needs_approval=True), "o-2")

    def act(token: str, name: str, **fields: object) -> Any:
        return site.ask("POST", f"/api/v1/actions/{name}", fields | {"reason": "x"}, token=token)

    assert act(plain, "halt").code == act(judge, "halt").code == "untrusted"
    assert act(plain, "approve", client_order_id="o-1").status == 403
    assert act(judge, "approve", client_order_id="o-2").status == 403, "ann's own: four eyes"
    assert act(judge, "approve", client_order_id="o-1").status == 200
    [signed] = [row["detail"] for row in journal(site) if row["kind"] == "approve"]
    assert json.loads(signed)["key"] == "k-3"
    bound = site.token("k-6", operator=True, brokers=["tda"])
    assert act(bound, "halt").status == act(bound, "halt", broker="ibkr").status == 403
    assert act(bound, "resume", all=True).status == 403
    assert act(bound, "halt", broker="tda").status == 200


def test_a_browser_goes_back_to_its_page_and_is_told_there(site: DoorSite) -> None:
    form = {"csrf": site.login(site.token(operator=True)), "next": "/risk"}
    asked = {"origin": "http://localhost", "accept": "text/html"}
    session = next(iter(_sessions(site)))
    for fields, words in (({"reason": "x"}, "halt: all brokers"), ({}, "not done: reason: is required")):
        heard = site.ask("POST", "/api/v1/actions/halt", form=form | fields, **asked)
        assert (heard.status, heard.headers["location"]) == (303, "/risk")
        assert session.take_notice() == words
        assert session.take_notice() == ""


def _sessions(site: DoorSite) -> Any:
    found = [d.dependency.__self__ for d in site.app.router.dependencies[:1]]  # type: ignore[union-attr]
    return found[0]._sessions.values()
