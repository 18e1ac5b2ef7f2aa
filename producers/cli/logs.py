"""`corro logs ID`: what the log files of this machine say of one order, over all processes, in the order of time."""

import json as encoded
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import CorroError, InvalidRequest
from producers.cli import show
from producers.cli.app import Form, Json, Limit, Out, Wide, history, tell, whole_id

_COLUMNS = ("timestamp", "log", "level", "event", "said")
#: What every line has; the rest is what it says.
_USUAL = ("timestamp", "log", "level", "event", "client_order_id")
#: Files that hold lines of JSON, or of text.
_NAMES = ("*.log", "*.log.*", "*.json", "*.jsonl")


def logs(
    client_order_id: str,
    folder: Annotated[
        list[Path] | None, typer.Option("--in", metavar="PATH", help="a log file or a folder; default: CORRO_HOME/logs")
    ] = None,
    limit: Limit = None,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Show every line about one order in all log files of this machine, oldest first. The start of its id is enough."""
    form = Form(json, out, wide)
    if not client_order_id.strip():
        raise InvalidRequest("an order's id is needed: a blank stands in every line")
    id_ = _meant(client_order_id)
    files = list(_files(folder or [_usual()]))
    found = sorted((line for path in files for line in _lines(path, id_)), key=_when)
    shown = found[-limit:] if limit else found
    tell(shown, _COLUMNS, form, title="" if shown else f"lines about {id_} in {len(files)} files", document=shown)


def _usual() -> Path:
    from models.settings import load_settings

    return load_settings().home / "logs"


def _meant(given: str) -> str:
    """Return the whole id; the logs may know of an order that the database does not, or cannot be asked for."""
    try:
        with history() as h:
            return whole_id(given, h.ids, changes=False)
    except CorroError as error:
        show.note((f"{error}; looked for as it is", "yellow"))
        return given


def _files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted({path for name in _NAMES for path in place.glob(name) if path.is_file()})
        elif place.is_file():
            yield place
        else:
            raise InvalidRequest(f"--in: there is no file or folder {place}")


def _lines(path: Path, id_: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file in which an id stands whole, not as a part of a longer one."""
    whole = re.compile(rf"(?<![\w.-]){re.escape(id_)}(?![\w-]|\.\w)")
    with path.open(errors="replace") as lines:
        for line in lines:
            if id_ in line and whole.search(line):
                yield _read(line.rstrip("\n"), path.name)


def _read(line: str, name: str) -> dict[str, Any]:
    try:
        told = encoded.loads(line)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        at = re.match(r"\S+ ?\S*\d\d:\d\d:\d\d\S*", line)
        told = {"timestamp": at[0] if at else "", "event": line}
    said = " ".join(f"{key}={value}" for key, value in told.items() if key not in _USUAL)
    return {"timestamp": None, "log": name, "level": None, "event": None, **told, "said": said or None}


def _when(line: dict[str, Any]) -> str:
    return str(line["timestamp"]).replace("T", " ")
