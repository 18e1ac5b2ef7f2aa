"""`corro check` against a real sandbox process: what it finds when all is well, and what it advises when it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from models.errors import ConfigurationError
from models.record.database import Database, upgrade
from models.settings import Settings, load_settings
from tests.kit import ROOT, World, clean_environment, environment
from worker import checks as check
from worker.brokers.alpaca.stream import AlpacaStream
from worker.checks.steps import Finding
from worker.control import controls
from worker.control.scopes import Scope
from worker.messaging.dead_letters import SET_ASIDE
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.sandbox.control import SandboxControl

KEYS = {"broker", "check", "state", "words", "advice"}
STEPS = ["workers", "adapter", "settings", "connect", "clock", "account", "positions", "permissions", "bars", "quote"]


class CheckHouse:
    """A sandbox process with all four doors, and settings that lead to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        command = [sys.executable, "-m", "worker.sandbox.server", "--home", str(home), "--ports-any"]
        with (home / "sandbox.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment(), cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        self.control = SandboxControl.at(home)
        self.ports = self.control.ports()

    def tables(self, **more: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the brokers' settings, with keys over the usual ones by name."""
        http = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        oauth = {"api_key": "an-app-key", "refresh_token": "a-refresh-token"}
        usual: dict[str, dict[str, Any]] = {
            "ibkr": {"port": self.ports["ibkr"], "client_id": 1},
            "alpaca": {
                "base_url": http["alpaca"], "data_url": http["alpaca"], "key_id": "a-key-id",
                "secret_key": "a-secret-key",
            },
            "tda": {
                "base_url": f"{http['tda']}/v1", "account_id": "123456789", "token_path": str(self.home / "tda.json"),
                **oauth,
            },
            "schwab": {
                "base_url": http["schwab"], "app_secret": "an-app-secret", "token_path": str(self.home / "schwab.json"),
                **oauth,
            },
        }  # fmt: skip
        return {name: {"adapter": name, **table, **more.get(name, {})} for name, table in usual.items()}

    def settings(self, **more: Mapping[str, Any]) -> Settings:
        """Return settings with all four brokers."""
        return load_settings(home=self.home, brokers=self.tables(**more))

    def close(self) -> None:
        """End the sandbox."""
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckHouse]:
    made = CheckHouse(tmp_path_factory.mktemp("check"))
    database = Database(f"sqlite:///{made.home / 'corro.db'}")
    upgrade(database)
    database.close()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_fault_stays(house: CheckHouse) -> Iterator[None]:
    yield
    house.control.clear_faults()


def of(found: list[Finding], broker: str | None, name: str) -> Finding:
    (one,) = [one for one in found if (one.broker, one.check) == (broker, name)]
    return one


def failed(found: list[Finding]) -> list[tuple[str | None, str]]:
    return [(one.broker, one.check) for one in found if one.state == "fail"]


def corro(home: Path, *arguments: str, tables: Mapping[str, Mapping[str, Any]], **more: str) -> Any:
    lines = []
    for name, table in tables.items():
        lines += [f"[brokers.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (home / "corro.toml").write_text("\n".join(lines) + "\n")
    (home / "corro.toml").chmod(0o600)
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", "check", *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={**clean_environment(), "CORRO_HOME": str(home), "CORRO_CONFIG": str(home / "corro.toml"), **more},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


# -- THE COMMAND ---
def test_all_doors_up(house: CheckHouse) -> None:
    said = corro(house.home, "--json", tables=house.tables())
    found = json.loads(said.stdout)

    assert said.returncode == 0, [one for one in found if one["state"] == "fail"]
    assert said.stderr == ""
    assert all(set(one) == KEYS for one in found)
    assert {one["state"] for one in found} <= {"ok", "warn", "skip"}
    assert [one["check"] for one in found if one["broker"] is None] == ["settings", "database", "queue", "market"]
    for name in ("ibkr", "alpaca", "tda", "schwab"):
        token = ["token"] if name in ("tda", "schwab") else []
        assert [one["check"] for one in found if one["broker"] == name] == [*STEPS[:-2], *token, *STEPS[-2:]]
    words = {(one["broker"], one["check"]): one["words"] for one in found}
    assert "corro.toml" in words[None, "settings"]
    assert "a commit takes" in words[None, "database"]
    assert words["ibkr", "settings"].startswith("PAPER")
    assert "client id 101" in words["ibkr", "settings"]
    assert "Read-Only API is off" in words["ibkr", "permissions"]
    assert "buying power" in words["alpaca", "account"]
    assert "days left" in words["schwab", "token"]
    assert "retired" in words["tda", "adapter"]
    assert "spread" in words["schwab", "quote"]
    for secret in ("a-secret-key", "an-app-secret", "a-refresh-token"):
        assert secret not in said.stdout + said.stderr


def test_one_broker_as_lines_for_a_pipe(house: CheckHouse) -> None:
    said = corro(house.home, "alpaca", tables=house.tables(alpaca={"key_id": "wrong"}))

    header, *lines = said.stdout.splitlines()
    assert said.returncode == 1
    assert header.split("\t") == ["broker", "check", "state", "words", "advice"]
    assert all(len(line.split("\t")) == 5 for line in lines)
    assert {line.split("\t")[0] for line in lines} == {"", "alpaca"}
    (connect,) = [line.split("\t") for line in lines if line.startswith("alpaca\tconnect")]
    assert connect[2] == "fail"
    assert "Paper keys open only https://paper-api.alpaca.markets" in connect[4]


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        (["--json"], {"ibkr": {"port": 7496}}, "the live port"),
        (["--json"], {"alpaca": {"base_url": "https://api.alpaca.markets"}}, "live = true"),
        (["--json"], {"schwab": {"app_secret": ""}}, "app_secret is missing"),
    ],
)
def test_wrong_settings_of_a_broker_end_with_2(
    house: CheckHouse, arguments: list[str], changes: dict[str, dict[str, Any]], words: str
) -> None:
    (name,) = changes
    said = corro(house.home, name, *arguments, tables={name: house.tables(**changes)[name]})
    (one,) = [one for one in json.loads(said.stdout) if one["state"] == "fail"]
    assert said.returncode == 2
    assert (one["check"], words in one["words"]) == ("settings", True), one


