"""What a running sandbox says of itself in its home: where its doors are, and its name."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

#: What a running sandbox writes to its home: where its doors are, and its name. There is no other way to find it, for
#: on its usual ports another home's may listen.
SANDBOX_FILE = "sandbox.json"


class SandboxNote(BaseModel):
    """What a running sandbox says of itself in its home.

    Args:
        ports: by door.
        name: shown at every door: a sandbox that has taken over a port lets nobody in who names another one.
    """

    model_config = ConfigDict(frozen=True)

    ports: dict[str, int]
    name: str = Field(min_length=1)


def read_note(home: Path) -> SandboxNote | None:
    """Return what the sandbox of a home has written there; None without one, or where nobody can read it."""
    try:
        return SandboxNote.model_validate_json((home / SANDBOX_FILE).read_bytes())
    except (OSError, ValueError):
        return None
