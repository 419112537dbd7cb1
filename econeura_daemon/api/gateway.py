"""``ANY /v1/mesh/{type}/{path}``: calls a service for whoever speaks HTTP, and streams both ways.

What reaches a service: method, path, query, body, and the headers that are end to end (RFC 9110 7.6.1), with ``Host``
the instance's own. What authorized the caller here is nobody's business there: ``Authorization`` is passed on where it
is the service's, as `server.rules.access` finds out. What comes back: status, body, and its
end-to-end headers, but no permission for pages of other sites: who has that is the daemon's to say.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache, partial
from ipaddress import ip_address

import httpx
import trio

from econeura_daemon.api.problems import problem_of
from econeura_daemon.api.services import Services
from econeura_daemon.client import Answer, Call, KeptBody, MeshError, RequestBodyTooSlowError
from econeura_daemon.core.errors import EconeuraError, InvalidInputError
from econeura_daemon.core.instances import RESERVED_TYPES
from econeura_daemon.core.phrases import shortened
from econeura_daemon.server import (
    AsgiScope,
    Header,
    Passage,
    Problem,
    Receive,
    Request,
    RequestContext,
    Response,
    Send,
    Streamed,
    document,
    headers_of,
)
from econeura_daemon.telemetry.trace import parse_traceparent

log = logging.getLogger(__name__)

ROUTE = "/v1/mesh/{type}/{path}"
SMALL = 64 * 1024
"""A body that says it is no longer is read before an instance is chosen: a slow client holds none of its slots."""

_PREFIX = "/v1/mesh/"
_PATH = re.compile(rf"{_PREFIX}([a-z0-9][a-z0-9_-]{{0,63}})/")
_TIMEOUT = re.compile(r"[1-9][0-9]{0,9}")
_HOP = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
_NOT_SENT = _HOP | frozenset(
    (
        b"host", b"content-length", b"expect", b"authorization", b"forwarded", b"x-forwarded-for", b"x-request-id",
        b"x-timeout-ms", b"traceparent", b"tracestate",
    )
)  # fmt: skip
"""The last ones are sent anew."""
_OVERRIDES = frozenset(
    (b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url")
)
"""By which some frameworks are told of another method or path than the request's: no way around an allow-list."""
_NOT_SENT_IF_NARROWED = _NOT_SENT | _OVERRIDES
_NOT_RETURNED = _HOP | frozenset(
    (b"x-service-id", b"x-retries", b"x-response-time", b"x-request-id", b"date")
)
_NOT_REPEATED = _NOT_RETURNED | {b"content-length"}
"""For an answer whose length is said anew."""
_BODILESS = frozenset((204, 304))
_CORS = b"access-control-"


class NotPassedOnError(EconeuraError):
    """What is no request with an answer."""


class NotAllowedError(EconeuraError):
    """What the service's allow-list does not let through."""


def service_of(path: str) -> str | None:
    """Return the type that a path calls, None if it is none of the gateway's."""
    match = _PATH.match(path)
    return match[1] if match is not None and match[1] not in RESERVED_TYPES else None


