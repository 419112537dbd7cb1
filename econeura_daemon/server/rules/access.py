"""Who may do what: bearer tokens, and the trust in this machine's own users (docs/http-api.md, Access)."""

from datetime import datetime
from typing import Protocol

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.context import ANONYMOUS, LOCAL, Principal, Scope
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import Request
from econeura_daemon.server.tokens import PREFIX

_FORWARDED = (b"x-forwarded-", b"forwarded")
_X = ord("x")
_REALM = b'Bearer realm="econeura-daemon"'


class Authenticator(Protocol):
    """Knows the tokens; `tokens.TokenFile` is one."""

    def authenticate(self, text: str, now: datetime) -> Principal | None:
        """Return who presents ``text``, None if nobody known does."""
        ...


class CheckAccess:
    """401 without a token where one is needed, or with an unknown one; 403 beyond its scopes.

    A peer on this machine needs none, unless ``auth.required``, or unless its request came through a proxy:
    then it bears ``Forwarded`` or ``X-Forwarded-*``. A token that is presented always counts, with its scopes
    alone. A bearer token that is not one of ours (it does not begin with ``eco_``) is no token: it may be
    meant for a service behind the mesh.
    """

    def __init__(self, tokens: Authenticator, clock: Clock, *, required: bool) -> None:
        self._tokens = tokens
        self._clock = clock
        self._required = required

    def __call__(self, request: Request, needed: Scope | None) -> Problem | None:
        """Find out who calls, into the request's context; return the refusal if they may not.

        ``needed``: the scope that the route asks for; None: it is open to all.
        """
        token = _bearer(request.first.get(b"authorization"))
        if token is not None:
            known = self._tokens.authenticate(token, self._clock.now())
            if known is not None:
                request.context.principal = known
                return _beyond(known, needed)
            if needed is None:
                return None
            return _unauthorized("The token is unknown, expired or revoked.", b', error="invalid_token"')
        if not self._required and request.peer.is_local and not _was_forwarded(request):
            request.context.principal = LOCAL
            return None
        request.context.principal = ANONYMOUS
        if needed is None:
            return None
        return _unauthorized("A token is needed: Authorization: Bearer eco_…", b"")


def _bearer(value: bytes | None) -> str | None:
    if value is None:
        return None
    kind, _, text = value.decode("latin-1").partition(" ")
    text = text.strip()
    return text if kind.lower() == "bearer" and text.startswith(PREFIX) else None


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


def _unauthorized(detail: str, error: bytes) -> Problem:
    return Problem.of("unauthorized", detail, headers=[(b"www-authenticate", _REALM + error)])
