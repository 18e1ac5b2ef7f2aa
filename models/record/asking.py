"""Several questions to the database in one round trip, where it is PostgreSQL; each sees what is committed by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection

from models.record.statements import Query, together

R = TypeVar("R")


class Asking:
    """Collects questions, asks them in their order, and hands each answer to who has asked.

    Args:
        connection: of the transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._asked: list[tuple[Query[Any], Callable[[list[Any]], object], dict[str, object]]] = []

    def ask(self, query: Query[R], then: Callable[[list[R]], object], **values: object) -> None:
        """Ask for rows, which are handed over by `answer`."""
        self._asked.append((query, then, values))

    def answer(self) -> None:
        """Send all questions, and hand over the answers in the order of the questions."""
        asked, self._asked = self._asked, []
        with together(self.connection):
            cursors = [query.send(self.connection, values) for query, _, values in asked]
        for (query, then, _), cursor in zip(asked, cursors, strict=True):
            then(query.read(self.connection, cursor))
