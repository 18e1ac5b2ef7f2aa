"""Adding and revoking keys: each act with its name in the journal, for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from sqlalchemy import Connection

from models.errors import InvalidRequest, NotFound
from models.private import new_private_file
from models.record import keys
from models.record.database import Database
from models.record.key_rows import KeyRow
from models.record.rows import by_name
from models.signing import (
    digest_of,
    is_key_id,
    new_private_key,
    new_token,
    public_half,
    public_key,
    read_secret,
    to_base64,
)
from worker.control.controls import journal, must_say_who
from worker.runtime.clock import utcnow

#: What kinds of keys there are, and what each comes with.
ALGORITHMS = {"ed25519": "public", "hmac-sha256": "secret_file", "token": None}
#: Whose orders a key may cancel and replace.
MAY_CANCEL = ("own", "strategy", "all")
_LONGEST_NAME = 128


def add(
    database: Database, key_id: str, alg: str, *, by: str, reason: str | None = None, public: str | None = None,
    secret_file: str | None = None, make_file: str | None = None, **bounds: object,
) -> tuple[KeyRow, str | None]:  # fmt: skip
    """Add a key.

    Args:
        database: the record.
        key_id: its name.
        alg: ed25519, hmac-sha256 or token.
        by: who adds it.
        reason: why, for the record.
        public: of ed25519, its public key.
        secret_file: of hmac-sha256, where workers find the secret.
        make_file: of ed25519, a file that does not exist: a new private key is written there.
        bounds: columns of `keys`: owner, strategies, symbols, brokers, may_cancel, operator ...

    Returns:
        The key, and of a token the token: nobody can show it again.

    Raises:
        InvalidRequest: something does not fit, or the id is taken.
        ConfigurationError: the public key, or the file, is none.
    """
    must_say_who(by, reason)
    token = new_token(key_id) if alg == "token" else None
    row = _row(key_id, alg, {"public": public, "secret_file": secret_file, "make_file": make_file}, token, bounds)

    def work(connection: Connection) -> None:
        if any(known["key_id"] == key_id for known in keys.all_keys(connection)):
            raise InvalidRequest(f"there is a key {key_id!r} already; an id is never another key's, revoked or not")
        keys.add(connection, row)
        journal(connection, "key_add", "key", key_id, by=by, reason=reason, detail=words(row))

    database.transact(work)
    return row, token


def revoke(database: Database, key_id: str, *, by: str, reason: str | None) -> None:
    """Revoke a key: what is queued under it is denied at its claim; `corro kill --key` cancels what is live.

    Raises:
        NotFound: there is none.
        InvalidRequest: it has been revoked, or the name or the reason is blank.
    """
    must_say_who(by, reason)

    def work(connection: Connection) -> None:
        row = next((known for known in keys.all_keys(connection) if known["key_id"] == key_id), None)
        if row is None:
            raise NotFound(f"there is no key {key_id!r}")
        if row["revoked_at"] is not None:
            raise InvalidRequest(f"key {key_id!r} was revoked at {row['revoked_at']:%Y-%m-%d %H:%M:%S} UTC")
        keys.revoke(connection, key_id, utcnow())
        journal(connection, "key_revoke", "key", key_id, by=by, reason=reason, detail=words(row))

    database.transact(work)


def words(row: KeyRow) -> str:
    """Say what a key is and may do, without its secret."""
    told = [row["alg"], f"owner {row['owner']}"]
    lists = {"strategies": row["strategies"], "symbols": row["symbols"], "brokers": row["brokers"]}
    told += [f"{name} {', '.join(given)}" for name, given in lists.items() if given is not None]
    told += [f"may cancel {row['may_cancel']}"]
    told += [name.replace("_", " ") for name in ("operator", "needs_approval", "may_approve") if by_name(row)[name]]
    told += [f"{name} {by_name(row)[name]}" for name in ("not_before", "not_after") if by_name(row)[name]]
    return "; ".join(told)


def _row(
    key_id: str, alg: str, given: Mapping[str, str | None], token: str | None, bounds: Mapping[str, object]
) -> KeyRow:
    if not is_key_id(key_id):
        raise InvalidRequest(f"key_id: must be 1 to 63 letters, digits and . _ -, was {key_id!r}")
    if alg not in ALGORITHMS:
        raise InvalidRequest(f"alg: must be one of {', '.join(ALGORITHMS)}, was {alg!r}")
    allowed = {"ed25519": {"public", "make_file"}, "hmac-sha256": {"secret_file"}, "token": set[str]()}[alg]
    named = {name for name, value in given.items() if value is not None}
    if named - allowed or (allowed and len(named) != 1):
        needs = " or ".join(f"--{name.replace('_', '-')}" for name in sorted(allowed)) or "nothing: it is made here"
        raise InvalidRequest(f"a key of {alg} takes {needs}")
    row = cast("KeyRow", {**_NOTHING, **_bounds(bounds), "key_id": key_id, "alg": alg, "added_at": utcnow()})
    if given["make_file"] is not None:
        row["public_key"] = _made(Path(given["make_file"]))
    elif given["public"] is not None:
        row["public_key"] = to_base64(public_key(given["public"]))
    elif given["secret_file"] is not None:
        path = Path(given["secret_file"]).absolute()
        read_secret(path, alg)
        row["secret_ref"] = str(path)
    elif token is not None:
        row["digest"], row["public_key"] = digest_of(token), public_half(token)
    return row


_NOTHING: dict[str, object] = {
    "public_key": None, "secret_ref": None, "digest": None, "operator": False, "strategies": None, "symbols": None,
    "brokers": None, "may_cancel": "own", "needs_approval": False, "may_approve": False, "not_before": None,
    "not_after": None, "revoked_at": None,
}  # fmt: skip


def _bounds(given: Mapping[str, object]) -> dict[str, object]:
    owner = given.get("owner")
    if not isinstance(owner, str) or not owner.strip() or not owner.isprintable() or len(owner) > _LONGEST_NAME:
        raise InvalidRequest(f"owner: must be a name of 1 to {_LONGEST_NAME} printable characters, was {owner!r:.200}")
    for kind in ("strategies", "symbols", "brokers"):
        for name in cast("Sequence[str] | None", given.get(kind)) or ():
            if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
                raise InvalidRequest(
                    f"{kind}: each must be a name of 1 to {_LONGEST_NAME} printable characters, was {name!r:.200}"
                )
    if given.get("may_cancel", "own") not in MAY_CANCEL:
        raise InvalidRequest(f"may_cancel: must be one of {', '.join(MAY_CANCEL)}, was {given['may_cancel']!r}")
    first, last = given.get("not_before"), given.get("not_after")
    if isinstance(first, datetime) and isinstance(last, datetime) and last <= first:
        raise InvalidRequest(f"not_after: must be after not_before, was {last.isoformat()}")
    return dict(given)


def _made(path: Path) -> str:
    """Write a new private key to a file that is not there yet; returns the public key."""
    pem, public = new_private_key()
    try:
        new_private_file(path).write_bytes(pem)
    except FileExistsError:
        raise InvalidRequest(f"{path} is there already: a key that somebody uses is not written over") from None
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from None
    return public
