r"""Signed orders, cancels and replaces: which bytes are signed, how, and how a signature is checked.

The order is signed, not the message: an envelope `{"signed": text, "key": key_id, "sig": base64url}` goes through any
queue, table and worker unchanged. The bytes are `"corro/1 <kind>\n" + deployment + "\n" + text`: a signature is good
for one kind of wish at one deployment, and JSON needs no canonical form.

| algorithm   | who holds what                          | needs               |
|-------------|-----------------------------------------|---------------------|
| ed25519     | workers hold the public key only        | cryptography        |
| hmac-sha256 | producer and workers share one secret   | standard library    |
| token       | its holder all, workers a public key    | cryptography        |

A token is shown at a door. Whoever holds it, and the door while it is shown, can derive from it a private key of
Ed25519, whose public half is kept beside its digest: so what is asked by a token is signed by it, and neither the
database nor a worker could have made the signature.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from models import encoding
from models.errors import ConfigurationError, InvalidOrder
from models.extras import install

#: What is signed.
Kind = Literal["order", "cancel", "replace", "approve", "deny"]
#: Bytes of a signature, and of a shared secret at least.
_SIGNATURE, LEAST_SECRET = {"ed25519": 64, "hmac-sha256": 32}, 16
#: Bytes of an Ed25519 key.
_ED25519 = 32
#: Characters of a signed text: an order object takes less than a thousand.
MOST_TEXT = 8_192
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TOKEN = re.compile(r"corro_([A-Za-z0-9][A-Za-z0-9._-]{0,62})_[0-9a-f]{64}")
#: Names of an envelope; `deployment` is signed with the text, and named beside it only to tell two faults apart.
_ENVELOPE = ("signed", "key", "sig")
_ALSO = ("deployment",)


def is_key_id(text: str) -> bool:
    """Tell whether a text may name a key: letters, digits, `._-`, at most 63."""
    return _KEY_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A text, whose key is said to have signed it, and the signature."""

    text: str
    key_id: str
    sig: str
    #: Which deployment it says that it was signed for; nothing rests on it.
    deployment: str | None = None

    @classmethod
    def of(cls, body: object) -> Envelope | None:
        """Read an envelope; None where the body is no such thing.

        Raises:
            InvalidOrder: it has a signed text, and is no envelope.
        """
        if not isinstance(body, Mapping) or "signed" not in body:
            return None
        if set(body) - {*_ENVELOPE, *_ALSO} or set(_ENVELOPE) - set(body):
            raise InvalidOrder(
                f"a signed text comes with exactly {', '.join(_ENVELOPE)}, had {', '.join(sorted(map(str, body)))}"
            )
        for name, most in zip((*_ENVELOPE, *_ALSO), (MOST_TEXT, 63, 128, 128), strict=True):
            value = body.get(name, "")
            if not isinstance(value, str) or len(value) > most or not (value.isascii() or name == "signed"):
                raise InvalidOrder(f"{name}: must be a text of at most {most} characters, was {value!r:.100}")
        return cls(body["signed"], body["key"], body["sig"], body.get("deployment"))

    def content(self) -> dict[str, object]:
        """Read what was signed.

        Raises:
            InvalidOrder: it is no JSON object.
        """
        try:
            found = encoding.exactly(self.text)
        except (ValueError, RecursionError) as error:
            raise InvalidOrder(f"signed: must be JSON text: {error}") from None
        if not isinstance(found, dict):
            raise InvalidOrder(f"signed: must be a JSON object, was {self.text!r:.100}")
        return found

    def to_wire(self) -> dict[str, str]:
        """Return the envelope as it travels."""
        hint: dict[str, str] = {} if self.deployment is None else {"deployment": self.deployment}
        return {"signed": self.text, "key": self.key_id, "sig": self.sig, **hint}


def signed_bytes(kind: Kind, deployment: str, text: str) -> bytes:
    """Return the bytes that a signature covers."""
    return f"corro/1 {kind}\n{deployment}\n{text}".encode("utf-8", "surrogatepass")


