"""Settings: file, environment, code; mistakes that are named; places, routes and ranges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from models.settings import Settings, TimingSettings, config_file, embedded_socket, load_settings
from tests.unit.settings_file import SECRET, refusal, write

pytestmark = pytest.mark.usefixtures("bare")


# -- WHO WINS ---
def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write('redis_url = "redis://file"\ndatabase_url = "sqlite:///file.db"')
    monkeypatch.setenv("CORRO_REDIS_URL", "redis://environment")
    found = load_settings()
    assert (found.queue_url, found.database) == ("redis://environment", "sqlite:///file.db")


def test_code_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_REDIS_URL", "redis://environment")
    assert load_settings(redis_url="redis://code").queue_url == "redis://code"


def test_the_environment_adds_one_key_to_a_brokers_table(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[brokers.ibkr]\nhost = "10.0.0.1"\nport = 4001')
    monkeypatch.setenv("CORRO_BROKERS__IBKR__PORT", "4002")
    table = load_settings().broker("ibkr")
    assert (table.get("host"), str(table.get("port")), table.adapter) == ("10.0.0.1", "4002", "ibkr")


def test_the_environment_alone_can_make_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_BROKERS__PAPER__ADAPTER", "alpaca")
    found = load_settings()
    assert set(found.all_brokers) == {"paper"}
    assert found.broker("paper").adapter == "alpaca"


def test_one_timing_from_the_environment_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[timing]\nlease = 20")
    monkeypatch.setenv("CORRO_TIMING__FRESH", "2.5")
    timing = load_settings().timing
    assert (timing.lease, timing.fresh, timing.deadline) == (20, 2.5, TimingSettings().deadline)


def test_a_named_file_is_read_instead_of_the_local_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write('redis_url = "redis://local"')
    write('redis_url = "redis://named"', "other.toml")
    monkeypatch.setenv("CORRO_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().queue_url == "redis://named"


def test_a_named_file_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write('redis_url = "redis://local"')
    monkeypatch.setenv("CORRO_CONFIG", "nowhere.toml")
    message = refusal()
    assert "CORRO_CONFIG" in message
    assert "nowhere.toml" in message


def test_no_file_is_no_error() -> None:
    assert config_file() is None
    assert load_settings().is_sandbox


@pytest.mark.parametrize("text", ["x = = 1", "[brokers", 'redis_url = "a', "\x00"])
def test_a_file_that_is_no_toml_is_one_clear_line(text: str) -> None:
    write(text)
    assert "settings" in refusal()


# -- MISTAKES ---
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("databse_url = 'x'", ("databse_url", "no such")),
        ("[rooting]\nroute = []", ("rooting", "no such")),
        ("[routing]\nrout = []", ("routing.rout", "no such")),
        ("[timing]\nleese = 1", ("timing.leese", "no such")),
        ("[timing]\nlease = 'long'", ("timing.lease", "long")),
        ("[routing]\nroute = ['nobody']", ("route", "nobody", "alpaca", "ibkr", "tda")),
        ("[routing]\nroute = 5", ("routing.route", "5")),
        ("[brokers.alpaca]\nlive = 'perhaps'", ("brokers.alpaca.live", "perhaps")),
        ("[brokers.'Al Paca']", ("Al Paca", "lower case")),
        ("[brokers]\nalpaca = 5", ("brokers.alpaca", "names with values")),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, words: tuple[str, ...]) -> None:
    write(text)
    message = refusal()
    assert all(word in message for word in words), message


def test_a_mistake_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_TIMING__LEESE", "3")
    assert "timing.leese" in refusal()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CORRO_BROKER__ALPACA__KEY_ID", "CORRO_BROKERS__ALPACA__KEY_ID"),
        ("CORRO_BROKERS_ALPACA_KEY_ID", "CORRO_BROKERS__ALPACA__KEY_ID"),
        ("CORRO_BROKERS_IBKR_PORT", "CORRO_BROKERS__IBKR__PORT"),
        ("CORRO_DATABASE_ULR", "CORRO_DATABASE_URL"),
        ("CORRO_HOEM", "CORRO_HOME"),
        ("corro_hoem", "CORRO_HOME"),
        ("CORRO_TIMING_LEASE", "CORRO_TIMING__LEASE"),
        ("CORRO_ROUTE", "CORRO_ROUTING__ROUTE"),
        ("CORRO_CONFG", "CORRO_CONFIG"),
        ("CORRO_HOME__X", "CORRO_HOME"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_right_one(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, SECRET)
    message = refusal()
    assert name in message
    assert meant in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORRO_ROOT", "/x"), ("CORRO_REPO", "/x"), ("CORRO_XYZZY", "1"),
        ("CORRO_TEST_RECORDINGS", "/x"), ("CORRO_PROPERTY_EXAMPLES", "5"), ("CORRO_UP_PID", "7"), ("CORRO_BENCH", "{}"),
        ("CORRO_CRASH", ""), ("CORRO_PAUSE", ""), ("CORRO_SERVICE_HOST", "10.0.0.1"), ("CORRO_PORT", "tcp://10.0.0.1:80"),
        ("CORRO_REDIS_PORT", "tcp://10.0.0.1:6379"), ("CORRO_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("CORROSION", "x"), ("corro_log_level", "ERROR"),
    ],
)  # fmt: skip
def test_what_is_no_setting_and_no_mistake_is_let_be(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close to no setting: names of tools around corro, of its own tests, of Kubernetes for such a service."""
    monkeypatch.setenv(name, value)
    assert load_settings().is_sandbox


