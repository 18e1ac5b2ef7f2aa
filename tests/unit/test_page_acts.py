"""What an operator who has logged in does on the pages: the forms there are taken by the doors they lead to."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")

from sqlalchemy import insert

from models.record.controls import in_force
from models.record.tables import position_locks
from models.settings import load_settings
from tests.unit.door_site import DoorSite, Heard
from tests.unit.words import NOW, Put, Run


@pytest.fixture
def site(bare: Path, database: Any, put: Put) -> Iterator[DoorSite]:
    put("u-1", attempt={"outcome": "unknown", "broker_client_order_id": "u-1"})
    put("a-1", status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"})
    put("f-1", status="filled", attempt={"outcome": "accepted", "broker_order_id": "8"})
    made = DoorSite(load_settings(home=bare))
    yield made
    made.close()


def page(site: DoorSite, path: str) -> str:
    heard = site.ask("GET", path, accept="text/html")
    assert heard.status == 200, heard.body
    return heard.body.decode()


def forms(text: str) -> dict[str, dict[str, str]]:
    """Return the buttons of a page, each with the action it leads to and the fields that are filled in."""
    found = {}
    for attributes, inside in re.findall(r'<form method="post"([^>]*)>(.*?)</form>', text, re.DOTALL):
        to = re.findall(r'action="([^"]+)"', attributes)[0]
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', inside))
        for more, words in re.findall(r"<button([^>]*)>([^<]+)</button>", inside):
            other = re.findall(r'formaction="([^"]+)"', more)
            fields = {name: html.unescape(value) for name, value in hidden.items()}
            found[words.strip()] = {"": other[0] if other else to} | fields
    return found


def press(site: DoorSite, path: str, button: str, **filled: str) -> str:
    """Fill in a form and press its button, as a browser does; returns the page that follows."""
    form = forms(page(site, path))[button]
    to = form.pop("")
    heard: Heard = site.ask("POST", to, form=form | filled, origin="http://localhost", accept="text/html")
    assert heard.status == 303, heard.body
    return page(site, heard.headers["location"])


def test_an_account_of_several_is_a_scope_of_a_halt_and_of_a_kill(bare: Path, database: Any) -> None:
    (bare / "corro.toml").write_text('[brokers.alpaca]\n[brokers.ibkr]\naccounts = { ira = "D1", main = "D2" }\n')
    site = DoorSite(load_settings())
    site.login(site.token(operator=True))
    offered = re.findall(r'<select name="account">(.*?)</select>', page(site, "/fleet"), re.DOTALL)
    assert [re.findall(r"<option[^>]*>([^<]+)", each) for each in offered] == [["all", "ibkr:ira", "ibkr:main"]] * 2
    assert "halt: account ibkr:ira" in press(site, "/fleet", "Halt", broker="", account="ibkr:ira", reason="audit")
    with site.client.database.read() as connection:
        assert [(row["scope_kind"], row["scope"]) for row in in_force(connection)] == [("account", "ibkr:ira")]
    site.close()


def test_nobody_sees_a_form_before_a_login(site: DoorSite) -> None:
    for path in ("/", "/fleet", "/attention", "/orders/u-1", "/orders/a-1"):
        text = page(site, path)
        assert forms(text) == {}
        assert 'href="/login?next=' in text
    site.ask("GET", "/fleet", token=site.token(operator=True), accept="text/html")
    assert (
        forms(site.ask("GET", "/fleet", token=site.token("k-2", operator=True), accept="text/html").body.decode()) == {}
    )


def test_an_operator_logs_in_on_a_page_and_comes_back_to_where_he_was(site: DoorSite) -> None:
    token = site.token(operator=True)
    after = press(site, "/login?next=/fleet", "Log in", token=token)
    assert "<h1>Fleet</h1>" in after
    assert "ann" in after
    assert token not in after
    assert "no operator" in page(site, "/login?failed=1").lower()
    assert 'value="/"' in page(site, "/login?next=https://evil.example")
    assert "Log out" not in press(site, "/fleet", "Log out")


def test_halting_and_resuming_take_a_scope_and_a_reason(site: DoorSite) -> None:
    site.login(site.token(operator=True))
    empty = {"broker": "", "strategy": "", "symbol": ""}
    told = press(site, "/fleet", "Halt", **empty | {"symbol": "KO"}, reason="split")
    assert 'role="status">halt: symbol KO' in told
    with site.client.database.read() as connection:
        (control,) = in_force(connection)
    assert (control["scope"], control["by"], control["reason"]) == ("KO", "ann", "split")
    assert "halt: symbol KO" not in page(site, "/fleet"), "a notice is told once"
    assert "resumed: halt of symbol KO" in press(site, "/fleet", "Resume", **empty | {"symbol": "KO"}, reason="over")
    press(site, "/fleet", "Halt", **empty | {"symbol": "PEP"}, reason="split")
    other = press(site, "/fleet", "Resume", **empty | {"symbol": "KO"}, reason="over")
    assert "resumed: nothing was stopped in that scope; still in force: halt of symbol PEP" in other
    assert "not done: reason: is required" in press(site, "/fleet", "Only reduce", **empty, reason=" ")
    assert "drain: tda" in press(site, "/fleet", "Drain", broker="tda", reason="upgrade")
    killed = press(site, "/fleet", "Kill", **empty, collar="", reason="mad")
    assert "killed: all brokers" in killed


def test_an_order_has_the_forms_that_fit_it(site: DoorSite) -> None:
    site.login(site.token(operator=True))
    assert set(forms(page(site, "/orders/f-1"))) == {"Log out"}
    assert set(forms(page(site, "/orders/a-1"))) == {"Log out", "Cancel this order"}
    settle = {"This is the order", "I have looked at the execution", "The broker does not have it"}
    assert set(forms(page(site, "/orders/u-1"))) == {"Log out", "Cancel this order", *settle}
    assert 'href="/orders/u-1#acts"' in page(site, "/attention")
    assert "cancel of a-1 asked for" in press(site, "/orders/a-1", "Cancel this order", reason="typing error")
    assert "u-1 resolved" in press(site, "/orders/u-1", "The broker does not have it", reason="looked at the screen")
    (event,) = [one for one in site.client.events_of("u-1") if one["kind"] == "resolved"]
    assert "ann" in event["detail"]


def test_every_form_is_of_this_session_and_comes_back(site: DoorSite) -> None:
    csrf = site.login(site.token(operator=True))
    for path in ("/fleet", "/orders/u-1", "/orders/a-1"):
        for words, form in forms(page(site, path)).items():
            assert form["csrf"] == csrf, words
            assert form.get("next", path) == path


def test_a_limit_is_set_as_by_the_command(site: DoorSite, corro: Run) -> None:
    site.login(site.token(operator=True))
    scope = {"strategy": "dip", "symbol": "ko"}
    told = press(site, "/risk", "Set limit", name="max_value", value="20000", until="8h", reason="a new one", **scope)
    assert "limit: max_value 20000" in told
    assert "UTC; 2 orders that were sent before count from now on" in told
    (row,) = json.loads(corro("limits", "--json")[1])
    named = ("scope_kind", "scope", "name", "value", "set_by")
    assert [row[name] for name in named] == ["strategy+symbol", "dip:KO", "max_value", "20000", "ann"]
    assert "not done: max_value: must be a decimal number" in press(
        site, "/risk", "Set limit", name="max_value", value="much", reason="x"
    )
    kinds = [(row["kind"], row["by"], row["reason"]) for row in json.loads(corro("controls", "--log", "--json")[1])]
    assert ("limit_set", "ann", "a new one") in kinds


def test_over_http_nobody_takes_away_what_another_pair_of_eyes_has_set(site: DoorSite, corro: Run) -> None:
    ann, by = site.token(operator=True), ("--by", "compliance", "--reason", "four eyes")
    assert corro("limits", "set", "approve_above_value", "1000", *by)[0] == 0
    dear = {"order_type": "limit", "limit_price": "300"}

    def lift(value: str, **more: str) -> Heard:
        fields = {"name": "approve_above_value", "value": value, "reason": "x", **more}
        return site.ask("POST", "/api/v1/actions/limit_set", fields, token=ann)

    for loose in (lift("1e12"), lift("1000.01"), lift("5", until="1m")):
        assert (loose.status, loose.json.get("reason_code")) == (403, "not_permitted")
    assert "approve_above_value 1000 of all orders, by compliance: would be looser" in lift("1e12").json["detail"]
    assert site.ask("POST", "/api/v1/actions/limit_clear", {"reason": "x"}, token=ann).status == 400
    assert site.submit(ann, **dear).json["status"] == "held"
    assert lift("999").status == 200
    assert [row["value"] for row in json.loads(corro("limits", "--json")[1])] == ["999"]


def test_names_that_are_none_are_told_as_the_askers_mistake(site: DoorSite) -> None:
    token = site.token(operator=True)
    for name, fields in [
        ("limit_set", {"broker": "etrade"}), ("limit_set", {"account": "ibkr:irra"}), ("unlock", {"broker": "ibkr:x"}),
        ("limit_set", {"strategy": "dip", "symbol": "b:KO"}), ("drain", {"broker": "etrade"}),
    ]:  # fmt: skip
        more = {"name": "max_value", "value": "5"} if name == "limit_set" else {"symbol": "KO"}
        heard = site.ask("POST", f"/api/v1/actions/{name}", {"reason": "x"} | more | fields, token=token)
        assert (heard.status, heard.code) == (400, "invalid_request"), (name, fields, heard.body)


def test_a_brake_takes_every_name_and_says_which_nothing_here_has(site: DoorSite, corro: Run) -> None:
    """Also of a broker that nobody has configured any more: the command and HTTP do and say the same."""
    token, nobodys = site.token(operator=True), "nothing here has the broker 'ibkrr' so far; near: ibkr"
    for name in ("halt", "reduce", "kill"):
        for broker, is_known in (("ibkr", True), ("ibkrr", False)):
            heard = site.ask("POST", f"/api/v1/actions/{name}", {"broker": broker, "reason": "x"}, token=token)
            assert (heard.status, heard.json.get("scope")) == (200, broker), heard.body
            assert (nobodys in heard.json["words"]) is not is_known
    done = corro("halt", "--broker", "ibkrr", "--by", "ann", "--reason", "x")
    assert (done[0], nobodys in done[2]) == (0, True)
    site.login(token)
    assert "resumed: halt of ibkrr" in press(site, "/fleet", "Resume", broker="ibkrr", reason="a typing error")


def test_the_page_offers_to_resume_a_broker_that_is_stopped_and_not_configured(site: DoorSite, corro: Run) -> None:
    assert corro("halt", "--broker", "etrade", "--by", "ann", "--reason", "x")[0] == 0
    site.login(site.token(operator=True))
    offered = re.findall(r'<select name="broker"><option value="" selected>all(.*?)</select>', page(site, "/fleet"))
    assert ["<option>etrade</option>" in each for each in offered] == [True, True]


def test_a_lock_of_a_named_account_is_ended_on_the_page(bare: Path, database: Any) -> None:
    (bare / "corro.toml").write_text('[brokers.ibkr]\naccounts = { ira = "DU1111111" }\n')
    at = {"since": NOW, "read_at": NOW, "expected": 0, "found": 5}
    with database.write() as connection:
        connection.execute(insert(position_locks).values(broker="ibkr:ira", symbol="KO", **at))
    site = DoorSite(load_settings(home=bare))
    site.login(site.token(operator=True, brokers=["ibkr"]))
    assert "KO at ibkr:ira unlocked" in press(site, "/attention", "Unlock", reason="bought by hand")
    irra = {"reason": "x", "account": "ibkr:irra"}
    heard = site.ask("POST", "/api/v1/actions/halt", irra, token=site.token("k-2", operator=True))
    assert (heard.status, "account 'ibkr:irra' so far; near: ibkr:ira" in heard.json["words"]) == (200, True)
    site.close()


def test_a_bounded_key_sets_limits_within_its_bounds_alone(site: DoorSite) -> None:
    token, limit = site.token(operator=True, strategies=["dip"]), {"name": "max_value", "value": "5", "reason": "x"}
    status = [
        site.ask("POST", "/api/v1/actions/limit_set", {**limit, **scope}, token=token).status
        for scope in ({"strategy": "dip"}, {"strategy": "other"}, {}, {"key": "k-2"}, {"strategy": " "})
    ]
    assert status == [200, 403, 403, 403, 400]
    plain = site.token("k-2")
    assert site.ask("POST", "/api/v1/actions/limit_set", limit, token=plain).status == 403
