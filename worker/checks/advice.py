"""What to change when something is wrong: one table, read from the top; the first row that fits gives the advice.

A row fits by adapter (`*` is any; `sandbox` is any adapter while corro runs on its own simulated brokers) and by a
pattern in the words of what failed. Menu names are those of TWS 10 and Gateway 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.extras import install

#: Where TWS and Gateway listen unless they are told otherwise (docs/facts/ibkr.md#1.9).
IB_PORTS = {7497: "TWS, paper", 7496: "TWS, LIVE", 4002: "Gateway, paper", 4001: "Gateway, LIVE"}
_API = "Global Configuration > API > Settings (in Gateway: Configure > Settings > API > Settings)"
_PORTS = "TWS 7497 paper, 7496 live; Gateway 4002 paper, 4001 live"
#: Words that the check itself adds to what a failed connect says, after a look at the port.
PORT_OPEN, PORT_SILENT = "the port is open, but nobody answers on it", "nothing answers at that address"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: for which adapters, which words in the error, and what to do.

    Args:
        adapters: names, `*` for any, `sandbox` for the simulated brokers.
        pattern: regular expression, case does not matter.
        advice: template; `{name}`, `{env}`, `{host}`, `{port}`, `{client_id}`, `{url}` are filled in.
    """

    adapters: tuple[str, ...]
    pattern: str
    advice: str


_ANY, _SANDBOX, _IB, _ALPACA, _TDA, _SCHWAB = ("*",), ("sandbox",), ("ibkr",), ("alpaca",), ("tda",), ("schwab",)
_BOTH = _TDA + _SCHWAB
_REFUSED = r"refused|connect call failed"
_NO_NAME, _LATE = r"resol|name or service|getaddrinfo", r"time(d )?out|took as long|no answer"
_UNREACHABLE = rf"{_NO_NAME}|{_LATE}|certificate|HTTP 5\d\d"

