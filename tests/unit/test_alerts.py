"""What is shipped for Prometheus and Grafana asks for metrics and labels that there are, and leads to real sections."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("prometheus_client")

from worker.page.metrics import METRICS

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "corro.json").read_text())
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
_PARTS = re.compile(r"_(total|bucket|sum|count)$")


def exposed() -> set[str]:
    """Every name in a scrape, as an expression may write it."""
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {name + end for name, named in METRICS.items() for end in ends[named.kind]}


def asked(expression: str) -> set[str]:
    return set(re.findall(r"\bcorro_\w+", expression))


def expressions() -> list[str]:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in RULES] + shown


@pytest.mark.parametrize("expression", expressions())
def test_it_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    names = asked(expression)
    assert names <= exposed()
    if names:
        labels = {label for name in names for label in METRICS[_PARTS.sub("", name)].labels} | {"le"}
        grouped = {label for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(", ")}
        matched = set(re.findall(r"[{,]\s*(\w+)=", expression))
        assert grouped | matched <= labels


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_names_a_section_and_is_in_the_table_of_operations(rule: dict[str, Any]) -> None:
    section = rule["annotations"]["description"].rstrip(".").rpartition(". ")[2]
    assert re.search(rf"^#+ {re.escape(section)}$", OPERATIONS, re.MULTILINE), section
    assert f"| `{rule['alert']}` |" in OPERATIONS
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule)))
    assert used <= {label for name in asked(rule["expr"]) for label in METRICS[_PARTS.sub("", name)].labels}


def test_the_dashboard_shows_every_metric() -> None:
    shown = {_PARTS.sub("", name) for expression in expressions() for name in asked(expression)}
    assert shown == set(METRICS)


def test_every_metric_is_described_in_operations() -> None:
    documented = set(re.findall(r"^\| `(corro_\w+)[`{]", OPERATIONS, re.MULTILINE))
    assert documented == {name + ("_total" if named.kind == "counter" else "") for name, named in METRICS.items()}


def test_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
