"""What people are told, and when: pure.

| it stands | it was told | what follows                                                                    |
|-----------|-------------|---------------------------------------------------------------------------------|
| yes       | no          | once it has lasted as long as its kind has to: a line of the kind's next message |
| yes       | yes         | nothing                                                                         |
| not any more | no       | forgotten, if it was over before anybody would have been told; else one line for both |
| not any more | yes      | a line that says how long it lasted                                             |
| again     | yes         | nothing, where nobody was told that it was over; of a kill or trip a line with its reason |

A kind has one message a minute at most: the first news at once, whatever follows within a minute together at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from models.notify import TOPICS, Concern, NewsKind, NotifySettings
from models.record.notice_rows import IncidentRow

#: Seconds from one message of a kind to the next.
APART_S = 60.0
#: Acts of people and limits: another moment is another act, with a reason of its own, though it is about the same.
_ONCE_EACH = frozenset({NewsKind.KILLED, NewsKind.TRIPPED})
#: Lines of a message; of what follows it has the subjects alone.
_LINES = 40
#: Characters of a line, and of a message.
_LINE, _BODY = 300, 100_000


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told at once.

    Args:
        kind: of all of it.
        title: holds the kind.
        body: a line for each.
    """

    kind: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a look leads to.

    Args:
        changed: rows of incidents that are new or have changed.
        gone: (kind, subject) of those that are over, and told.
        messages: to be sent.
    """

    changed: list[IncidentRow] = field(default_factory=list)
    gone: list[tuple[str, str]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


def decide_news(
    concerns: Sequence[Concern],
    before: Sequence[IncidentRow],
    last: Mapping[str, datetime],
    settings: NotifySettings,
    now: datetime,
) -> Plan:
    """Decide what people are told now.

    Args:
        concerns: what stands, and what has happened since the last look.
        before: what stood until now, and what is over and was not told yet.
        last: when the last message of each kind was made.
        settings: which kinds are told, and after how long.
        now: the moment.
    """
    known = {(row["kind"], row["subject"]): row for row in before}
    rows = {key: row.copy() for key, row in known.items() if key[0] in settings.wanted}
    _bring_up_to_date(rows, {c.key: c for c in concerns if c.kind in settings.wanted}, now)
    untold = {key for key, row in rows.items() if row["over_at"] is not None and row["told_at"] is None}
    gone = {key for key in untold if not _was_due(rows[key], settings, now)} | (known.keys() - rows.keys())
    messages = []
    for kind in sorted({key[0] for key in rows if key not in gone}):
        lines = [row for key, row in rows.items() if key[0] == kind and key not in gone and _is_due(row, settings, now)]
        at = last.get(kind)
        if not lines or (at is not None and timedelta() <= now - at < timedelta(seconds=APART_S)):
            continue
        messages.append(_message(NewsKind(kind), lines))
        for row in lines:
            row["told_at"] = row["told_at"] or now
        ended = [row for row in lines if row["over_at"] is not None or not TOPICS[NewsKind(kind)].lasts]
        gone |= {(kind, row["subject"]) for row in ended}
    changed = [row for key, row in rows.items() if key not in gone and row != known.get(key)]
    return Plan(changed, sorted(gone & known.keys()), messages)


def _bring_up_to_date(
    rows: dict[tuple[str, str], IncidentRow],
    standing: Mapping[tuple[str, str], Concern],
    now: datetime,
) -> None:
    """Note what is new, what is over, and what is back before anybody was told that it was over."""
    for key, concern in standing.items():
        if key not in rows:
            blank: IncidentRow = {
                "kind": key[0], "subject": key[1], "since": min(concern.since, now), "words": concern.words,
                "told_at": None, "over_at": None,
            }  # fmt: skip
            rows[key] = blank
        elif concern.kind in _ONCE_EACH and min(concern.since, now) > rows[key]["since"]:
            rows[key] = _after(rows[key], concern, now)
        elif rows[key]["over_at"] is not None:
            rows[key]["over_at"] = None
    for key, row in rows.items():
        if key not in standing and row["over_at"] is None and TOPICS[NewsKind(key[0])].lasts:
            row["over_at"] = now


def _after(row: IncidentRow, concern: Concern, now: datetime) -> IncidentRow:
    """Return the row of a second one about the same; what nobody was told of the first goes along in its words."""
    before = f" (before it, since {row['since']:%H:%M:%S}: {row['words']})" if row["told_at"] is None else ""
    anew = {"since": min(concern.since, now), "words": f"{concern.words}{before}", "told_at": None, "over_at": None}
    return cast("IncidentRow", row | anew)


def _is_due(row: IncidentRow, settings: NotifySettings, now: datetime) -> bool:
    """Tell whether there is something to say: it is new and has lasted long enough, or it is over."""
    return row["over_at"] is not None if row["told_at"] is not None else _was_due(row, settings, now)


def _was_due(row: IncidentRow, settings: NotifySettings, now: datetime) -> bool:
    lasted = (row["over_at"] or now) - row["since"]
    return lasted >= timedelta(seconds=settings.delay(NewsKind(row["kind"])))


# -- WORDS ---
def _message(kind: NewsKind, rows: Sequence[IncidentRow]) -> Message:
    rows = sorted(rows, key=lambda row: (row["over_at"] is not None, row["since"]))
    topic, lines = TOPICS[kind], [_line(row) for row in rows[:_LINES]]
    if rest := [row["subject"] for row in rows[_LINES:]]:
        lines.append(f"and {len(rest)} more: {', '.join(rest)}")
    over = all(row["over_at"] is not None for row in rows)
    what = rows[0]["subject"] if len(rows) == 1 else str(len(rows))
    title = f"corro {kind}{' over' if over else ''}: {what}"
    head = [] if all(row["told_at"] is not None for row in rows) else [f"{topic.words}; `{topic.look}` shows more"]
    body = "\n".join([*head, *lines])
    return Message(str(kind), title[:200], body if len(body) <= _BODY else body[:_BODY] + " ...")


def _line(row: IncidentRow) -> str:
    words = f": {row['words']}" if row["words"] else ""
    if row["over_at"] is None:
        return f"{row['subject']} since {row['since']:%Y-%m-%d %H:%M:%S} UTC{words}"[:_LINE]
    lasted = lapse((row["over_at"] - row["since"]).total_seconds())
    told = "" if row["told_at"] is not None else words  # nobody has heard what it was
    return f"over: {row['subject']}, after {lasted} (since {row['since']:%Y-%m-%d %H:%M:%S} UTC){told}"[:_LINE]


def lapse(seconds: float) -> str:
    """Write a time as people say it: 31 s, 2 min 10 s, 3 h 20 min, 2 days 4 h."""
    whole = max(round(seconds), 0)
    for size, name, part, small in ((86_400, "days", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            count, rest = divmod(whole, size)
            unit = "day" if name == "days" and count == 1 else name
            return f"{count} {unit}" + (f" {rest // part} {small}" if rest // part else "")
    return f"{whole} s"
