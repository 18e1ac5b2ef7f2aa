"""Pages from templates: everything that is not ours is cleaned by the one cleaner, then escaped, in one place.

`finalize` sees the value of every expression before the template escapes it, so no template can forget to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from models.clock import utcnow
from models.destinations import joined
from models.outward import printable
from producers.cli.layout import cell

#: How bad a word is, for its colour: the word itself says it, too.
TONES = {
    "filled": "good", "accepted": "live", "partially_filled": "live", "queued": "plain", "held": "wait",
    "submitted": "wait", "pending_cancel": "wait", "canceled": "plain", "rejected": "bad", "denied": "bad",
    "expired": "over", "unknown": "bad", "refused": "bad", "not_sent": "over", "absent": "over", "sending": "wait",
    "ready": "good", "starting": "wait", "disconnected": "bad", "unread": "bad", "silent": "bad", "no worker": "bad",
    "stopped": "plain", "halted": "bad", "reducing": "wait", "draining": "wait", "up": "good", "down": "bad",
}  # fmt: skip


def environment() -> Environment:
    """Return what renders the templates of this package."""
    made = Environment(
        loader=PackageLoader("worker.page"), autoescape=True, finalize=_outward, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"id": whole, "tone": tone, "ago": ago, "money": money, "spaced": spaced, "place": place}
    made.globals |= {"order_link": order_link}
    return made


def _outward(value: object) -> object:
    """Return what stands in a page for a value, still to be escaped; markup of our own stays."""
    return value if isinstance(value, Markup) or hasattr(value, "__html__") else cell(value)


def whole(value: object) -> Markup:
    """Show an id as it is: nobody could use one with a part hidden."""
    return escape(printable(str(value or "")))


def tone(word: object) -> str:
    """Return how bad a status, a state or an outcome is."""
    return TONES.get(str(word), "plain")


def ago(at: object, now: datetime | None = None) -> str:
    """Say how long ago a moment was."""
    if not isinstance(at, datetime):
        return ""
    seconds = ((now or utcnow()) - at).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if size >= 2 * length:
            text = f"{size / length:.0f} {unit}"
            break
    else:
        text = f"{size:.1f} s" if size < 10 else f"{size:.0f} s"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def money(value: object) -> str:
    """Write an amount with two decimals at most, thousands apart; a price keeps all of its own."""
    return f"{value:,.2f}" if isinstance(value, Decimal) else cell(value)


def spaced(word: object) -> str:
    """Write a word of the record as a person reads it."""
    return str(word).replace("_", " ")


def order_link(client_order_id: object) -> Markup:
    """Return the address of an order's page."""
    return Markup("/orders/") + Markup(quote(str(client_order_id), safe=""))  # noqa: S704 -- quoted


def place(row: Mapping[str, object]) -> str:
    """Say where a row is: at a broker, or in one of several accounts behind its login."""
    account = row.get("account")
    return joined(str(row["broker"]), None if account is None else str(account)) if row.get("broker") else ""


def address(path: str, query: Mapping[str, object]) -> Markup:
    """Return an address with what of a query is given."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return escape(path + (f"?{urlencode(given)}" if given else ""))
