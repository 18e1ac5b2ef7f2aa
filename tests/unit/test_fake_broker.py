"""What ships for other people's tests: the documents' examples run, and the seam brings nothing along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from producers import OrderRequest
from tests.unit.test_layout import ROOT, loaded_by
from worker.brokers.base import BrokerInterface
from worker.brokers.fake import FakeBroker
from worker.rehearsal import rehearsal

_EXAMPLES = dict(
    re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)^```", (ROOT / "docs/adapters.md").read_text(), re.M | re.S)
)


@pytest.mark.parametrize("name", ["adapter", "strategy"])
def test_the_examples_of_the_documents_pass(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"test_{name}.py"
    path.write_text(_EXAMPLES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_rehearsal_cancels_replaces_and_finds_what_was_lost(tmp_path: Path) -> None:
    broker = FakeBroker()
    with rehearsal(tmp_path, broker) as client:
        broker.account.will("lose_answer")
        found = client.submit(OrderRequest(symbol="KO", side="buy", quantity=10)).wait(timeout=20)
        assert (found.status, broker.account.arrived) == ("filled", 1)
        rests = client.submit(
            OrderRequest(symbol="KO", side="buy", quantity=5, order_type="limit", limit_price="1", route=["fake"])
        )
        rests = rests.wait(timeout=20, until=lambda order: order.is_live)
        assert rests.is_live
        client.cancel(rests.client_order_id)
        assert rests.wait(timeout=20).status == "canceled"


def test_the_seam_brings_no_queue_no_celery_and_no_sdk() -> None:
    foreign = {"redis", "limits", "celery", "kombu", "ib_insync", "ib_async", "alpaca_trade_api", "requests", "aiohttp"}
    assert loaded_by("worker.brokers.base") & foreign == set()
    assert loaded_by("worker.brokers.fake") & foreign == set()
    assert loaded_by("worker.brokers.base", depth=3).isdisjoint({"worker.pacing.shared", "producers.bell"})


def test_the_seam_declares_what_the_worker_asks_of_an_adapter() -> None:
    """No `getattr(broker, ...)`: an adapter's author finds everything on the one class."""
    hidden = []
    for path in (ROOT / "worker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
            ):
                of = ast.unparse(node.args[0])
                if of.split(".")[-1].strip("()") in ("broker", "_broker", "adapter", "loaded", "seat"):
                    hidden.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert hidden == []
    optional = ("session", "answered_at", "order_session", "limits")
    assert set(optional) <= set(vars(FakeBroker()))
    assert (BrokerInterface.default_url, BrokerInterface.retired) == ("", "")
