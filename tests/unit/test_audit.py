"""The offline audit: a bill of what is locked, and advisories held against it, ranges and lists alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import audit

LOCK = """\
urllib3==1.26.20 ; sys_platform != 'win32' \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
Flask_Thing==2.0.1 \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)

ADVISORY = """\
id: PYSEC-2026-1
aliases: [CVE-2026-1]
summary: it follows redirects too far
affected:
- package: {{ecosystem: PyPI, name: {name}}}
  ranges:
  - type: ECOSYSTEM
    events: {events}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "all.lock").write_text(LOCK)
    (tmp_path / "accepted.toml").write_text("[accepted]\n")
    (tmp_path / "vulns" / "urllib3").mkdir(parents=True)
    return tmp_path


def run(place: Path, *more: str) -> int:
    files = ["--lock", "all.lock", "--accepted", "accepted.toml", "--out", "sbom.json"]
    return audit.main([text if text.startswith("--") else str(place / text) for text in (*files, *more)])


def advise(place: Path, events: str, name: str = "urllib3") -> None:
    (place / "vulns" / "urllib3" / "PYSEC-2026-1.yaml").write_text(ADVISORY.format(name=name, events=events))


def test_the_bill_names_every_package_of_the_real_lock_with_its_hashes() -> None:
    text = (audit.ROOT / "requirements" / "all.lock").read_text()
    locked = audit.packages(text)
    assert (
        len(locked)
        == text.count("==") - text.count("python_full_version == ")
        == len(audit.bill(locked, "1")["components"])
    )
    assert all(one.hashes for one in locked)
    assert {"celery", "sqlalchemy", "alpaca-trade-api"} <= {one.name for one in locked}


def test_without_advisories_the_bill_alone_is_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place) == 0
    bill = json.loads((place / "sbom.json").read_text())
    assert [one["purl"] for one in bill["components"]] == ["pkg:pypi/urllib3@1.26.20", "pkg:pypi/flask-thing@2.0.1"]
    assert len(bill["components"][0]["hashes"]) == 2
    assert "not compared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ("[{introduced: '0'}, {fixed: 2.5.0}]", True),
        ("[{introduced: '0'}, {fixed: 1.26.20}]", False),
        ("[{introduced: '0'}, {last_affected: 1.26.20}]", True),
        ("[{introduced: 2.0.0}]", False),
        ("[{introduced: 1.0}, {fixed: 1.5}, {introduced: 1.26.1}, {fixed: 2.1}]", True),
    ],
)
def test_a_version_is_held_against_the_ranges(place: Path, events: str, affected: bool) -> None:
    advise(place, events)
    assert run(place, "--advisories", "vulns") == int(affected)


def test_what_was_accepted_passes_and_says_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    advise(place, "[{introduced: '0'}]")
    assert run(place, "--advisories", "vulns") == 1
    (place / "accepted.toml").write_text('[accepted]\nCVE-2026-1 = "no redirect is followed"\n')
    assert run(place, "--advisories", "vulns") == 0
    assert "accepted: no redirect is followed" in capsys.readouterr().out


def test_names_are_compared_as_the_index_does_and_other_ecosystems_are_not_ours() -> None:
    def about(name: str, ecosystem: str) -> dict[str, Any]:
        return {"id": "X-1", "affected": [{"package": {"ecosystem": ecosystem, "name": name}, "versions": ["2.0.1"]}]}

    locked = audit.packages(LOCK)
    assert [hit.package for hit in audit.hits(locked, iter([about("flask.thing", "PyPI")]))] == ["flask-thing"]
    assert audit.hits(locked, iter([about("flask.thing", "npm")])) == []


def test_what_is_accepted_in_the_repository_has_a_reason() -> None:
    assert all(len(why) > 10 for why in audit.accepted(audit.ROOT / "requirements" / "accepted.toml").values())
