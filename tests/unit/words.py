"""Names that many unit tests use: the moment at which their orders stand, and the types of their fixtures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
#: The fixture `put`: puts an order into the database.
Put = Callable[..., None]
#: The fixture `corro`: runs a command; exit status, stdout, stderr.
Run = Callable[..., "tuple[int, str, str]"]
