"""What a person should know of at one moment, out of what was read: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from models.encoding import plain
from models.notify import Concern, NewsKind
from models.record.notices import Noted
from models.record.rows import WorkerRow
from worker.control.scopes import scope_of
from worker.fleet.liveness import is_silent, is_unread


def concerns_of(noted: Noted, brokers: Collection[str], now: datetime, dead_after_s: float) -> list[Concern]:
    """Return what stands now, and what has happened since the last look.

    Args:
        noted: what was read.
        brokers: those that are configured.
        now: the moment.
        dead_after_s: a worker without a heartbeat for this long is silent.
    """
    return [
        *_doubts(noted),
        *_silent(noted.workers, now, dead_after_s),
        *_disconnected([row for row in noted.workers if row["broker"] in brokers], now, dead_after_s),
        *_locks(noted),
        *_controls(noted),
        *noted.happened,
    ]


def of_dead_letters(letters: Iterable[Mapping[str, object]], new: int, now: datetime) -> list[Concern]:
    """Return what is new among messages set aside.

    Args:
        letters: those that are kept, the newest first, at least as many as are new or as can be read.
        new: how many are new.
        now: the moment.
    """
    shown = [row for _, row in zip(range(new), letters, strict=False)]
    found = [
        Concern(NewsKind.DEAD_LETTER, str(row["id"]), now, f"{row['reason']}, from {row['queue']}: {row['why']}")
        for row in shown
    ]
    if new > len(found):
        words = "set aside, and not listed here: `corro dead-letters --counts`"
        found.append(Concern(NewsKind.DEAD_LETTER, f"{new - len(found)} more", now, words))
    return found


def is_connected(workers: Sequence[WorkerRow], at: datetime, dead_after_s: float) -> bool:
    """Tell whether a broker has a live worker that is connected, and none that cannot read it."""
    alive = [row for row in workers if not is_silent(row, at, dead_after_s)]
    return any(row["state"] == "ready" for row in alive) and not any(map(is_unread, alive))


def _doubts(noted: Noted) -> Iterator[Concern]:
    for doubt in noted.doubts:
        yield Concern(NewsKind.UNRESOLVED, doubt.client_order_id, doubt.since, f"at {doubt.broker}")


def _silent(workers: Sequence[WorkerRow], now: datetime, dead_after_s: float) -> Iterator[Concern]:
    """Yield each broker and host whose newest worker is silent: one that was started anew in its place is no news."""
    newest: dict[str, WorkerRow] = {}
    for row in workers:
        name = f"{row['broker']}@{row['host']}"
        if name not in newest or row["heartbeat_at"] > newest[name]["heartbeat_at"]:
            newest[name] = row
    for name, row in newest.items():
        if row["state"] != "stopped" and is_silent(row, now, dead_after_s):
            said = f"; it was {row['state']}" + (f": {row['detail']}" if row["detail"] else "")
            yield Concern(NewsKind.WORKER_SILENT, name, row["heartbeat_at"], f"process {row['pid']}{said}")


def _disconnected(workers: Sequence[WorkerRow], now: datetime, dead_after_s: float) -> Iterator[Concern]:
    """Yield each broker that has workers, of which none is connected, or one cannot read it."""
    by_broker: dict[str, list[WorkerRow]] = {}
    for row in workers:
        if row["state"] != "stopped":
            by_broker.setdefault(row["broker"], []).append(row)
    for broker, rows in by_broker.items():
        if is_connected(rows, now, dead_after_s):
            continue
        alive = [row for row in rows if not is_silent(row, now, dead_after_s)]
        unread = next((row for row in alive if is_unread(row)), None)
        if unread is not None:
            yield Concern(NewsKind.BROKER_DISCONNECTED, broker, now, unread["detail"] or "")
        elif alive:
            last = max(alive, key=_lost_at)
            yield Concern(NewsKind.BROKER_DISCONNECTED, broker, _lost_at(last), last["detail"] or last["state"])
        else:
            heard = max(row["heartbeat_at"] for row in rows)
            yield Concern(NewsKind.BROKER_DISCONNECTED, broker, heard, "its workers are silent")


def _locks(noted: Noted) -> Iterator[Concern]:
    for row in noted.locks:
        words = f"{plain(row['expected'])} expected, {plain(row['found'])} found"
        yield Concern(NewsKind.LOCKED, f"{row['broker']}:{row['symbol']}", row["since"], words)


def _controls(noted: Noted) -> Iterator[Concern]:
    for row in noted.controls:
        tripped = row["generation"] in noted.tripped
        if tripped or row["kill"] is not None:
            kind = NewsKind.TRIPPED if tripped else NewsKind.KILLED
            words = f"{row['state']} by {row['by']}: {row['reason']}"
            yield Concern(kind, scope_of(row).words, row["at"], words)


def _lost_at(row: WorkerRow) -> datetime:
    return row["state_since"] or row["started_at"]
