"""The controls in force: what is halted or may only reduce, and what a kill still has to do. Set in `worker.control`.

They are read through the view `v_controls`, which has the halts and drains of the version before as well.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from sqlalchemy import JSON, Column, Connection, Integer, MetaData, String, Table, bindparam, exists, or_, select

from models.record.columns import UtcTime, Words
from models.record.statements import Query
from models.record.tables import controls, halts

#: Nothing is sent; only closing orders are; nothing new is taken, what waits goes to the next broker.
HALTED, REDUCING, DRAINING = "halted", "reducing", "draining"
#: What a state is called in a sentence.
NOUNS = {HALTED: "halt", REDUCING: "reducing", DRAINING: "drain"}

v_controls = Table(
    "v_controls",
    MetaData(),
    Column("scope_kind", String),
    Column("scope", String),
    Column("state", String),
    Column("generation", Integer),
    Column("kill", JSON),
    Column("by", String),
    Column("reason", Words()),
    Column("at", UtcTime),
)


class KillRow(TypedDict, total=False):
    """What a kill asks of the leaders, and where it is done."""

    #: Orders that corro did not send are canceled, and positions that nobody holds are closed.
    external: bool
    #: Closing orders follow; within so many percent of the price, else at the market.
    flatten: bool
    collar: str | None
    #: Brokers that show nothing live any more.
    done: list[str]
    #: Broker -> why it is not done yet, where something is in the way.
    troubles: dict[str, str]


class ControlRow(TypedDict):
    """A control in force."""

    scope_kind: str
    scope: str
    state: str
    #: Id of the event in `control_events` that set it; 0 if the version before did.
    generation: int
    kill: KillRow | None
    by: str | None
    reason: str | None
    at: datetime


_IN_FORCE = Query(select(v_controls).order_by(v_controls.c.generation, v_controls.c.scope), ControlRow)
#: Whether anything at all may stop an order of a broker (bound as `broker`): one answer for the whole of a claim.
ANY_IN_FORCE = or_(exists(select(controls.c.scope)), exists().where(halts.c.scope.in_(["*", bindparam("broker")])))


def in_force(connection: Connection) -> list[ControlRow]:
    """Return the controls in force, the oldest first."""
    return _IN_FORCE.rows(connection)
