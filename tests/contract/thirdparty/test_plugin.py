"""An adapter in a package of its own: found by its entry point, traded through the queue, held to the same cards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from models.history import History, v_fills
from models.messages import OrderRequest
from models.settings import load_settings
from producers.client import OrderClient
from tests.kit import ROOT, clean_environment, environment
from worker.brokers import load
from worker.local.processes import Fleet

PACKAGE = Path(__file__).parent / "paperback"
TOML = """
[routing]
route = ["house"]

[brokers.house]
adapter = "paperback"
key = "k"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has put the package, away from everything else that is installed."""
    source, target = tmp_path_factory.mktemp("source") / "paperback", tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(command, check=True, env=clean_environment(), timeout=120)
    assert {path.name for path in target.glob("*.py")} == {"paperback.py", "paperback_venue.py"}
    return target


def _path(*folders: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def test_an_order_is_executed_at_a_broker_from_another_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "corro.toml").write_text(TOML)
    values = {"CORRO_HOME": str(tmp_path), "CORRO_CONFIG": str(tmp_path / "corro.toml")}
    with environment(values):
        settings = load_settings()
    more = {**values, **_path(installed)}
    with Fleet(settings, sandbox=False, environment=more) as fleet, closing(OrderClient(settings)) as client:
        fleet.wait_ready(40)
        filled = client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=7)).wait(timeout=15)
        resting = client.submit(
            OrderRequest(symbol="KO", side="buy", quantity=1, order_type="limit", limit_price="1.00")
        )
        refused = client.submit(OrderRequest(symbol="ZZZZ", side="buy", quantity=1)).wait(timeout=15)
        client.cancel(resting.client_order_id)
        canceled = resting.wait(timeout=15)
        assert (filled.status, filled.broker, filled.filled_quantity) == ("filled", "house", Decimal(7))
        assert (canceled.status, refused.status) == ("canceled", "rejected")
        (fill,) = History(fleet.database).rows(v_fills, client_order_id=filled.client_order_id)
        assert (fill["broker"], fill["quantity"], fill["price"]) == ("house", Decimal(7), Decimal(230))


def test_without_the_package_the_settings_are_refused_with_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "corro.toml").write_text(TOML)
    with environment({"CORRO_HOME": str(tmp_path), "CORRO_CONFIG": str(tmp_path / "corro.toml")}):
        settings = load_settings()
    with pytest.raises(ConfigurationError, match=r"'paperback'.*alpaca.*ibkr.*schwab.*tda"):
        load(settings, "house")


def test_the_contract_suite_holds_for_an_adapter_that_is_not_ours(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "tests/contract/suite", "--desk", "paperback_desk:PaperbackDesk"]
    done = subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**clean_environment(), **_path(installed, PACKAGE / "tests")},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all("capability: " in line for line in skipped), skipped
