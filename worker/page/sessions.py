"""Who asks: a key's token in `Authorization: Bearer`, or a browser in which an operator has logged in.

For pages and doors:

    visitor = visitor_of(request)           # None: nobody, or somebody on this machine who only reads
    visitor.owner, visitor.may_operate
    visitor.session.csrf                    # goes into each form as the hidden field `csrf`
    visitor.session.take_notice()           # what the last action has told, once

`Sessions.gate` is asked before every route: without a login only this machine may read; what a browser in a session
changes has to come from a page of ours, by its Origin and by the token of the form.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from models.clock import utcnow
from models.errors import DatabaseUnavailable, Untrusted
from models.record.database import Database
from models.record.key_rows import KeyRow
from models.record.keys import KeyReader, by_token, named, whose
from models.settings import Settings
from models.signing import Signer, digest_of, token_signer
from models.trust import must_be_valid
from models.vocabulary import Denial
from models.web import WebSettings, is_among
from worker.page.asking import content_of
from worker.page.doorman import HERE, host_of, is_loopback
from worker.page.problems import CrossSite, NotAuthenticated, TooManyTries

#: Seconds that a session lasts: while nobody uses it, and at all.
IDLE_S, LONGEST_S = 3_600.0, 43_200.0
#: Sessions at once; the one that was not used for longest goes.
_MOST = 200
#: Wrong tokens from one address, within seconds, before no more are looked at.
TRIES, TRIES_S = 10, 60.0
#: Addresses that are remembered.
_MOST_ADDRESSES = 10_000
#: Methods that change nothing.
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Where anybody may come: to log in, which looks at the Origin itself, and with a token in the path.
_OPEN = ("/login", "/static/", "/hooks/", "/favicon.ico")
_NEEDED = "a key's token is needed: Authorization: Bearer TOKEN, or /login in a browser"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(slots=True)
class Session:
    """A browser in which somebody has logged in.

    Args:
        key_id: whose token it was.
        signer: signs what is asked in it.
        csrf: stands in every form of ours, and in no page of anybody else.
    """

    key_id: str
    signer: Signer = field(repr=False)
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    begun: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    notice: str = ""
    ended: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has lasted too long, or was not used for too long."""
        now = time.monotonic()
        return now - self.begun > LONGEST_S or now - self.seen > IDLE_S

    def take_notice(self) -> str:
        """Return what the last action has told; nothing the next time."""
        told, self.notice = self.notice, ""
        return told


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has shown a token.

    Args:
        key: its row, as it is now.
        signer: signs what is asked.
        session: of the browser; None where the token came with the request.
    """

    key: KeyRow
    signer: Signer = field(repr=False)
    session: Session | None = None

    @property
    def owner(self) -> str:
        """Whose key it is: the name in journals."""
        return self.key["owner"]

    @property
    def may_operate(self) -> bool:
        """Whether it may do what operators do."""
        return self.key["operator"]


class Tries:
    """Counts wrong tokens by address. Thread-safe.

    A token has 256 random bits, so nobody is kept from guessing by being locked out, while an operator, or an alert,
    from the same address would be: whoever was wrong too often is told 429, and costs the record nothing more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return for how many seconds an address has been wrong too often; 0 where it has not."""
        with self._lock:
            failed = self._failed.get(address, deque())
            return max(failed[0] + TRIES_S - time.monotonic(), 0.0) if len(failed) == TRIES else 0.0

    def failed(self, address: str) -> None:
        """Count one."""
        with self._lock:
            self._failed.setdefault(address, deque(maxlen=TRIES)).append(time.monotonic())
            self._failed.move_to_end(address)
            if len(self._failed) > _MOST_ADDRESSES:
                self._failed.popitem(last=False)


class Sessions:
    """Knows who has logged in; in this process's memory alone, so a restart ends every session. Thread-safe.

    Args:
        settings: `[web]`, and the name that signatures are made for.
        database: has the keys.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.web: WebSettings = settings.web
        self.database, self.tries = database, Tries()
        self._keys = KeyReader(database, settings.security)
        self._deployment = settings.security.deployment or database.deployment or ""
        self._lock = threading.Lock()
        #: By the digest of the cookie: who reads this process's memory has no cookie yet.
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    # -- WHO ---
    async def gate(self, request: Request) -> None:
        """See that somebody may ask this at all; leaves who it is in `request.state.visitor`, and `may_read`.

        Raises:
            NotAuthenticated: nobody knows who it is, and it is not this machine that only reads.
            CrossSite: a browser asks in its session without meaning to.
        """
        visitor = await run_in_threadpool(self.visitor, request)
        request.state.visitor = visitor
        request.state.may_read = self.may_read(request)
        reads = request.method in _READS
        if visitor is not None:
            if visitor.session is not None and not (reads or self._is_open(request)):
                await must_be_meant(request, visitor.session)
        elif not (self._is_open(request) or (reads and self.is_here(request)) or _sees_itself(request)):
            raise NotAuthenticated(_NEEDED)

    def _is_open(self, request: Request) -> bool:
        return request.url.path.startswith(_OPEN)

    def visitor(self, request: Request) -> Visitor | None:
        """Return who asks; None where nobody says.

        Raises:
            NotAuthenticated: by a token that is nobody's.
            TooManyTries: there were too many of those.
        """
        if (given := request.headers.get("authorization")) is not None:
            scheme, _, token = given.partition(" ")
            if scheme.lower() != "bearer":
                raise NotAuthenticated("authorization: must be Bearer and a key's token")
            return self.of_token(token.strip(), address_of(request, self.web))
        if (cookie := request.cookies.get(self._cookie(request))) is None:
            return None
        with self._lock:
            session = self._sessions.get(digest_of(cookie))
        if session is None or session.is_over:
            return None
        with self.database.read() as connection:
            key = named(connection, session.key_id)
        if key is None or not _is_valid(key):
            self._forget(cookie)
            return None
        session.seen = time.monotonic()
        return Visitor(key, session.signer, session)

    def of_token(self, token: str, address: str) -> Visitor:
        """Return whose token this is.

        Args:
            token: as it was shown.
            address: from where.

        Raises:
            NotAuthenticated: nobody's, or it is good no more.
            TooManyTries: too many were nobody's from there.
        """
        wait = self.tries.wait(address)
        if wait:
            key = whose(self._keys.ring().keys.values(), token)
        else:
            with self.database.read() as connection:
                key = by_token(connection, token)
        if key is None and wait:
            raise TooManyTries(f"{TRIES} tokens from {address} were nobody's", wait)
        if key is None:
            self.tries.failed(address)
            raise NotAuthenticated("this token is no key's: `corro keys add --alg token` makes one")
        try:
            must_be_valid(key, utcnow())
        except Untrusted as error:
            raise NotAuthenticated(str(error), str(error.code)) from None
        if key["public_key"] is None:
            raise NotAuthenticated(f"key {key['key_id']!r} is of a version before: add another, and revoke this one")
        return Visitor(key, token_signer(token, self._deployment))

    def is_here(self, request: Request) -> bool:
        """Tell whether somebody on this machine asks, and no proxy for somebody else."""
        peer = request.client.host if request.client else ""
        forwarded = any(name in request.headers for name in _FORWARDED)
        own = host_of(request.headers.get("host", "")) in HERE
        return is_loopback(peer) and own and not forwarded and not is_among(peer, self.web.proxies)

    def may_go_on(self, visitor: Visitor | None) -> bool:
        """Tell whether somebody who reads a stream may still; while nobody can say, they may."""
        if visitor is None:
            return True
        try:
            with self.database.read() as connection:
                key = named(connection, visitor.key["key_id"])
        except DatabaseUnavailable:
            return True
        ended = visitor.session is not None and (visitor.session.is_over or visitor.session.ended)
        return key is not None and _is_valid(key) and not ended

    def may_read(self, request: Request) -> bool:
        """Tell whether whoever asks may see how everything stands; of a path without a route nobody has asked yet."""
        return visitor_of(request) is not None or self.is_here(request)

    # -- LOGIN ---
    def login(self, request: Request, token: str) -> tuple[Session, str]:
        """Begin a session of an operator; returns it and the value of its cookie.

        Raises:
            NotAuthenticated, TooManyTries: see `of_token`.
            Untrusted: the key is no operator's.
            CrossSite: another site's page asks.
        """
        if "origin" in request.headers:
            must_be_ours(request)
        visitor = self.of_token(token, address_of(request, self.web))
        if not visitor.may_operate:
            words = f"key {visitor.key['key_id']!r} is no operator's: it is for Authorization: Bearer"
            raise Untrusted(words, Denial.NOT_PERMITTED)
        cookie, session = secrets.token_urlsafe(32), Session(visitor.key["key_id"], visitor.signer)
        with self._lock:
            for old in [digest for digest, other in self._sessions.items() if other.is_over]:
                del self._sessions[old]
            self._sessions[digest_of(cookie)] = session
            if len(self._sessions) > _MOST:
                del self._sessions[min(self._sessions, key=lambda digest: self._sessions[digest].seen)]
        return session, cookie

    def logout(self, request: Request) -> None:
        """End the session of a browser."""
        if (cookie := request.cookies.get(self._cookie(request))) is not None:
            self._forget(cookie)

    def set_cookie(self, request: Request, response: Response, cookie: str | None) -> None:
        """Give a browser its cookie; None takes it away."""
        name, secure = self._cookie(request), self._is_secure(request)
        lasts = 0 if cookie is None else int(LONGEST_S)
        response.set_cookie(name, cookie or "", lasts, secure=secure, httponly=True, samesite="strict")

    def _forget(self, cookie: str) -> None:
        with self._lock:
            if (session := self._sessions.pop(digest_of(cookie), None)) is not None:
                session.ended = True

    def _cookie(self, request: Request) -> str:
        """Return the cookie's name; over HTTPS no other host can have set one of that name."""
        return "__Host-corro" if self._is_secure(request) else "corro"

    def _is_secure(self, request: Request) -> bool:
        peer = request.client.host if request.client else ""
        return request.url.scheme == "https" or is_among(peer, self.web.proxies)


