"""The rows of `models.record.control_tables`, as in `models.record.rows`."""

from __future__ import annotations

from datetime import datetime
from typing import NotRequired, TypedDict

from models.record.rows import Json


class ControlTableRow(TypedDict):
    """A control of the table; in force are those of `models.record.controls.ControlRow`."""

    scope_kind: str
    scope: str
    state: str
    generation: int
    kill: Json | None
    by: str
    reason: str
    at: datetime


class HaltRow(TypedDict):
    """A drain; or a halt, for workers of the version before."""

    scope: str
    kind: str
    reason: str | None
    by: str | None
    at: datetime


class ControlEventRow(TypedDict):
    """What somebody did to trading."""

    id: NotRequired[int]
    at: datetime
    kind: str
    scope_kind: str
    scope: str
    by: str | None
    reason: str | None
    detail: str | None
