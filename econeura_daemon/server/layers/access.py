"""Who may do what: bearer tokens, and the trust in this machine's own users (docs/http-api.md, Access)."""

from datetime import datetime
from typing import Protocol

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import App, AsgiScope, Receive, Send, header
from econeura_daemon.server.context import ANONYMOUS, LOCAL, Peer, Principal, RequestContext, Scope, ScopeOf
from econeura_daemon.server.problems import Problem, send_problem

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

    def __init__(
        self, app: App, tokens: Authenticator, scope_of: ScopeOf, clock: Clock, *, required: bool
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._scope_of = scope_of
        self._clock = clock
        self._required = required

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        context = RequestContext.of(scope)
        needed = self._scope_of(scope["method"], scope["path"])
        presented = header(scope, b"authorization")
        problem: Problem | None = None
        if presented is not None:
            token = _bearer(presented)
            known = None if token is None else self._tokens.authenticate(token, self._clock.now())
            if known is not None:
                context.principal = known
                problem = _beyond(known, needed)
            elif needed is not None:
                problem = _not_known(token)
        elif not self._required and _is_trusted(scope):
            context.principal = LOCAL
        else:
            context.principal = ANONYMOUS
            if needed is not None:
                problem = _unauthorized("A token is needed: Authorization: Bearer eco_…", b"")
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await send_problem(send, problem, context, self._clock)


def _bearer(presented: bytes) -> str | None:
    kind, _, text = presented.decode("latin-1").partition(" ")
    return text.strip() if kind.lower() == "bearer" else None


def _is_trusted(scope: AsgiScope) -> bool:
    peer: Peer = scope["econeura.peer"]
    return peer.is_local and not any(
        name == b"forwarded" or name.startswith(b"x-forwarded-") for name, _ in scope["headers"]
    )


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
