"""Where an order's time went, and whose money is at stake: pure, for the pages to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from models.destinations import destination_of
from models.settings import Settings

Row = Mapping[str, object]


class Stretch(NamedTuple):
    """A part of an order's way: what it was spent on, where, and from when to when.

    Args:
        kind: queue (waiting for a worker), ours (before the first byte), broker (until its answer), market (until it
            was filled, or ended).
        words: the same for a person.
        begin, end: the moments.
    """

    kind: str
    words: str
    begin: datetime
    end: datetime

    @property
    def ms(self) -> float:
        """How long it took, milliseconds."""
        return max((self.end - self.begin).total_seconds() * 1000, 0.0)


class DrawnStretch(NamedTuple):
    """A stretch as it is drawn: where it begins and how wide it is, in thousandths of the whole."""

    stretch: Stretch
    x: float
    width: float


def course(order: Row, attempts: Sequence[Row], fills: Sequence[Row]) -> list[Stretch]:
    """Cut an order's life, as far as it has come, into stretches that follow each other.

    Args:
        order: a row of `v_orders`.
        attempts: of `v_attempts`, oldest first.
        fills: of `v_fills`; their time is when the record had them, for brokers' clocks are their own.
    """
    return [stretch for stretch in _stretches(order, attempts, fills) if stretch.end > stretch.begin]


def _stretches(order: Row, attempts: Sequence[Row], fills: Sequence[Row]) -> Iterator[Stretch]:
    here = _time(order["created_at"])
    if here is None:
        return
    for number, attempt in enumerate(attempts):
        broker = destination_of(attempt)
        started, sent, ended = (_time(attempt[name]) for name in ("started_at", "sent_at", "ended_at"))
        waited = "waited to be claimed" if number == 0 else f"waited for its turn at {broker}"
        for kind, words, until in (
            ("queue", waited, started),
            ("ours", f"made ready for {broker}", sent),
            ("broker", f"at {broker}, until its answer" if sent else f"{broker} tried, until the answer", ended),
        ):
            if until is not None and until >= here:
                yield Stretch(kind, words, here, until)
                here = until
    filled = [at for fill in fills if (at := _time(fill["recorded_at"])) is not None]
    if filled and max(filled) > here:
        if min(filled) > here:
            yield Stretch("market", "worked until its first fill", here, min(filled))
            here = min(filled)
        yield Stretch("market", "filled until its last fill", here, max(filled))
        here = max(filled)
    closed = _time(order["closed_at"])
    if closed is not None and closed > here:
        yield Stretch("market", "until it ended", here, closed)


def bars(stretches: Sequence[Stretch], least: float = 6.0) -> list[DrawnStretch]:
    """Draw stretches side by side on a line of 1000, none of them so narrow that it cannot be seen."""
    total = sum(stretch.ms for stretch in stretches)
    widths = [max(stretch.ms / total * 1000, least) if total else least for stretch in stretches]
    scale = 1000 / sum(widths) if widths else 1.0
    found, x = [], 0.0
    for stretch, width in zip(stretches, widths, strict=True):
        found.append(DrawnStretch(stretch, round(x, 1), round(width * scale, 1)))
        x += width * scale
    return found


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


class Stake(NamedTuple):
    """Whose money the fleet trades with: LIVE, PAPER or SIMULATED, and the same in words."""

    word: str
    words: str


def stake(settings: Settings) -> Stake:
    """Tell what every page says at its top: LIVE as soon as one broker is."""
    if settings.is_sandbox:
        return Stake("SIMULATED", "the sandbox of this machine: no broker, no money")
    live = [name for name, broker in settings.brokers.items() if broker.live]
    paper = [name for name in settings.brokers if name not in live]
    if not live:
        return Stake("PAPER", f"paper accounts at {', '.join(paper)}")
    return Stake("LIVE", f"real money at {', '.join(live)}" + (f"; paper at {', '.join(paper)}" if paper else ""))
