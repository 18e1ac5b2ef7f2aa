"""Several questions to the database in one round trip, where it is PostgreSQL; each sees what is committed by then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from models.record.statements import Query, together

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor

R = TypeVar("R")


class Questionnaire:
    """Collects questions, asks them in their order, and hands each answer to who has asked.

    Args:
        connection: of the transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._asked: list[tuple[Callable[[], DBAPICursor], Callable[[DBAPICursor], object]]] = []

    def ask(self, query: Query[R], then: Callable[[list[R]], object], **values: object) -> None:
        """Ask for rows, which are handed over by `answer`."""
        read = partial(query.read, self.connection)
        self._asked.append((partial(query.send, self.connection, values), lambda cursor: then(read(cursor))))

    def answer(self) -> None:
        """Send all questions, and hand over the answers in the order of the questions."""
        if self._asked:
            with together(self.connection):
                take = self.send()
            take()

    def send(self) -> Callable[[], None]:
        """Send all questions in somebody's block of `together`; what is returned hands over the answers after it."""
        asked, self._asked = self._asked, []
        cursors = [send() for send, _ in asked]

        def take_all() -> None:
            for (_, take), cursor in zip(asked, cursors, strict=True):
                take(cursor)

        return take_all
