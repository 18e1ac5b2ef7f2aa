"""What limits cost: the same orders with none set and with ten."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.contenders import CORRO, ContenderRun, once_more
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, ratio, spread
from benchmarks.worker import NAMES, Figures, drained, fill, paced

WORDS = """\
Through one worker as above, single submits. With none set, the statement that claims plain orders sees that there is
none; with ten, every claim goes the careful way and asks about each of its orders: against what is held, open, sent
today and lost. The ten: the size and value of an order, a collar, orders and messages a minute, open orders, the
position, the open value, the value and the loss of a day; none of them is reached."""
_TEN = """
[risk]
max_quantity = 1000000
max_value = 1000000000
collar_percent = 1000
orders_per_minute = 10000000
messages_per_minute = 10000000
max_open_orders = 10000000
max_position = 1000000000
max_open_value = 1000000000000
max_day_value = 1000000000000
max_day_loss = 1000000000000
"""
FORMS = {"none set": "", "ten set": _TEN}
_FIGURES = {
    "orders/s [rounds]": ("per_s", 0),
    "p50 ms": ("p50_ms", 2),
    "p99 ms": ("p99_ms", 2),
    "CPU ms": ("cpu_ms", 2),
}


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Run both in turn, on both databases, round after round."""
    found: dict[str, dict[str, list[Figures]]] = {}
    for round_ in scale.rounds(2, 3, 40.0):
        for database, name in NAMES.items():
            for form in list(FORMS) if round_ % 2 == 0 else list(FORMS)[::-1]:
                figures = once_more(partial(_run, house, database, FORMS[form], scale.of(1000, 500), scale.of(200, 60)))
                found.setdefault(name, {}).setdefault(form, []).append(figures)
    part = Part("limits", "The price of limits", WORDS, figures=found)
    rows = []
    for name, forms in found.items():
        for form, rounds in forms.items():
            series = {key: [one[key] for one in rounds] for key, _ in _FIGURES.values()}
            first, *rest = _FIGURES.values()
            cells = [f"{median(series[key]):,.{digits}f}" for key, digits in rest]
            rows.append([f"{form}, {name}", spread(series[first[0]]), *cells])
        later = ratio([one["p50_ms"] for one in forms["ten set"]], [one["p50_ms"] for one in forms["none set"]])
        fewer = ratio([one["per_s"] for one in forms["ten set"]], [one["per_s"] for one in forms["none set"]])
        words = f"submit to broker with ten limits set, p50: at most 1.5 of none set ({name})"
        figure = f"{later:.2f} of it; {fewer:.2f} of its orders/s"
        part.targets.append(Target(words, later <= 1.5, figure, "limits"))
    part.tables.append(Table("per order", ["limits", *_FIGURES], rows))
    return part


def _run(house: BenchHouse, database: str, limits: str, backlog: int, pace: int) -> Figures:
    with ContenderRun(house, CORRO, database, more=limits) as run:
        n, figures = fill(run, backlog)
        run.start_worker()
        return figures | drained(run, n, figures) | paced(run, n, pace)
