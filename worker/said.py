"""Saying a thing once, however often it is met."""

from __future__ import annotations

from collections import OrderedDict

import structlog

log = structlog.get_logger(__name__)


class Said:
    """Logs a finding once: a listing that shows it is read again every few seconds.

    Args:
        broker: name from the settings.
        most: things remembered.
    """

    def __init__(self, broker: str, most: int = 1000) -> None:
        self._broker, self._most = broker, most
        self._said: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def once(self, event: str, **facts: object) -> None:
        """Log an error, unless the same was logged before."""
        key = (event, *facts.values())
        if key not in self._said:
            log.error(event, broker=self._broker, **facts)
        self._said[key] = None
        self._said.move_to_end(key)
        if len(self._said) > self._most:
            self._said.popitem(last=False)