def test_settings_that_cannot_be_read_end_with_2(house: CheckHouse) -> None:
    for name, word in (("CORRO_TIMING__LEASE", "timing.lease"), ("CORRO_DATABASE_ULR", "CORRO_DATABASE_ULR")):
        said = corro(house.home, "--json", tables=house.tables(), **{name: "soon"})
        (one,) = json.loads(said.stdout)
        assert (said.returncode, one["check"], one["state"]) == (2, "settings", "fail")
        assert word in one["words"]


def test_an_unknown_broker_is_a_usage_error(house: CheckHouse) -> None:
    with pytest.raises(ConfigurationError, match="no broker 'nobody'"):
        check.run(house.settings(), ["nobody"])


# -- INTERACTIVE BROKERS ---
@pytest.mark.parametrize("sdk", ["ib_insync", "ib_async"])
def test_both_sdks_will_do(house: CheckHouse, sdk: str) -> None:
    found = check.run(house.settings(ibkr={"sdk": sdk}), ["ibkr"])
    assert failed(found) == []
    assert sdk in of(found, "ibkr", "adapter").words
    assert of(found, "ibkr", "clock").state == "ok"


def test_ibkr_is_down(house: CheckHouse) -> None:
    house.control.add_fault("ibkr", "down")
    found = check.run(house.settings(), ["ibkr", "alpaca"])

    assert failed(found) == [("ibkr", "connect")]
    connect = of(found, "ibkr", "connect")
    assert "Enable ActiveX and Socket Clients" in (connect.advice or "")
    assert f"127.0.0.1:{house.ports['ibkr']}" in (connect.advice or "")
    assert of(found, "ibkr", "account").state == "skip"
    assert of(found, "alpaca", "account").state == "ok"
    assert check.exit_status(found) == 1


@pytest.mark.parametrize(
    ("kind", "options", "advised"),
    [
        ("client_id_in_use", {}, "brokers.ibkr.check_client_id"),
        ("no_next_valid_id", {}, "Accept incoming connection attempt?"),
        (
            "error_code",
            {"operation": "open_orders", "code": 321, "text": "The API interface is currently in Read-Only mode."},
            "Switch Read-Only API OFF",
        ),
    ],
)
def test_tws_does_not_let_us_in(house: CheckHouse, kind: str, options: dict[str, Any], advised: str) -> None:
    house.control.add_fault("ibkr", kind, **options)
    found = check.run(house.settings(), ["ibkr"], 4.0)
    assert failed(found) == [("ibkr", "connect")]
    assert advised in (of(found, "ibkr", "connect").advice or ""), of(found, "ibkr", "connect")


def test_market_data_that_is_not_subscribed_is_a_warning(house: CheckHouse) -> None:
    text = "Requested market data is not subscribed."
    house.control.add_fault("ibkr", "error_code", operation="quote", code=354, text=text)
    found = check.run(house.settings(), ["ibkr"])
    assert of(found, "ibkr", "quote").state == "warn"
    assert "Market Data Subscriptions" in (of(found, "ibkr", "quote").advice or "")
    assert check.exit_status(found) == 0


def test_a_broker_that_hangs_does_not_hang_the_check(house: CheckHouse) -> None:
    house.control.add_fault("alpaca", "hang", operation="account")
    house.control.add_fault("ibkr", "hang", operation="positions")
    found = check.run(house.settings(), ["alpaca", "ibkr", "schwab"], 5.0)
    assert of(found, "alpaca", "connect").state == "fail"
    assert of(found, "ibkr", "positions").state == "fail"
    assert of(found, "schwab", "quote").state == "ok"


