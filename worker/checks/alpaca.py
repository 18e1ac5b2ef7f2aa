"""What `corro check` does differently for Alpaca: it reads, and leaves the account's one stream to its worker."""

from __future__ import annotations

from typing import Any

from models.settings import BrokerSettings
from worker.brokers.alpaca import AlpacaBroker
from worker.brokers.alpaca_rest import Access, AlpacaRest, access_from


class QuietAlpaca(AlpacaBroker):
    """The adapter without trade_updates: a second stream on one account makes Alpaca cut both.

    Source: docs/facts/alpaca.md#4.5.
    """

    def _listen(self, access: Access) -> None:
        """Open no stream."""

    def account_flags(self) -> dict[str, Any]:
        """Return the account as Alpaca shows it."""
        return account(self.name, self.settings)


def account(name: str, settings: BrokerSettings) -> dict[str, Any]:
    """Read the account's own JSON: its flags say what it may do.

    Raises:
        BrokerError: it could not be read.
    """
    access = access_from(name, settings)
    rest = AlpacaRest(name, access.base_url, access, lambda: None)
    try:
        return dict(rest.read("/account", None, dict))
    finally:
        rest.close()