class Gateway:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._passage = Passage(self.answer, self.serve)

    def find(self, path: str) -> Passage | None:
        """Return the way through the gateway, if the path is one of its own."""
        return None if service_of(path) is None else self._passage

    async def answer(self, request: Request) -> Response | Streamed:
        """Call the service that the path names; the body is there."""
        return await self._answer(request, None)

    async def serve(self, scope: AsgiScope, receive: Receive, send: Send) -> Response | None:
        """Do the same for a request whose body is still to come."""
        answer = await self._answer(scope["econeura.request"], partial(self._body, scope, receive))
        if isinstance(answer, Response):
            return answer
        await answer(send)
        return None

    async def _answer(
        self, request: Request, body: Callable[[], Awaitable[bytes | KeptBody]] | None
    ) -> Response | Streamed:
        context = request.context
        context.route = ROUTE
        context.long_lived()  # how many calls there may be is the mesh's to say
        began = trio.current_time()
        try:
            call = self._call(request)
            if body is not None:
                call.body = await body()
            answer = await self._services.mesh.call(call)
        except Exception as error:
            problem = _problem(error)
            if problem is None:
                raise
            known = _facts_of_error(error, trio.current_time() - began)
            return Response(
                problem.status,
                document(problem, context.request_id, self._services.clock.now()),
                [*headers_of(problem), *known],
            )
        if answer.is_whole and answer.status not in _BODILESS and request.method != "HEAD":
            parts = []
            while part := await answer.more():
                parts.append(part)
            headers = [*_end_to_end(answer.headers, _NOT_REPEATED), *_facts(answer)]
            return Response(answer.status, b"".join(parts), headers)
        return partial(_stream, answer, context)

    def _call(self, request: Request) -> Call:
        context, first = request.context, request.first
        if request.method == "CONNECT" or b"sec-websocket-key" in first:
            raise NotPassedOnError(
                "Neither tunnels nor websockets go through the mesh: requests and answers do"
            )
        service, path = _destination(request)
        allowed = self._services.mesh.allow_list(service)
        if not allowed.lets(request.method, path):
            asked = f"{request.method} {shortened(path.decode('latin-1'))}"
            raise NotAllowedError(f"mesh.{service}.allow lets {allowed} through, and not {asked}")
        timeout = first.get(b"x-timeout-ms")
        dropped = _NOT_SENT if allowed.is_open else _NOT_SENT_IF_NARROWED
        return Call(
            service=service,
            id=context.request_id,
            method=request.method,
            place=b"%b?%b" % (path, request.query) if request.query else path,
            headers=_headers(request, dropped),
            timeout=None if timeout is None else _seconds(timeout),
            trace=parse_traceparent(context.traceparent, context.tracestate),
            body=request.body,
        )

    async def _body(self, scope: AsgiScope, receive: Receive) -> bytes | KeptBody:
        first = scope["econeura.request"].first
        given = first.get(b"content-length")
        length = None if given is None else int(given)
        if length is None and b"transfer-encoding" not in first and not _may_follow(scope):
            return b""
        source = _Source(receive)
        if scope.get("econeura.is_whole", False) or (length is not None and length <= SMALL):
            with trio.move_on_after(self._services.settings.http.body_timeout_ms / 1000):
                return await source.all()
            raise RequestBodyTooSlowError("The request's body did not arrive in time")
        return KeptBody(source.more, length)


