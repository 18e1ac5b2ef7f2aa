"""`[web]`: where `corro web` may be asked from, under which names, and what it makes of alerts."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_settings import NoDecode

from models.environment import as_list
from models.messages import OrderRequest


def _network(text: str) -> str:
    """See that a text is an address, or a network such as 10.0.0.0/8."""
    ip_network(text, strict=False)
    return text


def _host(text: str) -> str:
    """See that a text is a host's name as it stands in a Host header, without a port."""
    if not text.isascii() or not text.isprintable() or any(c in text for c in " /@*,") or not text:
        raise ValueError("must be a name such as corro.example.org, without a port; no wildcard")
    return text.lower()


Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(as_list)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(as_list)]


class TradingViewSettings(BaseModel):
    """`[web.tradingview]`: what `/hooks/tradingview/TOKEN` takes, and makes of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Addresses and networks that alerts may come from; none is anywhere.
    allow_from: Networks = ()
    #: Symbols as an alert writes them, and as corro does.
    symbols: Mapping[str, str] = Field(default_factory=dict)
    #: Fields of an order object that an alert need not have: strategy, route, time_in_force ...
    defaults: Mapping[str, object] = Field(default_factory=dict)

    @field_validator("defaults")
    @classmethod
    def _are_an_orders(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        if strange := sorted(value.keys() - OrderRequest.model_fields.keys() | value.keys() & {"client_order_id"}):
            raise ValueError(f"{strange[0]} is no field that an alert may leave out")
        return value


class WebSettings(BaseModel):
    """`[web]`: the page's server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Names in the Host header under which it may be asked, beside localhost and loopback's addresses.
    allowed_hosts: Hosts = ()
    #: PEM files: with both of them it speaks HTTPS.
    tls_cert: str = ""
    tls_key: str = ""
    #: Addresses and networks of proxies that speak HTTPS to the world: their X-Forwarded-For is believed.
    proxies: Networks = ()
    tradingview: TradingViewSettings = TradingViewSettings()


def is_among(address: str, networks: tuple[str, ...]) -> bool:
    """Tell whether an address is one of these, or in one of these networks; a text that is no address is in none."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in ip_network(text, strict=False) for text in networks)