def verifies(alg: str, key: bytes, data: bytes, sig: str) -> bool:
    """Tell whether a signature fits.

    Args:
        alg: ed25519 or hmac-sha256; nothing else has signatures.
        key: the public key, or the shared secret.
        data: see `signed_bytes`.
        sig: base64url, with or without padding.
    """
    try:
        given = from_base64(sig)
    except ValueError:
        return False
    if len(given) != _SIGNATURE.get(alg):
        return False
    if alg == "hmac-sha256":
        return hmac.compare_digest(given, hmac.digest(key, data, "sha256"))
    from cryptography.exceptions import InvalidSignature

    try:
        _public(key).verify(given, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class PublicHalf(Protocol):
    """A public key."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise where the signature does not fit."""


class PrivateHalf(Protocol):
    """A private key."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the signature."""


class Signs(Protocol):
    """What stands behind the orders of a client: a key."""

    @property
    def key_id(self) -> str:
        """Its id."""

    def sign(self, kind: Kind, content: Mapping[str, object]) -> Envelope:
        """Return the order object, or the wish, in an envelope."""


@dataclass(frozen=True, slots=True)
class Presigned:
    """Somebody else's signature of one order, which came with it."""

    key_id: str
    envelope: Envelope

    def sign(self, kind: Kind, content: Mapping[str, object]) -> Envelope:
        """Return what was signed."""
        return self.envelope


class Signer:
    """Signs with one key for one deployment.

    Args:
        key_id: under which the workers know it.
        alg: ed25519 or hmac-sha256.
        secret: the private key's 32 bytes, or the shared secret.
        deployment: what it signs for.

    Raises:
        ConfigurationError: such a key signs nothing, or cryptography is not installed.
    """

    def __init__(self, key_id: str, alg: str, secret: bytes, deployment: str) -> None:
        self.key_id, self.alg, self.deployment = key_id, alg, deployment
        if alg not in _SIGNATURE:
            raise ConfigurationError(f"key {key_id!r} is a {alg}: it signs nothing; there are {', '.join(_SIGNATURE)}")
        self._secret = secret
        self._private = _private(secret) if alg == "ed25519" else None

    def sign(self, kind: Kind, content: Mapping[str, object]) -> Envelope:
        """Sign an order object, or the wish to cancel or replace one."""
        text = encoding.text(content)
        data = signed_bytes(kind, self.deployment, text)
        raw = hmac.digest(self._secret, data, "sha256") if self._private is None else self._private.sign(data)
        return Envelope(text, self.key_id, to_base64(raw), self.deployment)


# -- KEYS AS TEXT AND IN FILES ---
def to_base64(raw: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    """Read base64url, or base64, with or without padding.

    Raises:
        ValueError: it is neither.
    """
    plain = text.strip().rstrip("=").translate(str.maketrans("-_", "+/"))
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def public_key(text: str) -> bytes:
    """Read an Ed25519 public key: its 32 bytes in base64url.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        raw = from_base64(text)
    except ValueError:
        raw = b""
    if len(raw) != _ED25519:
        raise ConfigurationError(f"public: must be the {_ED25519} bytes of an Ed25519 key in base64url, was {text!r}")
    return raw


def read_secret(path: str | Path, alg: str) -> bytes:
    """Read the file of a key.

    Args:
        path: for hmac-sha256 the secret itself, without the line's end; for ed25519 a private key: PEM, or its 32 bytes
            raw, as hex or as base64url.
        alg: ed25519 or hmac-sha256.

    Raises:
        ConfigurationError: it cannot be read, or holds no such key; never shows what it holds.
    """
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"key file {path}: {error.strerror}") from None
    if alg == "hmac-sha256":
        secret = found.rstrip(b"\r\n")
        if len(secret) < LEAST_SECRET:
            raise ConfigurationError(f"key file {path}: a secret has at least {LEAST_SECRET} bytes, had {len(secret)}")
        return secret
    raw = _seed(found)
    if raw is None:
        raise ConfigurationError(f"key file {path}: holds no Ed25519 private key (PEM, or 32 bytes as base64url)")
    return raw


def _seed(found: bytes) -> bytes | None:
    if len(found) == _ED25519:
        return found
    if found.lstrip().startswith(b"-----BEGIN"):
        return _from_pem(found)
    text = found.decode("ascii", "replace").strip()
    for read in (bytes.fromhex, from_base64):
        try:
            raw = read(text)
        except ValueError:
            continue
        if len(raw) in (_ED25519, 2 * _ED25519):  # some write the public key behind it
            return raw[:_ED25519]
    return None


def _from_pem(found: bytes) -> bytes | None:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(found, password=None)
    except (ValueError, TypeError):
        return None
    raw: bytes | None = key.private_bytes_raw() if isinstance(key, Ed25519PrivateKey) else None
    return raw


def new_private_key() -> tuple[bytes, str]:
    """Make an Ed25519 key: its private half, as PEM, and its public one, in base64url."""
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, to_base64(key.public_key().public_bytes_raw())


@lru_cache(maxsize=256)
def _public(raw: bytes) -> PublicHalf:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    half: PublicHalf = Ed25519PublicKey.from_public_bytes(raw)
    return half


def _private(raw: bytes) -> PrivateHalf:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    half: PrivateHalf = Ed25519PrivateKey.from_private_bytes(raw)
    return half


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigurationError(f"Ed25519 needs the package cryptography: {install('sign')}") from None


# -- TOKENS ---
def new_token(key_id: str) -> str:
    """Make a token: it is shown once, and kept as its digest."""
    return f"corro_{key_id}_{secrets.token_hex(32)}"


def digest_of(token: str) -> str:
    """Return what is kept of a token: it is random enough that its digest needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def public_half(token: str) -> str:
    """Return the public key, in base64url, of what a token signs with.

    Raises:
        ConfigurationError: cryptography is not installed.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return to_base64(Ed25519PrivateKey.from_private_bytes(_seed_of(token)).public_key().public_bytes_raw())


def token_signer(token: str, deployment: str) -> Signer:
    """Return what signs for whoever has shown a token.

    Raises:
        ConfigurationError: cryptography is not installed.
    """
    return Signer(key_of(token) or "", "ed25519", _seed_of(token), deployment)


def _seed_of(token: str) -> bytes:
    return hmac.digest(token.encode(), b"corro/1 token", "sha256")


def key_of(token: str) -> str | None:
    """Return the key_id in a token, or None where the text is none."""
    found = _TOKEN.fullmatch(token)
    return found and found[1]
