"""OAuth access tokens for TDA and Schwab: refreshed ahead of time, once for all workers, and kept in a private file.

The file is written before a new token is used, because a broker that rotates refresh tokens forgets the old one at
once. A lock file lets one worker refresh while the others wait and then read what it stored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from glob import escape
from math import isfinite
from pathlib import Path
from typing import TypeGuard

import structlog

from models.errors import ConfigurationError, NotConnected
from models.troubles import trouble
from worker.brokers.values import Raw

_log = structlog.get_logger(__name__)

#: An access token is renewed this long before it ends, or in the last fifth of a short life.
AHEAD_S = 60.0
#: The refresh token's end is announced this long before.
WARN_S = 86_400.0
_LOCK_WAIT_S = 15.0
#: A refused refresh token is not offered again for this long: every order would ask.
_REFUSED_S = 10.0
#: Lives of access and refresh tokens are believed up to a day and a year; without a usable word an access token has
#: the half hour that both brokers document.
_LONGEST_S, _LONGEST_REFRESH_S, _USUAL_S = 86_400.0, 365 * 86_400.0, 1800.0


class GrantRefused(Exception):
    """The broker does not accept this refresh token, nor will it later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTokens:
    """What the file holds; times are epoch seconds.

    Args:
        access_token: sent with every request.
        refresh_token: buys the next access token.
        renew_at: when the access token should be replaced, a little before it ends.
        refresh_expires_at: end of the refresh token, 0 if unknown.
        origin: digest of the configured refresh token this chain began with.
    """

    access_token: str
    refresh_token: str
    renew_at: float
    refresh_expires_at: float = 0.0
    origin: str = ""

    def __repr__(self) -> str:
        return f"StoredTokens(renew_at={self.renew_at:.0f})"


#: Buys new tokens with a refresh token: the decoded JSON of the token endpoint. Raises GrantRefused or NotConnected.
Grant = Callable[[str], Raw]


