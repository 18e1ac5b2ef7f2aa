"""OAuth as TDA and Schwab do it: short-lived access tokens bought with a refresh token (docs/facts/schwab.md#1.1).

Any refresh token and any key are taken, except an empty one, the word `wrong` and another sandbox's name.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from time import monotonic

from worker.sandbox.http_door import Refusal
from worker.sandbox.tda.dialect import DoorDialect, Json, correlation

GRANTS = {"refresh_token": "refresh_token", "authorization_code": "code"}


class TokenDoor:
    """The access tokens that are good at this moment."""

    def __init__(
        self, dialect: DoorDialect, lifetime_s: float, revokes: bool, is_another: Callable[[str], bool]
    ) -> None:
        self._dialect = dialect
        self._lifetime_s = lifetime_s
        self._revokes = revokes
        self._is_another = is_another
        self._good_until: dict[str, float] = {}

    def grant(self, form: Mapping[str, str], authorization: str) -> Json:
        """Return a new access token for a token request; Refusal in the dialect's words.

        Args:
            form: the form fields of the request.
            authorization: the Authorization header, empty when there was none.
        """
        offer = form.get(GRANTS.get(form.get("grant_type", ""), "?"), "")
        if self._dialect.name == "schwab":
            self._check_basic(authorization)
        elif form.get("client_id", "") in ("", "wrong"):
            raise Refusal(401, {"error": "invalid_client"})
        if offer in ("", "wrong") or self._is_another(offer):
            raise self._denied()
        if self._revokes:
            self._good_until.clear()
        token = secrets.token_urlsafe(48)
        self._good_until[token] = monotonic() + self._lifetime_s
        return self._body(token, form)

    def check(self, authorization: str) -> bool:
        """Tell whether the header carries a token that is still good."""
        scheme, _, token = authorization.partition(" ")
        return scheme == "Bearer" and monotonic() < self._good_until.get(token, 0.0)

    def revoke(self, authorization: str) -> None:
        """Make the token in the header worthless before its time."""
        self._good_until.pop(authorization.partition(" ")[2], None)

    def _body(self, token: str, form: Mapping[str, str]) -> Json:
        """Return the answer of the token endpoint; Schwab gives the refresh token back as it is."""
        seconds = max(int(self._lifetime_s), 1)
        fresh = secrets.token_urlsafe(48)
        if self._dialect.name == "schwab":
            kept = form.get("refresh_token") or fresh
            body: Json = {"expires_in": seconds, "token_type": "Bearer", "scope": "api"}
            return {**body, "refresh_token": kept, "access_token": token, "id_token": secrets.token_urlsafe(24)}
        body = {"access_token": token, "scope": "PlaceTrades AccountAccess MoveMoney"}
        body |= {"expires_in": seconds, "token_type": "Bearer"}
        if form.get("access_type") == "offline" or form.get("grant_type") == "authorization_code":
            body |= {"refresh_token": fresh, "refresh_token_expires_in": self._dialect.refresh_lifetime_s}
        return body

    def _check_basic(self, authorization: str) -> None:
        """See that Schwab's key and secret are in the header.

        Raises:
            Refusal: 401.
        """
        scheme, _, encoded = authorization.partition(" ")
        try:
            key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            key = secret = ""
        if scheme != "Basic" or not key or not secret or "wrong" in (key, secret):
            body = {"error": "invalid_client", "error_description": "Unauthorized"}
            raise Refusal(401, body, correlation())

    def _denied(self) -> Refusal:
        """Return the refusal of a refresh token, in the words of each broker."""
        if self._dialect.name == "tda":
            return Refusal(400, {"error": "invalid_grant"})
        inner = (
            '{"error_description":"Exception while authenticating refresh token [tokenDigest=sandbox, '
            "Exception=Failed refresh token authentication [tokenDigest=sandbox]]"
            '","error":"refresh_token_authentication_error"}'
        )
        body = {"error": "unsupported_token_type", "error_description": f'400 Bad Request: "{inner}"'}
        return Refusal(400, body, correlation())
