"""Saying a thing once, however often it is met."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

import structlog

log = structlog.get_logger(__name__)


class Said:
    """Logs a finding once: a listing that shows it is read again every few seconds.

    Args:
        broker: name from the settings.
        level: how loud.
        most: things remembered.
    """

    def __init__(self, broker: str, level: int = logging.ERROR, most: int = 1000) -> None:
        self._broker, self._level, self._most = broker, level, most
        self._said: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, event: str, about: object = None, /, **facts: object) -> None:
        """Log a finding, unless the same was logged before.

        Args:
            event: its kind.
            about: tells two findings of a kind apart; None compares all facts.
            facts: are logged.
        """
        key = (event, *facts.values()) if about is None else (event, about)
        with self._lock:
            is_new = key not in self._said
            self._said[key] = None
            self._said.move_to_end(key)
            if len(self._said) > self._most:
                self._said.popitem(last=False)
        if is_new:
            log.log(self._level, event, broker=self._broker, **facts)


class LastingTrouble:
    """What lasts, and is met again at every look: logged when it begins and when its words change, until it is over."""

    def __init__(self, **facts: object) -> None:
        self._facts, self._words = facts, ""

    def lasts(self, event: str, words: str, **facts: object) -> None:
        """Say of a trouble that it goes on."""
        if words != self._words:
            log.warning(event, error=words, **self._facts, **facts)
        self._words = words

    def is_over(self) -> None:
        """The next one is told, whatever its words."""
        self._words = ""
