"""What pages in a browser may do: foreign ones nothing that changes state, listed ones everything (CORS)."""

from collections.abc import Iterable

from econeura_daemon.core.clock import Clock
from econeura_daemon.server.asgi import App, AsgiScope, Header, Message, Receive, Send, header
from econeura_daemon.server.context import RequestContext
from econeura_daemon.server.problems import Problem, send_problem

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = b"X-Request-ID, Retry-After, Idempotent-Replayed, X-Econeura-Index"
_PREFLIGHT_SECONDS = b"600"


class CheckOrigin:
    """403 for a state-changing request of a foreign page: a foreign ``Origin``, or ``Sec-Fetch-Site:
    cross-site``.

    A page's own origin is the one that its ``Host`` says, which was checked before. Origins in
    ``http.allowed_origins`` are answered with CORS headers; without any there is no CORS at all.
    """

    def __init__(self, app: App, allowed: Iterable[str], clock: Clock) -> None:
        self._app = app
        self._allowed = frozenset(origin.lower().removesuffix("/").encode() for origin in allowed)
        self._clock = clock

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin")
        if origin is not None and origin.lower() in self._allowed:
            await self._serve_listed(origin, scope, receive, send)
        elif scope["method"] not in _SAFE and self._is_foreign(origin, scope):
            problem = Problem.of(
                "foreign-origin",
                "A page of another site may change nothing here; http.allowed_origins lists those that may.",
            )
            await send_problem(send, problem, RequestContext.of(scope), self._clock)
        else:
            await self._app(scope, receive, self._varying(send) if self._allowed else send)

    def _is_foreign(self, origin: bytes | None, scope: AsgiScope) -> bool:
        if origin is None:
            return (header(scope, b"sec-fetch-site") or b"").lower() == b"cross-site"
        _, _, place = origin.lower().partition(b"://")
        return not place or place != (header(scope, b"host") or b"").lower()

    async def _serve_listed(self, origin: bytes, scope: AsgiScope, receive: Receive, send: Send) -> None:
        headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            asked = header(scope, b"access-control-request-headers")
            headers += [
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-max-age", _PREFLIGHT_SECONDS),
                *([(b"access-control-allow-headers", asked)] if asked else []),
            ]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._app(scope, receive, _with_headers(send, headers))

    @staticmethod
    def _varying(send: Send) -> Send:
        return _with_headers(send, [(b"vary", b"Origin")])


def _with_headers(send: Send, headers: list[Header]) -> Send:
    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_with
