"""`[security]`: who may trade, and with which key this process signs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SecuritySettings(BaseModel):
    """`[security]`: signatures that are asked for, and the key of this process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: off: only signatures that are given are checked; bare: a message without a row must be signed; all: rows too;
    #: auto: off without keys, bare as soon as there is one.
    require: Literal["auto", "off", "bare", "all"] = "auto"
    #: The name that signatures are made for; default: the id of the database.
    deployment: str = Field(default="", max_length=128, pattern=r"^[!-~]*$")
    #: Id of the key that `OrderClient` and `corro submit` sign with; default: they do not sign.
    key: str = ""
    #: The file with its secret.
    key_file: str = ""
    #: The network to database and queue is guarded by itself (compose, a VPN): real money needs no TLS there.
    private_network: bool = False
    #: Whoever submitted an order may approve it too.
    self_approval: bool = False