def visitor_of(request: Request) -> Visitor | None:
    """Return who asks, as `Sessions.gate` has seen it; None: nobody has logged in."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    return found


def known(request: Request) -> Visitor:
    """Return who asks.

    Raises:
        NotAuthenticated: nobody has logged in.
    """
    if (found := visitor_of(request)) is None:
        raise NotAuthenticated(_NEEDED)
    return found


def _sees_itself(request: Request) -> bool:
    """Tell whether a route asks by itself who stands behind a request: a signed order needs no token beside it."""
    return (request.method, request.url.path) == ("POST", "/api/v1/orders")


def _is_valid(key: KeyRow) -> bool:
    try:
        must_be_valid(key, utcnow())
    except Untrusted:
        return False
    return True


# -- FROM WHERE ---
def address_of(request: Request, web: WebSettings) -> str:
    """Return from which address somebody asks: past our own proxies, and no further."""
    peer = request.client.host if request.client else ""
    if not is_among(peer, web.proxies):
        return peer
    told = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    return next((at.strip() for at in reversed(told) if at.strip() and not is_among(at.strip(), web.proxies)), peer)


def must_be_ours(request: Request) -> None:
    """See that a page of ours asks.

    Raises:
        CrossSite: the Origin is another one, or none is told.
    """
    origin = request.headers.get("origin", "")
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != request.headers.get("host", "").lower():
        raise CrossSite(f"origin: must be this server's own, was {origin or 'none'!r:.200}")


async def must_be_meant(request: Request, session: Session) -> None:
    """See that somebody has pressed a button of ours: by the Origin, and by the token of the form.

    Raises:
        CrossSite: nobody has.
    """
    must_be_ours(request)
    given = request.headers.get("x-csrf-token")
    if given is None:
        content: Mapping[str, object] = await content_of(request)
        given = str(content.get("csrf", ""))
    if not hmac.compare_digest(given.encode("utf-8", "replace"), session.csrf.encode()):
        raise CrossSite("csrf: must be the token of this session, in the form or as X-CSRF-Token")
