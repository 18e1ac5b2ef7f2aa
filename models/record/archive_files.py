"""The files of an archive: one Parquet file a table, and a manifest with counts and digests, in a folder of their own.

`order_events.parquet` has every event of a whole stretch of the chain, also of orders that stay: so the chain can be
walked over the files. The other tables have the rows of the orders that go. A folder without a manifest is incomplete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sqlalchemy import Table, select

from models.clock import utcnow
from models.crash_points import reached
from models.errors import ConfigurationError, NotFound
from models.private import private_folder
from models.record.archive_rows import ArchiveRow
from models.record.chain import digest_rows
from models.record.parquet import RowFile, digest, parts
from models.record.tables import attempts, fills, order_events, orders

if TYPE_CHECKING:
    from models.record.database import Database
    from models.record.key_rows import ChainRow
    from models.record.statements import Values

_TABLES: tuple[Table, ...] = (orders, attempts, fills)
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the files of an archive hold.

    Args:
        folder: where they are.
        written_at: when they were complete.
        counts: rows by table.
        files: SHA-256 by table.
        digest: SHA-256 of the manifest itself.
        first_id, last_id, head: of the stretch of the chain.
    """

    folder: Path
    written_at: datetime
    counts: dict[str, int]
    files: dict[str, str]
    digest: str
    first_id: int
    last_id: int
    head: str

    @classmethod
    def read(cls, folder: Path, expected: str | None) -> Manifest:
        """Read the manifest of a folder, and see that every file is as it was written.

        Raises:
            NotFound: there is no such folder, or a file is missing.
            ConfigurationError: the manifest, or a file, is not the one that was written.
        """
        try:
            text = (folder / _MANIFEST).read_bytes()
        except OSError as error:
            raise NotFound(f"the archive {folder} cannot be read: {error.strerror or error}") from None
        found = hashlib.sha256(text).hexdigest()
        if expected is not None and found != expected:
            raise ConfigurationError(f"{folder / _MANIFEST} is not the manifest that was written: SHA-256 {found}")
        told = cast("dict[str, dict[str, str | int]]", json.loads(text))
        files = {name: str(of) for name, of in told["files"].items()}
        counts = {name: int(number) for name, number in told["rows"].items()}
        chain, made = told["chain"], told["archive"]
        for name, sha in files.items():
            path = folder / f"{name}.parquet"
            if not path.is_file():
                raise NotFound(f"{path} is missing from the archive")
            if digest(path) != sha:
                raise ConfigurationError(f"{path} is not the file that was written")
        return cls(
            folder, datetime.fromisoformat(str(made["written_at"])), counts, files, found, int(chain["first_id"]),
            int(chain["last_id"]), str(chain["head"]),
        )  # fmt: skip

    @staticmethod
    def file_of(table: Table) -> str:
        """Return the name of a table's file."""
        return f"{table.name}.parquet"


def write_archive(
    database: Database,
    run: ArchiveRow,
    links: Sequence[ChainRow],
    pages: Iterable[Mapping[str, list[Values]]],
    total: int,
    tell: Callable[[str, int, int], None],
) -> Manifest:
    """Write the files of a run; whatever an earlier try has left is thrown away first.

    Raises:
        ConfigurationError: the journal does not agree with its chain: what is wrong has to be looked at before.
    """
    folder = Path(run["directory"]) / run["name"]
    unfinished = folder.with_suffix(".partial")
    for left in (folder, unfinished):
        shutil.rmtree(left, ignore_errors=True)
    private_folder(unfinished)
    counts = {order_events.name: _events(database, links, unfinished)}
    with ExitStack() as files:
        made = [RowFile(unfinished / Manifest.file_of(table), table) for table in _TABLES]
        open_ = {file.table.name: files.enter_context(file) for file in made}
        for page in pages:
            for name, rows in page.items():
                open_[name].write(rows)
            tell("written", open_[orders.name].rows, total)
    counts |= {name: file.rows for name, file in open_.items()}
    sums = {name: digest(unfinished / f"{name}.parquet") for name in counts}
    text = _manifest(run, counts, sums)
    with (unfinished / _MANIFEST).open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync(unfinished)
    reached("archive_written")
    unfinished.rename(folder)
    _sync(folder.parent)
    reached("archive_renamed")
    return Manifest.read(folder, hashlib.sha256(text).hexdigest())


def _events(database: Database, links: Sequence[ChainRow], folder: Path) -> int:
    """Write the journal link by link, each only if it is what its link has noted."""
    e = order_events.c
    with RowFile(folder / Manifest.file_of(order_events), order_events) as file:
        for link in links:
            query = select(order_events).where(e.id.between(link["first_id"], link["last_id"])).order_by(e.id)
            with database.read() as connection:
                rows = [cast("Values", dict(row)) for row in connection.execute(query).mappings()]
            _must_agree(link, rows)
            file.write(rows)
        return file.rows


def _must_agree(link: ChainRow, rows: Sequence[Values]) -> None:
    if digest_rows(order_events, rows) != (link["count"], link["digest"]):
        stretch = f"{link['first_id']} to {link['last_id']}"
        raise ConfigurationError(
            f"events {stretch} are not what the chain has noted: run `corro db verify`; nothing was archived"
        )


def _manifest(run: ArchiveRow, counts: Mapping[str, int], sums: Mapping[str, str]) -> bytes:
    told = {
        "archive": {
            "id": run["id"], "name": run["name"], "before": run["before"].isoformat(),
            "written_at": utcnow().isoformat(),
        },
        "rows": dict(counts), "files": dict(sums),
        "chain": {
            "journal": order_events.name, "first_id": run["first_id"], "last_id": run["last_id"], "head": run["head"],
        },
    }  # fmt: skip
    return json.dumps(told, indent=1).encode()


def _sync(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_of(run: ArchiveRow, link: ChainRow) -> bool:
    """Tell whether a link of the chain is in the files of a run."""
    return run["first_id"] <= link["first_id"] <= run["last_id"]


def objections_of(run: ArchiveRow, directory: Path, links: Sequence[ChainRow]) -> list[str]:
    """Return what is wrong with the files of a run; the chain is walked over the events in them."""
    try:
        manifest = Manifest.read(directory / run["name"], run["digest"])
    except (NotFound, ConfigurationError) as error:
        return [str(error)]
    found = [
        f"{manifest.folder}: {name} has {count} rows, {run_count} were noted"
        for name, count in manifest.counts.items()
        if (run_count := (run["counts"] or {}).get(name)) != count
    ]
    mine = [link for link in links if is_of(run, link)]
    events = parts(manifest.folder / Manifest.file_of(order_events))
    for link, rows in zip(mine, events, strict=False):
        if digest_rows(order_events, rows) != (link["count"], link["digest"]):
            found.append(f"{manifest.folder}: events {link['first_id']} to {link['last_id']} are not what was noted")
    return found