class _Source:
    """A request's body as ASGI brings it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def more(self) -> bytes:
        """Return the next piece, nothing at the end. A client that leaves cancels this."""
        while not self._ended:
            message = await self._receive()
            self._ended = not message.get("more_body", False)
            body: bytes = message.get("body", b"")
            if body:
                return body
        return b""

    async def all(self) -> bytes:
        pieces = []
        while piece := await self.more():
            pieces.append(piece)
        return b"".join(pieces)


async def _stream(answer: Answer, context: RequestContext, send: Send) -> None:
    try:
        headers = [*_end_to_end(answer.headers, _NOT_RETURNED), *_facts(answer)]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        while part := await answer.more():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except httpx.TransportError as error:
        # The head is out: all that can still be said is that this is not the whole answer.
        log.warning(
            "%s broke off its answer: %s",
            answer.service_id,
            error,
            extra={"request_id": context.request_id},
        )
    finally:
        answer.close()


def _end_to_end(headers: Iterable[Header], dropped: frozenset[bytes]) -> list[Header]:
    """Return what is for the other end; what ``Connection`` names is for the next hop alone.

    CGI and WSGI read ``X_Forwarded_For`` as ``X-Forwarded-For``, so what is dropped is dropped in every spelling.
    """
    kept = []
    named: set[bytes] = set()
    for name, value in headers:
        lower = _passed_on(name, dropped)
        if lower is not None:
            kept.append((lower, value))
        elif name.lower() == b"connection":
            named.update(one.strip().lower() for one in value.split(b","))
    return [pair for pair in kept if pair[0] not in named] if named else kept


@lru_cache(maxsize=1024)
def _passed_on(name: bytes, dropped: frozenset[bytes]) -> bytes | None:
    """Return the name in lower case, None for what is not passed on."""
    lower = name.lower()
    known = lower.replace(b"_", b"-")
    return None if known in dropped or known.startswith(_CORS) else lower


def _headers(request: Request, dropped: frozenset[bytes]) -> list[Header]:
    headers, first, context = _end_to_end(request.headers, dropped), request.first, request.context
    if context.service_authorization is not None:
        headers.append((b"authorization", context.service_authorization))
    shown, element = _forwarded(
        None if request.client is None else request.client[0], first.get(b"host", b""), request.scheme
    )
    if b"x-forwarded-for" in first:
        shown = b", ".join([*_values(request, b"x-forwarded-for"), shown])
    if b"forwarded" in first:
        element = b", ".join([*_values(request, b"forwarded"), element])
    headers += (
        (b"x-request-id", context.request_id.encode("ascii")),
        (b"x-forwarded-for", shown),
        (b"forwarded", element),
        (b"via", b"1.1 econeura-daemon"),  # RFC 9110 7.6.3
    )
    return headers


def _values(request: Request, name: bytes) -> list[bytes]:
    return [value for key, value in request.headers if key == name]


@lru_cache(maxsize=1024)
def _forwarded(client: str | None, host: bytes, scheme: str) -> Header:
    """Return the caller for ``X-Forwarded-For``, and as ``Forwarded`` writes it (RFC 7239 6)."""
    address = None if client is None else client.partition("%")[0]
    shown = b"unknown" if address is None else address.encode("ascii")
    is_v6 = address is not None and ip_address(address).version == 6
    node = b'"[%b]"' % shown if is_v6 else shown
    host = host.replace(b'"', b"").replace(b"\\", b"")
    return shown, b'for=%b;host="%b";proto=%b' % (node, host, scheme.encode("ascii"))


def _destination(request: Request) -> tuple[str, bytes]:
    """Return the type, and the path there as it was sent."""
    service = request.path[len(_PREFIX) :].partition("/")[0]  # `find` looked whether it is one
    start = b"/v1/mesh/%b/" % service.encode("ascii")
    if not request.raw_path.startswith(start):
        raise InvalidInputError.at("path", f"expected {ROUTE}, the type not percent-encoded")
    return service, request.raw_path[len(start) - 1 :]


def _seconds(timeout: bytes) -> float:
    text = timeout.decode("latin-1")
    if _TIMEOUT.fullmatch(text) is None:
        raise InvalidInputError.at("X-Timeout-Ms", f"expected milliseconds from 1, got {shortened(text)!r}")
    return int(text) / 1000


def _may_follow(scope: AsgiScope) -> bool:
    """Tell whether a body may follow that no header announces: HTTP/2 frames it."""
    return scope["http_version"] == "2" and scope["method"] not in {"GET", "HEAD", "OPTIONS"}


def _facts(answer: Answer) -> Iterable[Header]:
    yield b"x-service-id", answer.service_id.encode("ascii")
    yield b"x-retries", b"%d" % max(0, answer.attempts - 1)
    yield b"x-response-time", b"%d" % round(answer.seconds * 1000)


def _problem(error: Exception) -> Problem | None:
    if isinstance(error, NotAllowedError):
        return Problem.of("forbidden", str(error))
    if isinstance(error, NotPassedOnError):
        return Problem.of("not-implemented", str(error))
    if isinstance(error, httpx.LocalProtocolError):
        return Problem.of("invalid-input", f"The request cannot be passed on: {error}")
    return problem_of(error)


def _facts_of_error(error: Exception, seconds: float) -> Iterable[Header]:
    if isinstance(error, MeshError):
        if error.service_id is not None:
            yield b"x-service-id", error.service_id.encode("ascii")
        yield b"x-retries", b"%d" % max(0, error.attempts - 1)
        yield b"x-response-time", b"%d" % round(seconds * 1000)
