"""A fresh PostgreSQL database with the schema, for tests of transactions that meet in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.record.database import Database, upgrade
from tests.kit import PostgresServer


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """On the session's server; closed with the test."""
    made = Database(postgres.fresh())
    upgrade(made)
    yield made
    made.close()
