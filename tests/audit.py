"""Audit what is locked, without a network: a bill of materials, and which advisories speak of a locked version.

    make audit                                        writes dist/sbom.json (CycloneDX) of requirements/all.lock
    make audit ADVISORIES=../advisory-database        the same, and holds it against https://github.com/pypa/advisory-database

The advisories are a folder of OSV documents, as `git clone` or a zip brings them: taken along on a stick, they need no
network here. What was looked at and accepted stands in requirements/accepted.toml, with the reason; everything else
that speaks of a locked version is exit 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parent.parent
_LINE = re.compile(r"([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One line of a lock."""

    name: str
    version: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """An advisory that speaks of a locked version."""

    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    fixed: tuple[str, ...]
    words: str


def packages(lock: str) -> list[LockedPackage]:
    """Read a lock as `pip --require-hashes` takes it."""
    lines = [(_LINE.match(entry), entry) for entry in re.split(r"\n(?=\S)", lock)]
    return [LockedPackage(normal(line[1]), line[2], tuple(_HASH.findall(entry))) for line, entry in lines if line]


def normal(name: str) -> str:
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill(locked: Sequence[LockedPackage], version: str) -> dict[str, Any]:
    """Return the bill of materials, CycloneDX 1.6."""
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {"type": "application", "name": "corro", "version": version}},
        "components": [
            {
                "type": "library", "name": one.name, "version": one.version,
                "purl": f"pkg:pypi/{one.name}@{one.version}", "bom-ref": f"{one.name}=={one.version}",
                "hashes": [{"alg": "SHA-256", "content": text} for text in one.hashes],
            }
            for one in locked
        ],
    }  # fmt: skip


# -- ADVISORIES ---
def documents(folder: Path, names: set[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the advisories of a folder that may be about these packages; a folder each, as pypa keeps them, or flat."""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".yaml", ".yml", ".json") or not path.is_file():
            continue
        if path.parent.parent.name == "vulns" and normal(path.parent.name) not in names:
            continue
        text = path.read_text()
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if isinstance(found, dict) and "affected" in found and "withdrawn" not in found:
            yield found


def hits(locked: Sequence[LockedPackage], advisories: Iterator[Mapping[str, Any]]) -> list[Hit]:
    """Return which advisories speak of which locked version."""
    by_name: dict[str, list[LockedPackage]] = {}
    for one in locked:
        by_name.setdefault(one.name, []).append(one)
    found = []
    for advisory in advisories:
        for affected in advisory["affected"]:
            about = affected.get("package", {})
            if about.get("ecosystem") != "PyPI":
                continue
            for one in by_name.get(normal(about.get("name", "")), ()):
                if is_affected(one.version, affected):
                    words = str(advisory.get("summary") or advisory.get("details") or "").strip().partition("\n")[0]
                    aliases = tuple(map(str, advisory.get("aliases") or ()))
                    found.append(Hit(one.name, one.version, str(advisory["id"]), aliases, fixes(affected), words[:200]))
    return found


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Tell whether a version is in an advisory's list, or in one of its ranges."""
    if version in map(str, affected.get("versions") or ()):
        return True
    return any(
        _is_within(Version(version), part.get("events") or ())
        for part in affected.get("ranges") or ()
        if part.get("type") in ("ECOSYSTEM", "SEMVER")
    )


def _is_within(version: Version, events: Sequence[Mapping[str, str]]) -> bool:
    inside = False
    for event in sorted(events, key=lambda one: _bound(next(iter(one.values())))):
        for kind, text in event.items():
            bound = _bound(text)
            if kind == "introduced" and version >= bound:
                inside = True
            elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
                inside = False
    return inside


def _bound(text: str) -> Version:
    try:
        return Version(str(text))
    except InvalidVersion:
        return Version("0")


def fixes(affected: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the versions that mend it."""
    events = [event for part in affected.get("ranges") or () for event in part.get("events") or ()]
    return tuple(str(event["fixed"]) for event in events if "fixed" in event and "." in str(event["fixed"]))


def accepted(path: Path) -> dict[str, str]:
    """Return what was looked at and accepted: id of an advisory -> why."""
    return {str(id_): str(why) for id_, why in tomllib.loads(path.read_text())["accepted"].items()}


# -- COMMAND ---
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bill, compare, print; 1 where an advisory is not accepted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements" / "all.lock")
    parser.add_argument("--advisories", type=Path)
    parser.add_argument("--accepted", type=Path, default=ROOT / "requirements" / "accepted.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "sbom.json")
    given = parser.parse_args(arguments)
    locked = packages(given.lock.read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(bill(locked, version), indent=1) + "\n")
    print(f"{len(locked)} packages of {given.lock.name}: {given.out}")
    if given.advisories is None:
        print(
            "not compared: ADVISORIES= names a folder of https://github.com/pypa/advisory-database (docs/security.md)"
        )
        return 0
    if not given.advisories.is_dir():
        print(f"there is no folder {given.advisories}", file=sys.stderr)
        return 2
    known = accepted(given.accepted)
    found = hits(locked, documents(given.advisories, {one.name for one in locked}))
    bad = [hit for hit in found if not {hit.id, *hit.aliases} & known.keys()]
    for hit in found:
        why = next((known[name] for name in (hit.id, *hit.aliases) if name in known), None)
        state = f"accepted: {why}" if why else f"fixed in {', '.join(hit.fixed) or 'no version'}: {hit.words}"
        print(f"{hit.package} {hit.version}  {hit.id} {' '.join(hit.aliases)}  {state}")
    print(f"{len(found)} advisories speak of locked versions, {len(bad)} of them not accepted")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
