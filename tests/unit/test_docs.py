"""The documents say what the code does: settings, commands, targets, columns and examples cannot drift apart."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel, SecretStr

from models import history
from models.errors import ConfigurationError
from models.group_settings import GroupSettings
from models.settings import (
    HistorySettings,
    NotifySettings,
    RoutingSettings,
    SecuritySettings,
    Settings,
    TimingSettings,
    load_settings,
)
from models.web import WebSettings
from worker.brokers.alpaca import access as alpaca_access
from worker.brokers.alpaca import adapter as alpaca
from worker.brokers.base import BrokerInterface
from worker.brokers.ibkr import access as ibkr_access
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.tda import access as tda_access
from worker.brokers.tda import adapter as tda
from worker.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "facts").glob("*.md"))]
README = DOCS[0].read_text()
COMMANDS: Any = typer.main.get_command(app)

#: Names in .env.example that are not corro's own.
FOREIGN = {
    "CORRO_CONFIG", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "POSTGRES_PASSWORD", "WORKER_PASSWORD", "ADMIN_PASSWORD",
    "REDIS_PASSWORD", "REDIS_IMAGE", "POSTGRES_IMAGE",
}  # fmt: skip


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def named(path: Path) -> str:
    return path.name


# -- SETTINGS ---
def setting_names() -> Iterator[tuple[str, str, Any]]:
    """(setting, environment variable, default)"""
    nested: dict[str, type[BaseModel]] = {
        "routing": RoutingSettings, "timing": TimingSettings, "security": SecuritySettings, "history": HistorySettings,
        "notify": NotifySettings, "groups": GroupSettings,
        "web": WebSettings,
    }  # fmt: skip
    for name, field in Settings.model_fields.items():
        if name in nested:
            for key, inner in nested[name].model_fields.items():
                if key != "tradingview":  # a table of its own: docs/http.md
                    yield f"{name}.{key}", f"CORRO_{name}__{key}".upper(), inner.default
        elif name not in ("brokers", "risk", "sandbox"):  # docs/brokers.md, docs/risk.md
            yield name, f"CORRO_{name}".upper(), field.default


@pytest.mark.parametrize(("setting", "variable", "default"), list(setting_names()))
def test_readme_has_every_setting_with_its_name_and_default(setting: str, variable: str, default: Any) -> None:
    rows = [cells(line) for line in README.splitlines() if line.startswith(f"| `{setting}` |")]
    assert len(rows) == 1, f"{setting} needs one row in the README's table of settings"
    _, environment, shown, _, meaning = rows[0]
    assert environment == f"`{variable}`"
    assert meaning
    if isinstance(default, float):
        assert float(shown) == default
    elif default in ("", (), SecretStr("")):
        assert shown == "(empty)"
    elif isinstance(default, tuple):
        assert [float(part) for part in shown.split(",")] == list(default)
    else:
        assert shown == str(default)


def env_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    found = [re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def test_env_example_names_real_settings_and_all_of_them() -> None:
    given = env_example()
    real = {variable for _, variable, _ in setting_names()}
    brokers = {name for name in given if re.fullmatch(r"CORRO_BROKERS__[A-Z]+__[A-Z_]+", name)}
    assert set(given) - brokers == real | FOREIGN
    documented = (ROOT / "docs" / "brokers.md").read_text()
    for name in brokers:
        assert f"`{name.split('__')[2].lower()}`" in documented, name


def test_env_example_is_accepted_when_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env_example().items():
        if name.startswith("CORRO_") and name != "CORRO_CONFIG":
            monkeypatch.setenv(name, value or "x")
    settings = load_settings()
    assert settings.timing == TimingSettings()
    assert set(settings.brokers) == {"ibkr", "alpaca", "schwab"}
    assert not any(broker.live for broker in settings.brokers.values())


def test_env_example_has_no_secret() -> None:
    assert not [name for name, value in env_example().items() if re.search("KEY|SECRET|TOKEN|PASSWORD", name) and value]


def test_toml_example_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = (ROOT / "corro.toml.example").read_text()
    monkeypatch.setenv("CORRO_CONFIG", str(ROOT / "corro.toml.example"))
    assert load_settings().route == ("ibkr", "alpaca")
    # With every comment that is a setting taken away it is still one, and says the defaults.
    bare = re.sub(r"^# (?=(\[|[a-z_]+ = ))", "", example, flags=re.MULTILINE)
    full = tmp_path / "corro.toml"
    full.write_text(bare)
    monkeypatch.setenv("CORRO_CONFIG", str(full))
    settings = load_settings()
    assert settings.timing == TimingSettings()
    assert set(tomllib.loads(bare)["timing"]) == set(TimingSettings.model_fields)
    assert set(tomllib.loads(bare)) == set(Settings.model_fields)


@pytest.mark.parametrize(
    "module", [ibkr_access, alpaca_access, alpaca, tda_access, tda], ids=lambda module: module.__name__
)
def test_every_key_an_adapter_reads_is_documented(module: Any) -> None:
    documented = (ROOT / "docs" / "brokers.md").read_text()
    receiver = r"get" if module is ibkr_access else r"settings\.(?:get|need)"
    keys = set(re.findall(rf'(?<![\w.]){receiver}\("(\w+)"|self\.settings\.get\("(\w+)"', inspect.getsource(module)))
    found = {key for pair in keys for key in pair if key}
    found -= {"home"}  # corro hands it to every adapter
    assert found, "the pattern no longer finds how this adapter reads its settings"
    assert not {key for key in found if f"| `{key}` |" not in documented}


# -- COMMAND LINE ---
# typer brings a click of its own, so its classes are known by what they have, not by isinstance.
def leaves(group: Any, prefix: str = "corro") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}"


def test_every_command_is_in_the_readme() -> None:
    assert not [command for command in leaves(COMMANDS) if f"`{command}" not in README]


def test_every_command_is_in_operations() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert [name for name in leaves(COMMANDS) if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("path", DOCS, ids=named)
def test_links_lead_to_a_heading(path: Path) -> None:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", path.read_text())) <= anchors


def command_lines() -> list[tuple[str, str]]:
    found = []
    for path in DOCS:
        for block in blocks(path.read_text(), "sh"):
            found += [(path.name, line) for line in block.splitlines() if line.startswith("corro ")]
    compose = (ROOT / "docker-compose.yml").read_text()
    for line in compose.splitlines():
        if match := re.search(r"(?:run --rm cli|exec sandbox corro) (.*)", line.partition("  # any")[0]):
            found.append(("docker-compose.yml", f"corro {match[1].strip('` .')}"))
    return found


@pytest.mark.parametrize(("where", "line"), command_lines())
def test_command_lines_parse(where: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = COMMANDS
    while hasattr(command, "commands") and (words or not command.invoke_without_command):
        assert words, f"{where}: {line}: which command?"
        assert words[0] in command.commands, f"{where}: {line}: no such command"
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises a UsageError


@pytest.mark.parametrize("path", list(leaves(COMMANDS)))
def test_help_of_every_command(path: str) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    assert path.split()[-1] in result.output


# -- BROKERS ---
BROKERS: dict[str, type[BrokerInterface]] = {
    "ibkr": IbkrBroker, "alpaca": alpaca.AlpacaBroker, "tda": tda.TdaBroker, "schwab": tda.SchwabBroker,
}  # fmt: skip


def capability_table() -> dict[str, dict[str, str]]:
    """what -> broker -> words; "the same" repeats the cell before, "as tda" that of tda."""
    lines = README.splitlines()
    start = lines.index("| | ibkr | alpaca | tda | schwab |")
    table: dict[str, dict[str, str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        what, *words = cells(re.sub(" ?[¹²³⁴]", "", line))  # marks of evidence: tests/unit/test_facts.py
        for at, word in enumerate(words):
            words[at] = words[at - 1] if word == "the same" else words[2] if word == "as tda" else word
        table[what] = dict(zip(BROKERS, words, strict=True))
    return table


@pytest.mark.parametrize("name", BROKERS)
def test_readme_tells_what_each_broker_can_do(name: str) -> None:
    can = BROKERS[name].capabilities
    told = {what: words[name] for what, words in capability_table().items()}
    tif = re.sub(r"\(.*?\)", "", told["time in force"])
    assert set(told["order types"].split(", ")) == {str(kind) for kind in can.order_types}
    assert {word.strip() for word in tif.split(",")} == {str(kind) for kind in can.times_in_force}
    assert told["fractional shares"].startswith("yes" if can.fractional else "no")
    assert can.extended_hours
    assert (
        told["change a live order"] == {"no": "no", "in_place": "in place", "new_order": "as a new order"}[can.replaces]
    )
    assert told["orders on their way at once"].split(",")[0] == str(can.parallel_orders)
    length = can.client_order_id_length
    assert (
        told["our id at the broker"].startswith("none")
        if length is None
        else f"{length} characters" in told["our id at the broker"]
    )
    assert told["proof of absence"].startswith("none") == (not can.absence.possible)
    if can.absence.possible:
        number = {2: "two", 3: "three"}[can.absence.sightings]
        assert told["proof of absence"].startswith(number)
        assert f"{can.absence.min_age_s:g} s" in told["proof of absence"]
    bars = told["bars"].split()
    if bars[0] == "without":
        bars = sorted(set(capability_table()["bars"]["ibkr"].split()) - {bars[1]})
    assert set(bars) == set(can.timeframes)


# -- EXAMPLES ---
@pytest.mark.parametrize("path", DOCS, ids=named)
def test_python_blocks_compile(path: Path) -> None:
    for block in blocks(path.read_text(), "python"):
        compile(block, str(path), "exec")


@pytest.mark.parametrize("path", DOCS, ids=named)
def test_toml_blocks_parse(path: Path) -> None:
    for block in blocks(path.read_text(), "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("path", DOCS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join([*re.findall(r"`([^`\n]+)`", README), *blocks(README, "sh")])
    wanted = set(re.findall(r"\bmake ([a-z-]+)", code))
    assert {"demo", "test", "check", "bench"} <= wanted <= targets


# -- HISTORY ---
@pytest.mark.parametrize(
    "view",
    [
        "v_orders",
        "v_fills",
        "v_attempts",
        "v_latency",
        "v_external_orders",
        "v_external_fills",
        "v_positions",
        "v_position_days",
        "v_pnl",
        "v_tca",
        "v_equity",
        "v_cash",
        "v_told_executions",
    ],
)
def test_every_column_of_a_view_is_documented_in_order(view: str) -> None:
    text = (ROOT / "docs" / "history.md").read_text()
    section = re.search(rf"^## {view}:.*?\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section
    assert re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE) == [c.name for c in getattr(history, view).c]


def test_order_object_is_documented_field_by_field() -> None:
    from models.messages import OrderRequest

    text = (ROOT / "docs" / "messages.md").read_text()
    section = re.search(r"^## The order object.*?\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section
    assert set(re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE)) == set(OrderRequest.model_fields)


# -- COMPOSE ---
#: Services with corro's settings, and the role that each logs in as.
FLEET = {"migrate": "corro", "cli": "corro_admin"} | dict.fromkeys(
    [f"worker-{name}" for name in ("ibkr", "alpaca", "tda", "schwab")], "corro_worker"
)


def test_compose_lets_the_queues_users_in_by_the_shipped_file(tmp_path: Path) -> None:
    """The redis service's own command, without its server: who can log in afterwards, and who cannot."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    command = compose["services"]["redis"]["command"][-1].replace("$$", "$").partition("&&")[0]
    command = command.replace("/tmp/users.acl", f"{tmp_path}/users.acl").replace("/deploy/", f"{ROOT}/deploy/")
    subprocess.run(["sh", "-c", command], check=True, env={"PATH": os.environ["PATH"], "REDIS_PASSWORD": "word1"})
    users = {line.split()[1]: line.split()[2:4] for line in (tmp_path / "users.acl").read_text().splitlines()}
    assert users["worker"] == users["operator"] == ["on", ">word1"]
    assert users["default"] == ["off"]
    assert users["bell"][1] != ">word1"