class TokenKeeper:
    """Hands out a valid access token.

    Args:
        broker: name from the settings.
        path: the file, made readable by its owner only.
        refresh_token: as configured; when it changes, the stored chain is dropped.
        grant: the call to the broker.
        refresh_lifetime_s: how long a refresh token lives from its first use, 0 if the broker tells.
    """

    def __init__(
        self, broker: str, path: Path, refresh_token: str, grant: Grant, *, refresh_lifetime_s: float = 0.0
    ) -> None:
        self._broker, self._path, self._grant = broker, path, grant
        self._configured, self._lifetime_s = refresh_token, refresh_lifetime_s
        self._origin = hashlib.sha256(refresh_token.encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        self._held: StoredTokens | None = None
        self._refusal: tuple[float, str] = (0.0, "")

    def token(self) -> str:
        """Return an access token that is good for a while.

        Raises:
            ConfigurationError: the refresh token is refused, or the file cannot be written: an operator is needed.
            NotConnected: the broker's token endpoint cannot be reached now.
        """
        held = self._held
        return held.access_token if _is_fresh(held) else self._renewed(None)

    def after_refusal(self, refused: str) -> str:
        """Return a new access token, since the broker has answered 401 to this one."""
        return self._renewed(refused)

    def _renewed(self, refused: str | None) -> str:
        with self._lock, self._alone():
            for candidate in (self._held, self._stored()):
                if _is_fresh(candidate) and candidate.access_token != refused:
                    self._held = candidate
                    return candidate.access_token
            self._held = self._bought()
            return self._held.access_token

    def _bought(self) -> StoredTokens:
        """Try the stored refresh token, then the configured one: a stored chain may have died."""
        until, reason = self._refusal
        if time.monotonic() < until:
            raise self._needs_login(reason)
        stored = self._stored()
        chain = [stored.refresh_token] if stored else []
        chain += [self._configured] if self._configured not in chain else []
        for refresh_token in chain:
            try:
                answer = self._grant(refresh_token)
            except GrantRefused as error:
                reason = str(error)
                continue
            return self._keep(answer, refresh_token, stored)
        self._refusal = (time.monotonic() + _REFUSED_S, reason)
        raise self._needs_login(reason)

    def _needs_login(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"brokers.{self._broker}.refresh_token is refused ({reason}): log in again and set the new one"
        )

    def _keep(self, answer: Raw, used: str, stored: StoredTokens | None) -> StoredTokens:
        """Store the tokens of an answer, before the first of them is used.

        Raises:
            NotConnected: the answer has none.
        """
        access = _token(answer.get("access_token"))
        if access is None:
            raise NotConnected(f"{self._broker}: the token endpoint gave no token", broker=self._broker)
        life = _seconds(answer.get("expires_in"), _LONGEST_S) or _USUAL_S
        tokens = StoredTokens(
            access_token=access,
            refresh_token=_token(answer.get("refresh_token")) or used,
            renew_at=time.time() + life - min(AHEAD_S, life / 5),
            refresh_expires_at=self._end_of_refresh(answer, stored),
            origin=self._origin,
        )
        self._store(tokens)
        self._warn(tokens)
        _log.info("token_refreshed", broker=self._broker, rotated=tokens.refresh_token != used, lives_s=round(life))
        return tokens

    def _end_of_refresh(self, answer: Raw, stored: StoredTokens | None) -> float:
        told = _seconds(answer.get("refresh_token_expires_in"), _LONGEST_REFRESH_S)
        if told is not None:
            return time.time() + told
        if stored and stored.refresh_expires_at:
            return stored.refresh_expires_at  # Schwab's seven days do not start again
        return time.time() + self._lifetime_s if self._lifetime_s else 0.0

    def _warn(self, tokens: StoredTokens) -> None:
        left = tokens.refresh_expires_at - time.time()
        if tokens.refresh_expires_at and left < WARN_S:
            _log.warning("refresh_token_ends_soon", broker=self._broker, hours_left=round(left / 3600, 1))

    # -- FILE ---
    def _stored(self) -> StoredTokens | None:
        """Return the newest tokens stored: a process that died before it renamed its draft left the good ones there."""
        found = [tokens for path in (self._path, *self._drafts()) if (tokens := self._read(path)) is not None]
        return max(found, key=lambda tokens: tokens.renew_at, default=None)

    def _drafts(self) -> list[Path]:
        return list(self._path.parent.glob(f"{escape(self._path.stem)}.*.tmp"))

    def _read(self, path: Path) -> StoredTokens | None:
        """Return what a file holds; None where it is missing, damaged or somebody else's."""
        try:
            raw = json.loads(path.read_text())
            found = _checked(StoredTokens(**{field.name: raw[field.name] for field in fields(StoredTokens)}))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("token_file_unreadable", broker=self._broker, path=str(path), error=trouble(error))
            return None
        return found if found.origin == self._origin else None

    def _store(self, tokens: StoredTokens) -> None:
        """Write the file as a whole, so that a crash leaves the old one or the new one, or the new one's draft."""
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(asdict(tokens), file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            for left in self._drafts():
                left.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(f"brokers.{self._broker}: cannot write {self._path}: {trouble(error)}") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock against other processes; a holder that died has let go of it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"brokers.{self._broker}: cannot use {self._path.parent}: {trouble(error)}"
            ) from error
        try:
            self._wait_for(handle)
            yield
        finally:
            os.close(handle)

    def _wait_for(self, handle: int) -> None:
        """Wait for the lock that processes with one login share.

        Raises:
            NotConnected: somebody holds it for too long.
        """
        give_up = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise NotConnected(
                        f"{self._broker}: another process has been refreshing the token for {_LOCK_WAIT_S:.0f} s",
                        broker=self._broker,
                    ) from None
                time.sleep(0.02)


def _token(value: object) -> str | None:
    """Return a token as it goes into a header; None for anything that cannot be one."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
        return None
    return value or None


def _seconds(value: object, most: float) -> float | None:
    """Return a length of time from outside, at most `most`; None where it is no positive number."""
    try:
        found = float(value) if isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    return min(found, most) if isfinite(found) and found > 0 else None


def _checked(found: StoredTokens) -> StoredTokens:
    """Return the tokens of a file, if they can be true: a time far away would keep a dead token for ever.

    Raises:
        ValueError: it is no token, or its times are not.
    """
    if _token(found.access_token) is None or _token(found.refresh_token) is None:
        raise ValueError("no tokens")
    for at, most in ((found.renew_at, _LONGEST_S), (found.refresh_expires_at, _LONGEST_REFRESH_S)):
        if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at <= time.time() + most:
            raise ValueError("a time that cannot be")
    return found


def _is_fresh(tokens: StoredTokens | None) -> TypeGuard[StoredTokens]:
    return tokens is not None and time.time() < tokens.renew_at


def token_path(broker: str, configured: str | None, home: str | None = None) -> Path:
    """Return where a broker's tokens are kept: as configured, or in corro's home."""
    if configured:
        return Path(configured)
    return Path(home or os.environ.get("CORRO_HOME") or ".corro") / "tokens" / f"{broker}.json"
