"""A request for data, as it travels."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FetchKind = Literal["quote", "bars", "account", "positions", "orders", "instruments", "preview"]


class FetchRequest(BaseModel):
    """One data request: `data.<kind>` with a fetch_id and the fields that kind takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FetchKind
    fetch_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    route: tuple[str, ...] | None = None
    request: Mapping[str, object] = Field(default_factory=dict)

    def to_wire(self) -> dict[str, object]:
        """Return the keyword arguments of the task."""
        return {"fetch_id": self.fetch_id, **self.request}