# -- THE OTHERS ---
def test_alpaca_refuses_the_keys(house: CheckHouse) -> None:
    found = check.run(house.settings(alpaca={"secret_key": "wrong"}), ["alpaca"])
    assert failed(found) == [("alpaca", "connect")]
    assert "live keys only https://api.alpaca.markets" in (of(found, "alpaca", "connect").advice or "")


def test_alpaca_is_asked_without_a_second_stream(house: CheckHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[AlpacaStream] = []
    monkeypatch.setattr(AlpacaStream, "start", opened.append)
    found = check.run(house.settings(), ["alpaca"])
    assert (failed(found), opened) == ([], [])


@pytest.mark.parametrize("name", ["schwab", "tda"])
def test_a_refresh_token_is_refused(house: CheckHouse, tmp_path: Path, name: str) -> None:
    broken = {name: {"refresh_token": "wrong", "token_path": str(tmp_path / "none.json")}}
    found = check.run(house.settings(**broken), [name])
    connect = of(found, name, "connect")
    assert failed(found) == [(name, "connect")]
    advised = {"schwab": "CORRO_BROKERS__SCHWAB__REFRESH_TOKEN", "tda": 'adapter = "schwab"'}[name]
    assert advised in (connect.advice or ""), connect


def test_a_token_that_ends_soon_is_told(house: CheckHouse, tmp_path: Path) -> None:
    path = tmp_path / "schwab.json"
    settings = house.settings(schwab={"token_path": str(path)})
    check.run(settings, ["schwab"])
    tokens = json.loads(path.read_text())
    path.write_text(json.dumps(tokens | {"refresh_expires_at": tokens["refresh_expires_at"] - 6 * 86_400}))
    found = check.run(settings, ["schwab"])
    assert of(found, "schwab", "token").state == "warn"
    assert of(found, "schwab", "token").words.startswith("refresh token: 1.0 days left")


# -- WHAT ALL SHARE ---
def test_the_queue_is_looked_into(house: CheckHouse) -> None:
    with environment({"CORRO_HOME": str(house.home)}), EmbeddedQueue(house.settings()) as queue:
        client = redis.Redis(unix_socket_path=str(queue.socket))
        assert of(check.run(house.settings(), []), None, "queue").state == "ok"
        client.lpush(SET_ASIDE, "{}")
        client.config_set("maxmemory-policy", "allkeys-lru")
        told = of(check.run(house.settings(), []), None, "queue")
        client.delete(SET_ASIDE)
        client.close()
    assert told.state == "warn"
    assert "allkeys-lru" in told.words
    assert "1 message(s)" in told.words


def test_a_queue_or_a_database_that_is_not_there(house: CheckHouse) -> None:
    nowhere = {"redis_url": "redis://:a-password-of-redis@127.0.0.1:1/0", "home": house.home}
    found = check.run(load_settings(**nowhere, database_url="postgresql+psycopg://a:b@127.0.0.1:1/c"), [])
    assert failed(found) == [(None, "database"), (None, "queue")]
    assert all(of(found, None, name).advice for name in ("database", "queue"))
    assert "a-password-of-redis" not in repr(found)


def test_a_schema_that_is_not_current(house: CheckHouse, tmp_path: Path) -> None:
    (tmp_path / "corro.db").touch()
    found = check.run(load_settings(home=tmp_path, brokers=house.tables()), ["alpaca"])
    assert of(found, None, "database").advice == "Run `corro db upgrade`."
    assert of(found, "alpaca", "workers").state == "skip"


def test_workers_go_on_undisturbed(make_world: Callable[..., World]) -> None:
    world = make_world(("ibkr", "alpaca"))
    world.fleet.start_all()
    said = world.corro("check", "--json")
    found = {(one["broker"], one["check"]): one for one in said.json}

    assert said.status == 0, said.out
    for name in ("ibkr", "alpaca"):
        assert found[name, "workers"]["state"] == "ok"
        assert found[name, "workers"]["words"].startswith("1 alive, 1 ready")
        world.orders.wait(world.orders.send("AAPL", "buy", 1, route=name), "filled")
        assert "connection_lost" not in world.fleet.processes[name].log.read_text()

    controls.stop(world.database, Scope("broker", "ibkr"), "halt", "lunch", "ana")
    (told,) = [one for one in world.corro("check", "ibkr", "--json").json if one["check"] == "workers"]
    controls.resume(world.database, Scope("broker", "ibkr"), by="ana")
    assert told["state"] == "warn"
    assert "halt of ibkr" in told["words"]
    assert "by ana: lunch" in told["words"]