ROWS = (
    # -- SETTINGS: their messages name the key; these add what to put there ---
    Row(_IB, r"is the live port", f"For paper set brokers.{{name}}.port to a paper port ({_PORTS})."),
    Row(_IB, r"a live account: real money", "Log TWS in to the paper account (DU...), or set live = true."),
    Row(_IB, r"this login manages", "Set brokers.{name}.account (or {env}ACCOUNT) to one of them."),
    Row(_ALPACA, r"is the live host|nobody knows as simulated", "Paper needs its own URL and its own keys."),
    Row(_TDA, r"is the live host", "TD Ameritrade's API is gone since May 2024: set adapter = \"schwab\"."),
    Row(
        _ALPACA,
        r"(key_id|secret_key) is missing",
        "Make keys in Alpaca's dashboard (paper and live have different ones) and set APCA_API_KEY_ID and "
        "APCA_API_SECRET_KEY, or {env}KEY_ID and {env}SECRET_KEY.",
    ),
    Row(_SCHWAB, r"(api_key|app_secret) is missing", "Key and secret are on developer.schwab.com, Dashboard, Apps."),
    Row(_ANY, r"is not installed|cannot be imported", install("worker", "{adapter}")),
    # -- SANDBOX ---
    Row(
        _SANDBOX,
        rf"{_REFUSED}|{PORT_SILENT}",
        "The simulated brokers are not running: `corro up` or `corro sandbox` starts them. For a real broker write a "
        "[brokers.<name>] table into corro.toml.",
    ),
    # -- INTERACTIVE BROKERS ---
    Row(
        _IB,
        r"\b326\b|client ?id.*in use",
        "Client id {client_id} is taken, perhaps by another `corro check`: wait a minute (TWS keeps the id of a lost "
        "connection for a while) or set brokers.{name}.check_client_id. Every worker needs a client_id of its own.",
    ),
    Row(
        _IB,
        r"read-only",
        f"Switch Read-Only API OFF: {_API}, untick 'Read-Only API', Apply. With it on TWS takes no order; guides that "
        "tell you to tick it are wrong.",
    ),
    Row(
        _IB,
        _REFUSED,
        f"Nothing listens on {{host}}:{{port}}. Start TWS or IB Gateway and log in; in {_API} tick 'Enable ActiveX and "
        f"Socket Clients' and make 'Socket port' {{port}}, or set brokers.{{name}}.port to what it says ({_PORTS}).",
    ),
    Row(
        _IB,
        rf"{PORT_OPEN}|peer closed|socket disconnect|connection ?reset",
        "TWS takes the connection but does not let us in: answer the dialog 'Accept incoming connection attempt?' in "
        f"its window; then add this machine's address under 'Trusted IPs' in {_API} (127.0.0.1 for this machine) so "
        "that it does not ask again. If there is no dialog, TWS may still be logging in.",
    ),
    Row(
        _IB,
        PORT_SILENT,
        "See brokers.{name}.host and the firewall; for another machine than this one untick 'Allow connections from "
        f"localhost only' in {_API} and add this machine's address under 'Trusted IPs'.",
    ),
    Row(_IB, r"\b503\b|out of date|version", "Update TWS or Gateway: this one is too old for the API."),
    Row(
        _IB,
        r"\b1100\b|\b2110\b|cut off",
        "TWS itself has lost IB: see its connection status; around 23:45-00:45 New York this is the nightly reset.",
    ),
    Row(_IB, r"\b10197\b|competing", "Another session of this login has the market data: end it."),
    Row(
        _IB,
        r"\b(354|10089|10090|10167|10168)\b|not subscribed|market data permission|delayed",
        "No live data for this login: subscribe in Client Portal > Settings > Market Data Subscriptions (a paper "
        "account takes the live one's: Settings > Paper Trading Account); delayed data will do with "
        "brokers.{name}.delayed_quotes = true.",
    ),
    # -- ALPACA ---
    Row(
        _ALPACA,
        r"does not permit|subscription|sip",
        "This plan has no SIP data: set brokers.{name}.feed = \"iex\" (the default), or subscribe to Algo Trader Plus.",
    ),
    Row(
        _ALPACA,
        r"\b40[13]\b|refuses the keys|unauthorized|forbidden",
        "These keys do not open {url}. Paper keys open only https://paper-api.alpaca.markets, live keys only "
        "https://api.alpaca.markets: see which of the two accounts the dashboard shows (top left), make keys there, "
        "and set APCA_API_KEY_ID and APCA_API_SECRET_KEY, or {env}KEY_ID and {env}SECRET_KEY.",
    ),
    # -- TDA AND SCHWAB ---
    Row(
        _BOTH,
        r"invalid_client",
        "The broker does not know this app: see {env}API_KEY and {env}APP_SECRET; at Schwab the app must be 'Ready For "
        "Use' (developer.schwab.com, Dashboard).",
    ),
    Row(
        _SCHWAB,
        r"refresh_token is refused|authentication_error|\b400\b.*token",
        "Log in again, Schwab's refresh token lives seven days whatever you do: open "
        "https://api.schwabapi.com/v1/oauth/authorize?client_id=APP_KEY&redirect_uri=CALLBACK in a browser, exchange "
        "the code for tokens within 30 s, and set the new one as {env}REFRESH_TOKEN.",
    ),
    Row(
        _TDA,
        r"refresh_token is refused|invalid_grant",
        "TD Ameritrade retired its API in May 2024 and gives no more tokens: set adapter = \"schwab\".",
    ),
    Row(
        _BOTH,
        r"account_id is|\b404\b",
        "Set {env}ACCOUNT_ID to the account's number; it must be one that the login allowed this app to use.",
    ),
    Row(_SCHWAB, r"\b40[13]\b|not authorized", "Add 'Accounts and Trading Production' and 'Market Data' to the app."),
    Row(_TDA, rf"{_REFUSED}|{_UNREACHABLE}", "TD Ameritrade retired its API in May 2024: set adapter = \"schwab\"."),
    # -- DATABASE AND QUEUE ---
    Row(
        ("database",),
        r"",
        "Start the database server, or correct database_url (CORRO_DATABASE_URL). Without it nothing is recorded and "
        "nothing is sent.",
    ),
    Row(
        ("queue",),
        r"auth|password|NOPERM",
        "Correct user and password in redis_url (CORRO_REDIS_URL).",
    ),
    Row(
        ("queue",),
        r"",
        "Start Redis or Valkey, or correct redis_url (CORRO_REDIS_URL). Until then only the sweep finds orders, at "
        "polling pace.",
    ),
    # -- ANYWHERE ---
    Row(_ANY, r"\b429\b|too many|pacing", "Too many requests: something else uses this login heavily; wait a minute."),
    Row(_ANY, _NO_NAME, "The name is unknown: see the URL or host, and the DNS here."),
    Row(_ANY, r"certificate|\bssl", "TLS fails: see this machine's clock and certificates, and any proxy in between."),
    Row(_ANY, r"proxy", "The proxy does not pass it: see HTTPS_PROXY and NO_PROXY."),
    Row(_ANY, _REFUSED, "Nothing listens at {url}: see brokers.{name}.base_url."),
    Row(_ANY, _LATE, "No answer in time: see the network; --timeout waits longer."),
    Row(_ANY, r"HTTP 5\d\d", "The broker's own server fails: see its status page and try again."),
)  # fmt: skip


def advice_for(adapter: str, words: str, facts: Mapping[str, object], *, sandbox: bool = False) -> str | None:
    """Return what to change, or None where the words say all there is.

    Args:
        adapter: the adapter's name, or `database` or `queue`.
        words: what failed, in the words of the error.
        facts: values for the templates; unknown ones stay as they are.
        sandbox: corro runs on its own simulated brokers.
    """
    kinds = {adapter, "*", *(("sandbox",) if sandbox else ())}
    for row in ROWS:
        if kinds.intersection(row.adapters) and re.search(row.pattern, words, re.IGNORECASE):
            return row.advice.format_map(_Facts(facts))
    return None


class _Facts(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"