def test_compose_keeps_its_promises() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    assert "version" not in compose
    for name, service in services.items():
        assert "ports" not in service, name
        assert service["read_only"], name
        assert {"mem_limit", "pids_limit"} <= set(service), name
        assert set(service.get("depends_on", ())) <= set(services)
    workers = {name: service for name, service in services.items() if name.startswith("worker-")}
    for name, service in workers.items():
        assert service["command"] == ["worker", name.removeprefix("worker-")]
        assert service["init"]
        assert service["stop_grace_period"] == "60s"
        for once in ("migrate", "roles"):
            assert service["depends_on"][once]["condition"] == "service_completed_successfully"
    # Simulated and real brokers never meet: the sandbox reads no settings and shares no volume.
    sandbox = services["sandbox"]
    assert not {"env_file", "environment", "depends_on"} & set(sandbox)
    assert not set(sandbox["volumes"]) & {volume for worker in workers.values() for volume in worker["volumes"]}
    assert "noeviction" in services["redis"]["command"][-1]
    # Queue and database reach nobody but the fleet, and nobody logs in as their owner but who makes the tables.
    assert compose["networks"]["inside"] == {"internal": True}
    assert services["redis"]["networks"] == services["postgres"]["networks"] == ["inside"]
    logins = {name: service["environment"]["CORRO_DATABASE_URL"] for name, service in services.items() if name in FLEET}
    assert {name: login.partition("//")[2].partition("@")[0] for name, login in logins.items()} == FLEET


def test_compose_settings_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, value in compose["x-settings"].items():
        if name.startswith("CORRO_"):
            monkeypatch.setenv(name, re.sub(r"\$\{[^}]*\}", "word1", value))
    assert os.environ["CORRO_DATABASE_URL"].startswith("postgresql+psycopg://")
    try:
        settings = load_settings()
    except ConfigurationError as error:  # pragma: no cover
        pytest.fail(str(error))
    assert not settings.embedded_queue
    assert settings.queue_address.username == "worker"
    assert settings.security.private_network
