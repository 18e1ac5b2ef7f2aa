"""The key that a client signs with: named in the settings or at the call, its secret in a file."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

from models.clock import utcnow
from models.errors import ConfigurationError
from models.record.database import Database
from models.record.keys import all_keys
from models.settings import Settings
from models.signing import Signer, Signs, digest_of, read_secret, token_signer

#: What whoever has no key hears where one is needed.
NOT_SIGNED = "not signed, and every order has to be ([security] require is all): [security] key and key_file name one"


def signer_of(
    settings: Settings, database: Database, key: str | None = None, key_file: str | Path | None = None
) -> Signer | None:
    """Return what signs the orders of a client; None where no key is named.

    Args:
        settings: `[security] key` and `key_file` are used where none is given.
        database: knows the key's algorithm, and the name of this deployment.
        key: its id.
        key_file: the file with its secret.

    Raises:
        ConfigurationError: the key is unknown, or its file is missing or holds no such key.
    """
    key = key or settings.security.key
    path = key_file or settings.security.key_file
    if not key:
        if key_file:
            raise ConfigurationError(f"key_file {key_file} is given without the id of its key")
        return None
    if not path:
        raise ConfigurationError(f"key {key!r} needs the file with its secret: key_file, or [security] key_file")
    with database.read() as connection:
        found = next((row for row in all_keys(connection) if row["key_id"] == key), None)
    if found is None:
        raise ConfigurationError(f"there is no key {key!r} in database {database.url!r}: `corro keys add` adds it")
    deployment = settings.security.deployment or database.deployment or ""
    if found["alg"] == "token":
        return token_signer(_token_in(path, found["digest"]), deployment)
    return Signer(key, found["alg"], read_secret(path, found["alg"]), deployment)


def _token_in(path: str | Path, digest: str | None) -> str:
    """Read the file of a token.

    Raises:
        ConfigurationError: it cannot be read, or holds another one.
    """
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"key file {path}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    if digest is None or not hmac.compare_digest(digest_of(token), digest):
        raise ConfigurationError(f"key file {path}: is not the token of that key")
    return token


def wish_of(
    signer: Signs | None,
    kind: Literal["cancel", "replace"],
    content: Mapping[str, object],
    terms: Mapping[str, object] | None,
    life_s: float,
) -> dict[str, object]:
    """Return a wish as it is left on an order: signed, where there is a key.

    Args:
        signer: signs it.
        kind: of the wish.
        content: what is signed, beside its times.
        terms: of a replace that is not signed.
        life_s: seconds that the wish is good for.
    """
    if signer is None:
        return {"kind": kind} | ({} if terms is None else {"terms": terms})
    now = utcnow()
    times = {"created_at": now, "expires_at": now + timedelta(seconds=life_s)}
    return {"kind": kind, **signer.sign(kind, {**content, **times}).to_wire()}
