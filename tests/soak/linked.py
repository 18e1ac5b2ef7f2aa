"""The check of linked orders, beyond that of each: what excludes each other, what waits, and what `on_partial` sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from tests.soak.doors import AtDoor, Intent, Row


def protecting(intents: Sequence[Intent], rows: Mapping[str, Row]) -> list[Intent]:
    """Return what corro has sent by itself for brackets whose exits were gone, as the orders that they are."""
    found = []
    for entry in (intent for intent in intents if (intent.kind, intent.leg) == ("bracket", "entry")):
        lead = f"{entry.client_order_id}.protect"
        for row in (rows[id_] for id_ in (lead, f"{lead}.sl") if id_ in rows):
            one = Intent(
                row["client_order_id"], row["symbol"], row["side"], Decimal(str(row["quantity"])), (row["broker"],),
                recorded=True, order_type=row["order_type"], group=lead, kind="oco", leg=row["leg"],
            )  # fmt: skip
            one.protects = entry.group
            found.append(one)
    return found


def overfills(
    members: Sequence[Intent], placed: Mapping[str, list[AtDoor]], protecting: Sequence[Intent]
) -> Iterator[str]:
    """Hold the fills of what closes or waits against what it may fill; a bust leaves what it finds."""
    entries = {intent.leg: placed[intent.client_order_id] for intent in members}
    entries |= {f"protecting {i.leg}": placed[i.client_order_id] for i in protecting}
    if any(entry.amended for found in entries.values() for entry in found):
        return
    filled = {leg: sum((entry.filled for entry in found), Decimal(0)) for leg, found in entries.items()}
    lead = {"bracket": "entry", "oto": "first"}.get(str(members[0].kind))
    opened = filled.pop(lead) if lead else members[0].quantity
    if sum(filled.values(), Decimal(0)) > opened:
        yield f"{members[0].group}: exits filled {filled}, over {opened}"
