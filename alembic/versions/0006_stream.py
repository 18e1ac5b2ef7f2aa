"""stream: who writes events says so before drawing their ids (PostgreSQL), so that they are read in order without a gap

Revision: 0006, after 0005

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

#: models/record/stream.py reads these locks. The lock, and the note that this transaction has it, end together: with
#: the transaction, or with the savepoint in which they were made.
_LOCK = """
CREATE FUNCTION corro_writes_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('corro.writes_events', true) IS DISTINCT FROM 'yes' THEN
    PERFORM pg_advisory_xact_lock_shared(
      (17750::bigint << 48) + coalesce(pg_sequence_last_value('order_events_id_seq'::regclass), 0));
    PERFORM set_config('corro.writes_events', 'yes', true);
  END IF;
  RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE TRIGGER corro_writes_events BEFORE INSERT ON order_events
FOR EACH STATEMENT EXECUTE FUNCTION corro_writes_events()
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_LOCK)
        op.execute(_TRIGGER)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER corro_writes_events ON order_events")
        op.execute("DROP FUNCTION corro_writes_events()")
