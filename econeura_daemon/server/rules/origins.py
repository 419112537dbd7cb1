"""What pages in a browser may do: foreign ones nothing that changes state, listed ones everything (CORS)."""

from collections.abc import Iterable

from econeura_daemon.server.asgi import Header
from econeura_daemon.server.problems import Problem
from econeura_daemon.server.requests import Request, Response

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = b"X-Request-ID, Retry-After, Idempotent-Replayed, X-Econeura-Index, X-Service-Id, X-Retries, X-Response-Time"
_PREFLIGHT_SECONDS = b"600"


class CheckOrigin:
    """403 for a state-changing request of a foreign page: a foreign ``Origin``, or ``Sec-Fetch-Site:
    cross-site``.

    A page's own origin is the one that its ``Host`` says, which was checked before. Origins in
    ``http.allowed_origins`` are answered with CORS headers; without any there is no CORS at all.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(origin.lower().removesuffix("/").encode() for origin in allowed)
        self.is_wanted = bool(self._allowed)
        """Whether answers bear anything of it."""

    def __call__(self, request: Request) -> Problem | None:
        """Return the refusal of a foreign page's request."""
        first = request.first
        if b"origin" not in first and b"sec-fetch-site" not in first:
            return None
        if request.method in _SAFE or self._is_listed(request) or not self._is_foreign(request):
            return None
        return Problem.of(
            "foreign-origin",
            "A page of another site may change nothing here; http.allowed_origins lists those that may.",
        )

    def headers(self, request: Request) -> tuple[Header, ...]:
        """Return what every answer to the request bears."""
        if not self._allowed:
            return ()
        if not self._is_listed(request):
            return ((b"vary", b"Origin"),)
        return (
            (b"access-control-allow-origin", request.first[b"origin"]),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        )

    def preflight(self, request: Request) -> Response | None:
        """Return the answer to a listed page's question whether it may; None if the request is none."""
        if (
            request.method != "OPTIONS"
            or b"access-control-request-method" not in request.first
            or not self._is_listed(request)
        ):
            return None
        asked = request.first.get(b"access-control-request-headers")
        headers: list[Header] = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        if asked:
            headers.append((b"access-control-allow-headers", asked))
        return Response(204, b"", headers)

    def _is_listed(self, request: Request) -> bool:
        origin = request.first.get(b"origin")
        return origin is not None and bool(self._allowed) and origin.lower() in self._allowed

    @staticmethod
    def _is_foreign(request: Request) -> bool:
        origin = request.first.get(b"origin")
        if origin is None:
            return request.first.get(b"sec-fetch-site", b"").lower() == b"cross-site"
        _, _, place = origin.lower().partition(b"://")
        return not place or place != request.first.get(b"host", b"").lower()
