"""How the command line speaks: tables and colours for people, plain tab-separated text when piped, JSON when asked.

Every command prints through here, and nothing here is markup: what producers, brokers and operators have written is
cleaned (`models.outward`) and shown as it is. Printing never undoes what a command has done: a character that the
terminal has no sign for is written out, and a reader that has gone away is nobody's fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from models.encoding import to_json
from models.errors import OutputLost
from models.outward import outward, untold
from producers.cli.layout import Layout, cell, layout, with_account

out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

_COLOURS = {
    "filled": "green", "accepted": "cyan", "partially_filled": "cyan", "queued": "white", "submitted": "yellow",
    "pending_cancel": "yellow", "canceled": "white", "rejected": "red", "denied": "red", "expired": "magenta",
    "unknown": "bold red", "refused": "red", "not_sent": "magenta", "absent": "magenta", "sending": "yellow",
    "held": "white",
    "ready": "green", "disconnected": "red", "starting": "yellow", "stopped": "white", "silent": "bold red",
    "no worker": "bold red", "unread": "bold red", "ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim",
}  # fmt: skip
#: Words that have to be seen, wherever they stand.
_LOUD = ("REAL MONEY",)
#: Narrower than this no table can be read; a terminal that says so has no size.
_LEAST_WIDTH = 40

#: Standard output, once it could not be written any more.
_gone: list[IO[str]] = []

#: A piece of a line: a text, or a text and its style.
Part = str | tuple[str, str]


def prepare() -> None:
    """Let no character that the terminal's encoding lacks end a command, and no stream that its caller has closed.

    A closed standard descriptor would be taken by the next file or socket, and get what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(os.devnull)  # noqa: SIM115  # not to be written: what a command has to tell is lost, and it says so
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a test's stream has no encoding
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(*parts: Part) -> None:
    """Print a line on stdout: a command's answer, for a person."""
    _line(out, sys.stdout, parts)


def note(*parts: Part, keep: str = "") -> None:
    """Print a line on stderr: what is not part of the answer."""
    with contextlib.suppress(OutputLost):  # there is nowhere left to say so
        _line(err, sys.stderr, parts, keep)


def document(value: object, *, secret: bool = False) -> None:
    """Print one JSON document on stdout; what is no ASCII stands in it as an escape.

    Args:
        value: the document.
        secret: it holds a secret that its reader has just asked for, and nobody can show again.
    """
    text = json.dumps(
        to_json(value) if secret else untold(to_json(value)), indent=2 if out.is_terminal else None, default=str
    )
    _put(sys.stdout, text + "\n")


def secret(text: str) -> None:
    """Print a secret that its reader has just asked for, alone on its line of stdout."""
    _put(sys.stdout, text + "\n")


def line(value: object) -> None:
    """Print one JSON document on one line: of many that follow each other."""
    _put(sys.stdout, json.dumps(untold(to_json(value)), default=str) + "\n")


def is_read() -> bool:
    """Tell whether somebody still takes what is printed."""
    return not _gone


def rows(
    found: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    title: str = "",
    wide: bool = False,
    below: bool = True,
    keys: Collection[str] = (),
) -> None:
    """Print rows: a table that fits on a terminal, tab-separated with a header line when piped.

    Args:
        found: the rows.
        columns: which of their values, in order.
        title: above the table, and in the place of an empty one.
        wide: as wide as it takes, nothing shortened and nothing left out.
        below: long texts have lines of their own below their row; without, they are left out: one row, one line.
        keys: columns that say which row is which, and so stay.
    """
    columns = with_account(found, columns)
    if not out.is_terminal:
        _put(sys.stdout, "\t".join(columns) + "\n")
        plain(found, columns)
        return
    if not found:
        say((f"{title or 'rows'}: none", "dim"))
        return
    if title:
        say((title, "italic"))
    width = None if wide else max(out.width, _LEAST_WIDTH)
    fitted = layout(found, columns, width, keys)
    for line in _lines(fitted if below else replace(fitted, under=[]), len(found), width):
        _rendered(out, sys.stdout, line)
    if fitted.hidden and below:
        count = len(fitted.hidden)
        say((f"no room for {count} column{'s' if count > 1 else ''}: --wide shows all", "dim"))


