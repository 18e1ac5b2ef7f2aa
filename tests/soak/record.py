"""What one world leaves behind: every fault that struck, whom, and what became of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tests.soak.doors import Intent
from tests.soak.evidence import SoakVerdict
from tests.soak.strikes import Struck


def record(
    verdict: SoakVerdict, intents: Sequence[Intent], struck: Iterable[Struck], strikes: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """Add up one world.

    Args:
        verdict: of the end.
        intents: every order that was asked for.
        struck: faults outside of the doors.
        strikes: what the doors say that they did.

    Returns:
        Sums, the table by kind of fault, and what was found.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for intent in intents:
        for symbol in intent.symbols:
            owners[symbol].append(intent.client_order_id)
    doors = [
        Struck(s["at"], f"{s['door']}: {s['label']}", s["door"], tuple(owners[s["symbol"]]) if s["symbol"] else None)
        for s in strikes
    ]
    table: dict[str, dict[str, Any]] = {}
    hits: Counter[str] = Counter()
    victims: dict[str, set[str]] = defaultdict(set)
    for blow in [*struck, *doors]:
        ids = _under_it(blow, verdict) if blow.ids is None else blow.ids
        table.setdefault(blow.label, {"injected": 0})["injected"] += 1
        victims[blow.label] |= set(ids)
    for label, found in victims.items():
        hits.update(found)
        became = Counter(verdict.became[i][0] for i in found if i in verdict.became)
        seconds = [round(s, 2) for i in found if (s := verdict.became.get(i, ("", None))[1]) is not None]
        table[label] |= {"orders": len(found), "became": dict(became), "seconds": seconds}
    return {
        "orders": len(intents), "faults": sum(r["injected"] for r in table.values()),
        "unharmed": sum(1 for i in intents if not hits[i.client_order_id]),
        "crossed": sum(1 for i in intents if hits[i.client_order_id] > 1),
        "became": dict(Counter(what for what, _ in verdict.became.values())),
        "duplicates": verdict.duplicates, "losses": verdict.losses, "false_terminals": verdict.false_terminals,
        "touched": verdict.touched, "table": table,
    }  # fmt: skip


def _under_it(blow: Struck, verdict: SoakVerdict) -> tuple[str, ...]:
    """Orders that were on their way when it struck."""
    return tuple(
        id_ for id_, (began, ended, brokers) in verdict.spans.items()
        if began <= blow.at <= ended and (blow.broker is None or blow.broker in brokers)
    )  # fmt: skip
