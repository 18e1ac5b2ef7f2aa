"""What columns are made of: exact money, aware times, other people's words; on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, MetaData, Numeric, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from models.encoding import fitted


class Money(TypeDecorator[Decimal]):
    """NUMERIC that stays exact on SQLite too.

    SQLite keeps a NUMERIC of up to 15 significant digits without loss (and messages carry no more), but the driver
    hands it over as a float. Rounded to those digits it is the number that was stored; its shortest text need not be,
    since SQLite does not always read a text into the nearest float.
    """

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Bypass SQLAlchemy's float conversion on SQLite."""
        return dialect.type_descriptor(_SqliteNumeric() if dialect.name == "sqlite" else Numeric(asdecimal=True))

    def bind_processor(self, dialect: Dialect) -> Callable[[object], str | None] | None:
        """Bind as text on SQLite: the column's affinity turns it into a number."""
        return _number_text if dialect.name == "sqlite" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[object], Decimal | None] | None:
        """Return a Decimal whatever the driver gave."""
        return _decimal if dialect.name == "sqlite" else None


def _number_text(value: object) -> str | None:
    return None if value is None else str(value)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, float):
        return Decimal(format(value, ".15g"))
    return None if value is None else Decimal(str(value))


class _SqliteNumeric(Numeric[Any]):
    """NUMERIC in the DDL, no conversion in Python."""

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC in Python; timestamptz on PostgreSQL, UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], datetime | str | None]:
        """Refuse naive times; on SQLite write what its own DateTime writes."""
        return _utc_text if dialect.name == "sqlite" else _utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        """Return an aware time."""
        return _from_utc_text if dialect.name == "sqlite" else _utc


def _utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError(f"a time needs a zone, was {value!r}")
    return value.astimezone(UTC)


#: A time's text without +00:00 at its end.
_NO_OFFSET = -6


@lru_cache(maxsize=16)  # one transaction writes its own time again and again
def _utc_text(value: datetime | None) -> str | None:
    utc = _utc(value)
    return None if utc is None else utc.isoformat(" ", "microseconds")[:_NO_OFFSET]


def _from_utc_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + "+00:00")


class Words(TypeDecorator[str]):
    """Text in somebody else's words: what a broker says must never keep us from recording that it said it.

    No database takes a lone surrogate, PostgreSQL takes no NUL and nothing longer than the column.
    """

    impl = Text
    cache_ok = True

    def __init__(self, longest: int | None = None) -> None:
        super().__init__()
        self.longest = longest

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Be VARCHAR where there is a longest."""
        return dialect.type_descriptor(String(self.longest) if self.longest else Text())

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        """Leave out what the database would refuse."""
        return self._taken

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Hand over what is there."""
        return

    def _taken(self, value: str | None) -> str | None:
        if value is None:
            return None
        if "\0" in value or not value.isascii():
            value = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        return value[: self.longest]


class Name(TypeDecorator[str]):
    """An id or a name that somebody else gave: whatever it is, it can be recorded, and is found again by the same text.

    Who compares in Python compares with what is stored (`models.encoding.fitted`): reports have their ids so.
    """

    impl = Text
    cache_ok = True

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Be VARCHAR."""
        return dialect.type_descriptor(String(self.longest))

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        """Write what the database takes."""
        return self._fitted

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Hand over what is there."""
        return

    def _fitted(self, value: str | None) -> str | None:
        return None if value is None else fitted(value, self.longest)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