@pytest.mark.parametrize(
    "name",
    [
        "CORRO_HOME", "CORRO_DATABASE_URL", "CORRO_REDIS_URL", "CORRO_REDIS_MASTER", "CORRO_LOG_LEVEL",
        "CORRO_ROUTING__ROUTE", "CORRO_ROUTING__SELL", "CORRO_TIMING__LEASE", "CORRO_TIMING__RECONCILE",
    ],
)  # fmt: skip
def test_an_empty_setting_has_its_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = load_settings()
    monkeypatch.setenv(name, "")
    assert load_settings() == usual


@pytest.mark.parametrize("text", ["1,2,5", " 1, 2 ,5", "[1,2,5]", "[1.0, 2, 5]"])
def test_a_list_from_the_environment_is_read_in_either_form(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_TIMING__RECONCILE", text)
    assert load_settings().timing.reconcile == (1, 2, 5)


@pytest.mark.parametrize("text", ["[1,2", "1;2;5", "soon"])
def test_a_list_that_cannot_be_read_is_named_with_its_key(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_TIMING__RECONCILE", text)
    assert "timing.reconcile" in refusal()


@pytest.mark.parametrize("name", ["CORRO_TIMING", "CORRO_ROUTING", "CORRO_BROKERS"])
def test_a_table_that_is_no_json_is_named_with_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    message = refusal()
    assert all(word in message for word in (name, "JSON", f"{name}__KEY"))
    assert SECRET not in message


@pytest.mark.parametrize("kind", ["mysql", "mysql+pymysql", "mariadb", "oracle", "postgresql+psycopg2", "mssql+pyodbc"])
def test_a_database_that_corro_does_not_know_is_told_with_those_it_knows(kind: str) -> None:
    message = refusal(database_url=f"{kind}://u:{SECRET}@h/d")
    assert all(word in message for word in (kind, "database_url", "sqlite:///", "postgresql://"))
    assert SECRET not in message


def test_an_unknown_broker_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'etrade'.*alpaca.*ibkr.*tda"):
        load_settings().broker("etrade")


# -- BROKERS AND ROUTES ---
def test_without_any_broker_the_sandbox_is_used() -> None:
    found = load_settings()
    assert found.is_sandbox
    assert found.route == ("ibkr", "alpaca", "tda")
    assert set(found.all_brokers) == {"ibkr", "alpaca", "tda"}
    assert not any(table.live for table in found.all_brokers.values())


def test_one_configured_broker_ends_the_sandbox() -> None:
    """A simulated fill can never stand beside a real one."""
    write('[brokers.alpaca]\nbase_url = "https://paper-api.alpaca.markets"')
    found = load_settings()
    assert not found.is_sandbox
    assert set(found.all_brokers) == {"alpaca"}
    assert found.route == ("alpaca",)


def test_a_route_cannot_name_a_sandbox_broker_beside_a_real_one() -> None:
    write('[routing]\nroute = ["alpaca", "tda"]\n[brokers.alpaca]')
    assert "names tda, but" in refusal()


def test_the_sandbox_is_found_where_it_runs(tmp_path: Path) -> None:
    ports = {"alpaca": 7001, "ibkr": 7002, "tda": 7003}
    (tmp_path / "sandbox.json").write_text(json.dumps({"ports": ports, "name": "sandbox-of-1"}))
    found = load_settings(home=tmp_path)
    assert found.broker("alpaca").get("base_url") == "http://127.0.0.1:7001"
    assert found.broker("ibkr").get("port") == 7002


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"ports": null}', "7", '{"ports": {"alpaca": 7001}}'])
def test_without_a_note_that_can_be_read_the_sandbox_has_no_address(text: str, tmp_path: Path) -> None:
    (tmp_path / "sandbox.json").write_text(text)
    found = load_settings(home=tmp_path)
    assert found.sandbox_note is None
    assert found.route == ("ibkr", "alpaca", "tda")
    assert found.broker("alpaca").get("base_url") is None


@pytest.mark.parametrize(
    "text", ["alpaca,ibkr", " alpaca , ibkr ", "alpaca,ibkr,", '["alpaca", "ibkr"]', ' ["alpaca","ibkr"] ']
)
def test_a_route_from_the_environment_may_be_a_list_or_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_ROUTING__ROUTE", text)
    assert load_settings().route == ("alpaca", "ibkr")


@pytest.mark.parametrize("text", ["[alpaca", '{"a": 1}', "alpaca;ibkr"])
def test_a_route_that_cannot_be_read_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_ROUTING__ROUTE", text)
    assert "rout" in refusal()


def test_unrouted_brokers_come_in_the_usual_order() -> None:
    write("\n".join(f"[brokers.{name}]" for name in ("zeta", "tda", "beta", "ibkr")))
    assert load_settings().route == ("ibkr", "tda", "beta", "zeta")


# -- PLACES ---
def test_everything_is_kept_in_home_unless_told_otherwise(tmp_path: Path) -> None:
    found = load_settings(home=tmp_path / "h")
    assert found.database == f"sqlite:///{tmp_path}/h/corro.db"
    assert found.embedded_queue
    assert found.queue_url == f"redis+socket://{tmp_path}/h/queue.sock"


def test_a_redis_of_ones_own_ends_the_embedded_one() -> None:
    found = load_settings(redis_url="redis://localhost:6379/0")
    assert not found.embedded_queue
    assert found.queue_url == "redis://localhost:6379/0"


@pytest.mark.parametrize("length", [10, 60, 90, 100, 110, 250, 1000])
def test_the_socket_of_a_long_home_is_short_enough_for_the_kernel(length: int) -> None:
    home = Path("/") / "/".join("d" * 9 for _ in range(length // 10))
    path = embedded_socket(home)
    assert len(bytes(path)) < 108
    assert path == embedded_socket(home)
    assert path != embedded_socket(home / "other")


def test_a_home_of_wide_letters_is_measured_in_bytes() -> None:
    assert len(bytes(embedded_socket(Path("/") / ("ü" * 60)))) < 108


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().redis_url = "redis://elsewhere"  # type: ignore[misc]


def test_the_clocks_fit_together() -> None:
    """A send that begins as late as it may must be over before its lease ends; else a reconciler meets it in flight."""
    timing = TimingSettings()
    assert timing.fresh + timing.deadline < timing.lease
    assert timing.heartbeat_every * 3 < timing.dead_after
    assert timing.heartbeat_every < timing.leader_lease


@pytest.mark.parametrize(
    "text",
    [
        "lease = 17", "deadline = 25", "fresh = 21", "dead_after = 5.9", "heartbeat_every = 3.4", "leader_lease = 3.9",
        "sender_gone_after = 29", "reconnect_first = 16", "positions_valid = 59",
    ],
)  # fmt: skip
def test_clocks_that_do_not_fit_together_are_refused(text: str) -> None:
    """Reconciliation takes a sender seen alive after its lease for one that is back from its send."""
    write(f"[timing]\n{text}")
    said = refusal()
    assert "timing" in said
    assert text.split()[0] in said


#: Values that switch a guard off in silence, or make a loop spin: `age > nan` is never true.
SENSELESS = ("nan", "inf", "-inf", "-1", "1e300")


@pytest.mark.parametrize("value", SENSELESS)
@pytest.mark.parametrize("name", sorted(TimingSettings.model_fields))
def test_every_interval_has_a_range(name: str, value: str) -> None:
    write(f"[timing]\n{name} = {f'[{value}]' if name == 'reconcile' else value}")
    assert f"timing.{name}" in refusal()


@pytest.mark.parametrize("value", SENSELESS)
def test_the_environment_has_the_same_ranges(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRO_TIMING__FRESH", value)
    assert "timing.fresh" in refusal()


def test_no_look_at_all_is_no_way_to_reconcile() -> None:
    write("[timing]\nreconcile = []")
    assert "timing.reconcile" in refusal()


def test_a_log_level_may_be_written_in_small_letters() -> None:
    write("log_level = 'debug'")
    assert load_settings().log_level == "DEBUG"


@pytest.mark.parametrize("level", ["loud", "warn", "10", ""])
def test_a_log_level_that_does_not_exist_is_refused(level: str) -> None:
    write(f"log_level = {level!r}")
    assert "log_level" in refusal()
