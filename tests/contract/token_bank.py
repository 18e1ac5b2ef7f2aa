"""A token endpoint of Schwab's kind, and keepers of a token at it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from worker.brokers.tda.tokens import GrantRefused, TokenKeeper


class TokenBank:
    """A token endpoint that rotates refresh tokens and remembers what it was offered.

    Args:
        life_s: seconds for which an access token is good.
        takes_s: how long a grant takes: long enough for others to come in between.
    """

    def __init__(self, life_s: float = 1800, takes_s: float = 0.02) -> None:
        self.offers: list[str] = []
        self.valid, self.life_s, self.takes_s = "r0", life_s, takes_s

    def grant(self, refresh_token: str) -> dict[str, Any]:
        self.offers.append(refresh_token)
        if refresh_token != self.valid:
            raise GrantRefused("invalid_grant")
        self.valid = f"r{len(self.offers)}"
        time.sleep(self.takes_s)
        return {"access_token": f"a{len(self.offers)}", "refresh_token": self.valid, "expires_in": self.life_s}


def keeper(bank: TokenBank, path: Path, refresh_token: str = "r0") -> TokenKeeper:
    return TokenKeeper("schwab", path, refresh_token, bank.grant)
