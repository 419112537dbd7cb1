"""Who may do what: bearer tokens, and the trust in this machine's own users (docs/http-api.md, Access)."""

import base64
import binascii
import contextlib
import re
from datetime import datetime
from typing import Protocol

import attrs

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.context import ANONYMOUS, LOCAL, Principal, Scope
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import Request

_FORWARDED = (b"x-forwarded-", b"forwarded")
_X = ord("x")
_TOKEN = re.compile(rb"(?<![0-9A-Za-z_-])eco_")
"""How a token begins, `tokens.PREFIX`; amid the letters of others' tokens it is chance."""
_REALM = b'Bearer realm="econeura-daemon"'


class Authenticator(Protocol):
    """Knows the tokens; `tokens.TokenFile` is one."""

    def authenticate(self, text: str, now: datetime) -> Principal | None:
        """Return who presents ``text``, None if nobody known does."""
        ...


class CheckAccess:
    """401 without a token where one is needed, or with an unknown one; 403 beyond its scopes.

    A peer on this machine needs none, unless ``auth.required``, or unless its request came through a proxy:
    then it bears ``Forwarded`` or ``X-Forwarded-*``. What is presented always counts, with its scopes alone:
    whoever sends a mistyped token, or a password, learns of it on his own machine and not where it matters.
    """

    def __init__(self, tokens: Authenticator, clock: Clock, *, required: bool) -> None:
        self._tokens = tokens
        self._clock = clock
        self._required = required

    def __call__(self, request: Request, needed: Scope | None) -> Problem | None:
        """Find out who calls, into the request's context; return the refusal if they may not.

        ``needed``: the scope that the route asks for; None: it is open to all.
        """
        return self._judge(request, request.first.get(b"authorization"), needed)

    def passage(self, request: Request, needed: Scope | None) -> Problem | None:
        """Do the same for a request that goes on to a service, for which it may bear credentials too.

        The daemon's are in ``Proxy-Authorization`` then, and ``Authorization`` is the service's: so has it Google's
        Identity-Aware Proxy. Without the former, ``Authorization`` is the daemon's where a token is needed, and where
        it holds what looks like one; such a one is never the service's, so that a token that was revoked, or is
        another daemon's, goes nowhere. What is the service's is noted in the context, and not judged.
        """
        for name in (b"authorization", b"proxy-authorization"):
            if len(request.values(name)) > 1:
                return Problem.of("malformed-request", f"{name.decode().title()} comes more than once.")
        given = request.first.get(b"authorization")
        own = request.first.get(b"proxy-authorization")
        is_services = given is not None and not _holds_token(given)
        if own is None and (not is_services or not self._is_trusted(request)):
            refusal = self._judge(request, given, needed)
            return _with_hint(refusal) if is_services else refusal
        if is_services:
            request.context.service_authorization = given
        return self._judge(request, own, needed)

    def _judge(self, request: Request, presented: bytes | None, needed: Scope | None) -> Problem | None:
        if presented is not None:
            token = _bearer(presented)
            known = None if token is None else self._tokens.authenticate(token, self._clock.now())
            if known is not None:
                request.context.principal = known
                return _beyond(known, needed)
            return None if needed is None else _not_known(token)
        if self._is_trusted(request):
            request.context.principal = LOCAL
            return None
        request.context.principal = ANONYMOUS
        if needed is None:
            return None
        return _unauthorized("A token is needed: Authorization: Bearer eco_…", b"")

    def _is_trusted(self, request: Request) -> bool:
        return not self._required and request.peer.is_local and not _was_forwarded(request)


def _bearer(presented: bytes) -> str | None:
    kind, _, text = presented.decode("latin-1").partition(" ")
    return text.strip() if kind.lower() == "bearer" else None


def _holds_token(presented: bytes) -> bool:
    """Tell whether credentials hold what looks like a token of a daemon, also where ``Basic`` encodes it."""
    kind, _, text = presented.partition(b" ")
    if kind.lower() == b"basic":
        with contextlib.suppress(binascii.Error):
            presented += b" " + base64.b64decode(text.strip() + b"==")
    return _TOKEN.search(presented) is not None


def _with_hint(refusal: Problem | None) -> Problem | None:
    if refusal is None:
        return None
    hint = "Where Authorization is the service's, the daemon's token is in Proxy-Authorization."
    return attrs.evolve(refusal, detail=f"{refusal.detail} {hint}")


def _was_forwarded(request: Request) -> bool:
    for name in request.first:  # noqa: SIM110 - a generator costs more than this loop
        if name.startswith(_FORWARDED) and (name == b"forwarded" or name[0] == _X):
            return True
    return False


def _beyond(principal: Principal, needed: Scope | None) -> Problem | None:
    if needed is None or needed in principal.scopes:
        return None
    challenge = _REALM + b', error="insufficient_scope", scope="%b"' % needed.value.encode()
    return Problem.of(
        "forbidden",
        f"The token's scopes do not include {needed.value!r}.",
        headers=[(b"www-authenticate", challenge)],
    )


def _not_known(token: str | None) -> Problem:
    if token is None:
        return _unauthorized("Only tokens are understood: Authorization: Bearer eco_…", b"")
    return _unauthorized("The token is unknown, expired or revoked.", b', error="invalid_token"')


def _unauthorized(detail: str, error: bytes) -> Problem:
    return Problem.of("unauthorized", detail, headers=[(b"www-authenticate", _REALM + error)])
