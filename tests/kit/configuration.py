"""The settings file of a test's corro: brokers of the sandbox, and healers that are quicker than in production."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: The healers of the tests are quicker than those of production, by the same rules.
TIMING: dict[str, Any] = {
    "sweep_after": 1.0,
    "heartbeat_every": 0.5,
    "dead_after": 3.0,
    "strand_after": 1.5,
    "lease": 12.0,
    "fresh": 5.0,
    "deadline": 3.0,
    "reconcile": [0.3, 0.5, 1.0],
    "open_orders_every": 1.0,
    "positions_every": 2.0,
    "lock_after": 3.0,
    "reconnect_first": 0.2,
    "reconnect_longest": 1.0,
    "retry_pause": 0.5,
    "leader_lease": 2.0,
}


def write_settings(
    home: Path,
    brokers: Sequence[str],
    ports: Mapping[str, int],
    *,
    database_url: str | None = None,
    timing: Mapping[str, Any] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write `corro.toml`: these brokers, in the order of the default route, at the sandbox's doors.

    Args:
        home: where the file and the tokens lie.
        brokers: by name.
        ports: the sandbox's, by broker.
        database_url: None means SQLite in the home.
        timing: over `TIMING`.
        more: keys over the usual ones in `[brokers.NAME]`, by name.
        tables: whatever else, by the name of its table.
    """
    usual = _brokers(home, ports)
    lines = [f"database_url = {json.dumps(database_url)}"] if database_url else []
    lines += _table("routing", {"route": list(brokers)})
    lines += _table("timing", {**TIMING, **(timing or {})})
    for name in brokers:
        lines += _table(f"brokers.{name}", {"adapter": name, **usual[name], **(more or {}).get(name, {})})
    for name, values in (tables or {}).items():
        lines += _table(name, values)
    (home / "corro.toml").write_text("\n".join(lines) + "\n")


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())


def _brokers(home: Path, ports: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    http = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    return {
        "ibkr": {"host": "127.0.0.1", "port": ports.get("ibkr"), "client_id": 1},
        "alpaca": {
            "base_url": http.get("alpaca"), "data_url": http.get("alpaca"), "key_id": "sandbox",
            "secret_key": "sandbox", "requests_per_minute": 0, "data_requests_per_minute": 0,
        },
        "tda": {
            "base_url": f"{http.get('tda')}/v1", "api_key": "sandbox", "refresh_token": "sandbox",
            "account_id": "123456789", "token_path": str(home / "tda.token"), "poll_s": 0.3,
            "requests_per_minute": 0,
        },
        "schwab": {
            "base_url": http.get("schwab"), "api_key": "sandbox", "app_secret": "sandbox",
            "refresh_token": "sandbox", "token_path": str(home / "schwab.token"), "poll_s": 0.3,
            "requests_per_minute": 0,
        },
    }  # fmt: skip
