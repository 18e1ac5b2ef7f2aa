"""What tells an operator of a fault: the page, the metrics under the alerts that are shipped, and messages."""

from __future__ import annotations

import html
import operator
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.kit import ROOT

_RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
EXPRESSIONS: dict[str, str] = {rule["alert"]: rule["expr"] for group in _RULES for rule in group["rules"]}
_EXPRESSION = re.compile(
    r"(?:sum(?: by \((?P<by>[\w, ]+)\))? ?\()?(?P<increase>increase\()?(?P<name>corro_\w+)"
    r'(?:\{(?P<label>\w+)(?P<is>!?=)"(?P<value>\w+)"\})?(?:\[\w+\]\))?\)? (?P<than>==|>) (?P<bound>[\d.]+)'
)
_THAN = {"==": operator.eq, ">": operator.gt}


class PageWatch:
    """The page of a fleet, looked at from outside.

    Args:
        address: where it is served.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._before = self.samples()

    def page(self, path: str) -> str:
        """Return a page as a browser gets it, whatever its status; empty where nobody answers."""
        request = Request(self.address + path, headers={"Accept": "text/html"})
        try:
            with urlopen(request, timeout=20) as answer:
                return str(answer.read().decode())
        except HTTPError as refused:
            return refused.read().decode()
        except (URLError, OSError):
            return ""

    def text(self, path: str) -> str:
        """Return what a person reads on a page."""
        inside = self.page(path).partition("<body>")[2]
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", inside)))

    def samples(self) -> list[Sample]:
        """Return what a scrape of Prometheus gets."""
        with urlopen(self.address + "/metrics", timeout=20) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return [sample for family in families for sample in family.samples]

    def holds(self, alert: str) -> bool:
        """Tell whether the expression of an alert holds now; an increase is counted from this object's beginning."""
        told = _EXPRESSION.fullmatch(EXPRESSIONS[alert])
        assert told, f"{alert}: a drill cannot read {EXPRESSIONS[alert]!r}"
        then = self._before if told["increase"] else []
        by = (told["by"] or "").split(", ") if told["by"] or told["increase"] else None
        values: dict[object, float] = defaultdict(float)
        for sign, samples in ((1, self.samples()), (-1, then)):
            for sample in _chosen(told, samples):
                labels = sample.labels if by is None else {name: sample.labels.get(name) for name in by}
                values[tuple(sorted(labels.items()))] += sign * sample.value
        return any(_THAN[told["than"]](value, float(told["bound"])) for value in values.values())


def _chosen(told: re.Match[str], samples: list[Sample]) -> Iterator[Sample]:
    for sample in samples:
        is_it = told["label"] is None or (sample.labels.get(told["label"]) == told["value"]) == (told["is"] == "=")
        if sample.name == told["name"] and is_it:
            yield sample


def picture(chromium: str, address: str, file: Path) -> None:
    """Take a picture of a page."""
    subprocess.run(
        [
            chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--timeout=4000",
            "--window-size=1280,1000", f"--screenshot={file}", address,
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
