"""`[timing]`: every interval of the healers, each within its range and all in proportion.

A number that fits no clock (nan, infinity, a century) would switch a guard off in silence: `age > nan` is never true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from models.environment import as_list

#: The longest of all: a day. Whoever wants a guard out of the way has to say so otherwise than by a huge number.
_DAY_S = 86_400.0


#: A wait, which may be none.
Wait = Annotated[float, Field(ge=0, le=_DAY_S, allow_inf_nan=False)]
#: A period or a deadline, seconds: not so short that a loop would do nothing else.
Period = Annotated[float, Field(ge=0.05, le=_DAY_S, allow_inf_nan=False)]
#: As long as one order may occupy a worker, seconds.
Hold = Annotated[float, Field(ge=0.1, le=600, allow_inf_nan=False)]


class TimingSettings(BaseModel):
    """`[timing]`: every interval of the healers, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: A queued order older than this is claimed by the sweep.
    sweep_after: Wait = 2.0
    #: How often the sweep looks.
    sweep_every: Period = 0.5
    heartbeat_every: Period = 2.0
    #: A worker without a heartbeat for this long is dead.
    dead_after: Period = 10.0
    #: Queued orders of a broker without a live worker move on after this.
    strand_after: Wait = 5.0
    #: A claim is good for this long; then the attempt is reconciled.
    lease: Hold = 30.0
    #: A send may begin only while its claim is younger than this.
    fresh: Hold = 8.0
    #: A send has to be answered within this; fresh + deadline stay below the lease.
    deadline: Hold = 10.0
    #: Pauses between look-ups of an unknown outcome; the last one repeats.
    reconcile: Annotated[tuple[Period, ...], NoDecode, Field(min_length=1, max_length=20)] = (1.0, 2.0, 5.0)
    #: An outcome unknown for this long is alerted.
    alert_after: Wait = 30.0
    #: A cancel that has had no effect for this long is alerted.
    cancel_alert_after: Wait = 120.0
    open_orders_every: Period = 10.0
    positions_every: Period = 60.0
    #: A position that nothing explains for this long, in three readings at least, locks its symbol at that broker.
    lock_after: Wait = 15.0
    #: A position snapshot older than this does not allow a sell to fall back.
    positions_valid: Period = 180.0
    #: A sender that cannot be seen to be dead is believed dead after this silence.
    sender_gone_after: Period = 300.0
    #: Backoff of reconnects: first pause and longest pause.
    reconnect_first: Period = 0.5
    reconnect_longest: Period = 15.0
    #: Pause before an order whose whole route was unreachable tries it again.
    retry_pause: Period = 1.0
    leader_lease: Period = 6.0
    #: An order may ask to wait so long at most, from created_at to expires_at.
    longest_life: Annotated[float, Field(ge=1, le=30 * _DAY_S, allow_inf_nan=False)] = _DAY_S

    @field_validator("reconcile", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return as_list(value)

    @model_validator(mode="after")
    def _in_proportion(self) -> Self:
        for words, holds, names in _PROPORTIONS:
            if not holds(self):
                values = ", ".join(f"{name} = {getattr(self, name):g}" for name in names)
                raise ValueError(f"{words}, but {values}")
        return self


#: What has to hold between intervals, and of which.
_PROPORTIONS: tuple[tuple[str, Callable[[TimingSettings], bool], tuple[str, ...]], ...] = (
    (
        "fresh + deadline must stay below lease, so that a send is over before it is reconciled",
        lambda t: t.fresh + t.deadline < t.lease,
        ("fresh", "deadline", "lease"),
    ),
    (
        "dead_after must be at least 3 x heartbeat_every, so that one late heartbeat is no death",
        lambda t: t.dead_after >= 3 * t.heartbeat_every,
        ("dead_after", "heartbeat_every"),
    ),
    (
        "leader_lease must be at least 2 x heartbeat_every, so that a leader can renew it",
        lambda t: t.leader_lease >= 2 * t.heartbeat_every,
        ("leader_lease", "heartbeat_every"),
    ),
    (
        "sender_gone_after must not be shorter than lease: until then a sender may be at work",
        lambda t: t.sender_gone_after >= t.lease,
        ("sender_gone_after", "lease"),
    ),
    (
        "reconnect_first must not be longer than reconnect_longest",
        lambda t: t.reconnect_first <= t.reconnect_longest,
        ("reconnect_first", "reconnect_longest"),
    ),
    (
        "positions_valid must not be shorter than positions_every, else no reading is ever valid",
        lambda t: t.positions_valid >= t.positions_every,
        ("positions_valid", "positions_every"),
    ),
)
