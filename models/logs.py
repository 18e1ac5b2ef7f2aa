"""Logs: one line per event, event name and key=value, on stderr. JSON when nobody is watching a terminal.

Everything that this process says on stderr comes through here: Celery's and the SDKs' own lines, Python's warnings and
what a thread dies of, so that every line can be read by a program and has neither secrets nor control characters.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from types import TracebackType

import structlog

from models.outward import outward

#: Loggers that tell the same at INFO as we do, or too much of it.
_QUIET = ("ib_insync", "ib_async", "kombu", "celery", "amqp", "urllib3", "websockets", "asyncio", "alembic")
#: In Celery's words the broker is Redis; here a broker is a trading broker, and Redis is the queue.
_CELERY = ("celery", "kombu", "amqp")
_BROKER = re.compile(r"\bbroker(?=s?\b)", re.IGNORECASE)


def configure(level: str = "INFO", *, json_lines: bool | None = None) -> None:
    """Set up structlog, and the standard library's loggers through it.

    Args:
        level: DEBUG, INFO, WARNING, ERROR or CRITICAL.
        json_lines: True for JSON, False for text; None decides by whether stderr is a terminal.
    """
    as_json = not sys.stderr.isatty() if json_lines is None else json_lines
    least = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _clean, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, least))
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = lambda told: _died(told.exc_type, told.exc_value, told.exc_traceback)


def _died(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log what nobody has caught; Ctrl-C is no fault."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        thread = threading.current_thread().name
        logging.getLogger("corro").critical("uncaught in %s: %s", thread, error, exc_info=(kind, error, trace))


def _clean(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Let no event steer a terminal or tell a secret; tracebacks keep their lines."""
    if str(event.get("logger", "")).split(".")[0] in _CELERY:
        event["event"] = _BROKER.sub("queue", str(event["event"]))
    return {key: _cleaned(value, "\n" if key in ("exception", "stack") else "") for key, value in event.items()}


def _cleaned(value: object, keep: str = "") -> object:
    """Return a value without secrets and without what would forge or turn a line, however deep it stands."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {outward(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return outward(value if isinstance(value, str) else str(value), keep)
