"""What-if questions that are under way: their answers come as openOrder messages, and are kept apart from orders.

| what comes under the id of a question  | means                                                           |
|----------------------------------------|-----------------------------------------------------------------|
| openOrder with `whatIf`                | the answer                                                      |
| openOrder without it                   | TWS took the question for an order: its asker cancels it        |
| a code that refuses an order           | such an order would be refused, with IB's words                 |
| a notice                               | a warning; the answer is still to come                          |
| any other code                         | nobody knows                                                    |
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from models.errors import BrokerError, DataError
from worker.brokers.ibkr.codes import Proof, code_of
from worker.brokers.ibkr.sdk import SdkOrderState


@dataclass(slots=True)
class Preview:
    """One question, and what has come to it."""

    done: asyncio.Future[None]
    state: SdkOrderState | None = None
    refused: str | None = None
    became_order: bool = False
    notices: list[str] = field(default_factory=list)

    def end(self, error: Exception | None = None) -> None:
        """Wake its asker, once."""
        if not self.done.done():
            self.done.set_result(None) if error is None else self.done.set_exception(error)


class Previews:
    """The questions of one connection, by order id; used on its loop only."""

    def __init__(self) -> None:
        self._open: dict[int, Preview] = {}

    @contextmanager
    def asking(self, order_id: int) -> Iterator[Preview]:
        """Take what comes under an order id for the answer to a question, until the end."""
        preview = self._open[order_id] = Preview(asyncio.get_running_loop().create_future())
        try:
            yield preview
        finally:
            self._open.pop(order_id, None)

    def answer(self, order_id: int, state: SdkOrderState) -> None:
        """Take in an openOrder with `whatIf`."""
        if (preview := self._open.get(order_id)) is not None:
            preview.state = state
            preview.end()

    def beware(self, order_id: int) -> None:
        """Take in an openOrder of this client: none may have the id of a question."""
        if (preview := self._open.get(order_id)) is not None:
            preview.became_order = True
            preview.end()

    def hear(self, order_id: int, error: BrokerError) -> bool:
        """Take in a code; False where no question has this id."""
        if (preview := self._open.get(order_id)) is None:
            return False
        proof = code_of(int(error.code or 0)).proof
        if proof is Proof.LIVES:
            preview.notices.append(str(error))
        elif proof is Proof.REFUSED:
            preview.refused = str(error)
            preview.end()
        else:
            preview.end(DataError(str(error)))
        return True

    def fail(self, error: Exception) -> None:
        """Fail every question under way."""
        for preview in self._open.values():
            preview.end(error)