def plain(found: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print rows tab-separated, without a header."""
    lines = ["\t".join(cell(row.get(name), name) for name in columns) for row in found]
    _put(sys.stdout, "".join(f"{line}\n" for line in lines))


def coloured(word: str) -> Part:
    """Return a status, a state or an outcome in its colour."""
    return (word, _style(word))


def record(row: Mapping[str, object], *, title: str = "") -> None:
    """Print one row upright, each value beside its name: nothing is left out, however narrow the terminal is."""
    told = [(name, text) for name, value in row.items() if (text := cell(value, name))]
    if not out.is_terminal:
        rows([{"field": name, "value": text} for name, text in told], ("field", "value"))
        return
    if title:
        say((title, "italic"))
    longest = max((len(name) for name, _ in told), default=0)
    for name, text in told:
        for line in _beside(f"  {name:<{longest}}  ", text, _style(text), max(out.width, _LEAST_WIDTH)):
            _rendered(out, sys.stdout, line)


def _beside(start: str, text: str, style: str, width: int | None) -> Iterator[Text]:
    """Break a text between words into lines, the first behind `start`, the others as far to the right."""
    if not text:
        return
    room = max((width or len(text) + len(start)) - len(start), 1)
    for line in Text(text, style).wrap(out, room):
        line.rstrip()
        yield Text(start).append_text(line)
        start = " " * len(start)


def _lines(fitted: Layout, count: int, width: int | None) -> Iterator[Text]:
    """Yield the lines of a table, with what has no room beside its row under it."""
    yield _joined([(_sized(c.header, c.width, c.right), "bold") for c in fitted.columns])
    for place in range(count):
        yield _joined([(_sized(c.texts[place], c.width, c.right), _style(c.texts[place])) for c in fitted.columns])
        for name, texts in fitted.under:
            style = "cyan" if name == "advice" else _style(texts[place]) or "dim"
            yield from _beside("  ", texts[place], style, width)


def _joined(parts: Sequence[tuple[str, str]]) -> Text:
    joined = Text("  ").join(Text(text, style) for text, style in parts)
    joined.rstrip()
    return joined


def _sized(text: str, width: int, right: bool) -> str:
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def _style(text: str) -> str:
    return "bold red" if any(loud in text for loud in _LOUD) else _COLOURS.get(text, "")


# -- WRITING ---
def _line(console: Console, stream: IO[str], parts: Sequence[Part], keep: str = "") -> None:
    """Write a sentence: on a terminal it is broken between words, elsewhere it stays one line for grep."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    line = Text.assemble(*((outward(text, keep), style) for text, style in pairs))
    _rendered(console, stream, line, by_words=console.is_terminal)


def _rendered(console: Console, stream: IO[str], line: Text, *, by_words: bool = False) -> None:
    with _leaving(stream), console.capture() as caught:  # rich writes what a failed write has left behind
        console.print(line, soft_wrap=not by_words)
    _put(stream, caught.get())


def _put(stream: IO[str], text: str) -> None:
    """Write, and see that it has left; raises OutputLost."""
    with _leaving(stream):
        stream.write(text)
        stream.flush()


@contextlib.contextmanager
def _leaving(stream: IO[str]) -> Iterator[None]:
    """Give up a stream that cannot be written, or the end of Python fails at it again.

    Raises:
        OutputLost: it cannot be written. A reader that went away (`| head`) is no error: nobody wants the rest.
    """
    try:
        yield
    except BrokenPipeError:
        _give_up(stream)
    except (OSError, ValueError) as error:  # the disk is full, or the stream is closed
        _give_up(stream)
        raise OutputLost(f"the answer could not be written: {error}") from None


def _give_up(stream: IO[str]) -> None:
    if stream is sys.stdout:
        _gone.append(stream)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
