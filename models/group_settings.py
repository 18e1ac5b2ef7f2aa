"""`[groups]`: what is done about linked orders that end otherwise than they were asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class GroupSettings(BaseModel):
    """`[groups]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Part of an entry is filled, and its exits are gone: alert says so and sends nothing; protect closes what is left
    #: open by an oco of the same prices, once.
    on_partial: Literal["alert", "protect"] = "alert"
