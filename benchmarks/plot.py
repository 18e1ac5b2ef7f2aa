"""The picture of docs/performance.md: the pace of one worker, the cost of a submit, the way to the broker."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

_COLOURS = {"corro": "#1b6ca8", "same promise": "#e0803a", "bare": "#b9b9b9", "floor": "#6b6b6b"}


def draw(figures: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Draw what there is; returns False where the parts for it were not measured."""
    if "worker_sqlite" not in figures or "submit" not in figures:
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "corro", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    worker, submit = figures["worker_sqlite"], figures["submit"]
    pace = {title: median(one["per_s"]) for title, one in worker.items()}
    late = {title: (median(one["p50_ms"]), median(one["p99_ms"])) for title, one in worker.items()}
    cost = {title: median(one["p50"]) for title, one in submit.items()}
    figure, axes = plt.subplots(3, 1, figsize=(8, 11), height_ratios=[len(pace), len(late), len(cost)])
    _bars(axes[0], pace, "orders/s through one worker, SQLite (more is better)")
    words = "submit to broker at 100/s, ms (less is better; pale: p99)"
    _bars(axes[1], {t: p99 for t, (_, p99) in late.items()}, words, 0.35)
    _bars(axes[1], {t: p50 for t, (p50, _) in late.items()}, None)
    _bars(axes[2], cost, "an order in the strategy's process, µs (less is better)")
    for axis, least in ((axes[1], min(p50 for p50, _ in late.values())), (axes[2], min(cost.values()))):
        axis.set_xscale("log")
        axis.set_xlim(left=10 ** math.floor(math.log10(least)))
    figure.legend(handles=[Patch(color=c, label=name) for name, c in _COLOURS.items()], loc="lower center", ncol=4)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def _bars(axis: Any, values: Mapping[str, float], title: str | None, alpha: float = 1.0) -> None:
    names = list(values)[::-1]
    axis.barh(names, [values[name] for name in names], color=[_colour(name) for name in names], alpha=alpha)
    if title:
        axis.set_title(title, loc="left")


def _colour(name: str) -> str:
    if "floor" in name:
        return _COLOURS["floor"]
    if name.startswith("corro"):
        return _COLOURS["corro"]
    return _COLOURS["same promise" if name.endswith("same promise") else "bare"]
