"""Run the migrations on the engine that corro hands over, or on the one of the settings."""

from __future__ import annotations

from alembic import context

from models.record.database import Database
from models.record.tables import metadata
from models.settings import load_settings


def _compared(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and (name or "").startswith("v_"))


def run() -> None:
    engine = context.config.attributes.get("engine") or Database(load_settings().database).engine
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            include_name=_compared,
            compare_type=False,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
