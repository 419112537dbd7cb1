"""Who may do what: bearer tokens, and the trust in this machine's own users (docs/http-api.md, Access)."""

from datetime import datetime
from typing import Protocol

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.context import ANONYMOUS, LOCAL, Principal, Scope
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import Request

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
        presented = request.first.get(b"authorization")
        if presented is not None:
            token = _bearer(presented)
            known = None if token is None else self._tokens.authenticate(token, self._clock.now())
            if known is not None:
                request.context.principal = known
                return _beyond(known, needed)
            return None if needed is None else _not_known(token)
        if not self._required and request.peer.is_local and not _was_forwarded(request):
            request.context.principal = LOCAL
            return None
        request.context.principal = ANONYMOUS
        if needed is None:
            return None
        return _unauthorized("A token is needed: Authorization: Bearer eco_…", b"")


def _bearer(presented: bytes) -> str | None:
    kind, _, text = presented.decode("latin-1").partition(" ")
    return text.strip() if kind.lower() == "bearer" else None


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
