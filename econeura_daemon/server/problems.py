"""Error answers: RFC 9457 documents that also carry ECONEURA's inherited members (docs/http-api.md,
Conventions).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

import attrs

from econeura_daemon.core.clock import Clock, format_instant
from econeura_daemon.core.errors import Flaw
from econeura_daemon.core.jsons import dumps
from econeura_daemon.server.asgi import Header, Send
from econeura_daemon.server.context import RequestContext

PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed-request": (400, "Malformed request"),
    "invalid-input": (400, "Invalid input"),
    "missing-webhook-headers": (400, "Missing required webhook headers"),
    "invalid-signature": (401, "Invalid signature"),
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "foreign-origin": (403, "Foreign origin"),
    "not-found": (404, "Not found"),
    "message-not-found": (404, "Message not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "request-timeout": (408, "Request timeout"),
    "conflict": (409, "Conflict"),
    "idempotency-in-flight": (409, "Request in flight"),
    "payload-too-large": (413, "Payload too large"),
    "uri-too-long": (414, "URI too long"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "expectation-failed": (417, "Expectation failed"),
    "misdirected-request": (421, "Misdirected request"),
    "idempotency-mismatch": (422, "Idempotency key reused"),
    "mail-unprocessable": (422, "Mail unprocessable"),
    "headers-too-large": (431, "Headers too large"),
    "internal-error": (500, "Internal error"),
    "outcome-unknown": (500, "Outcome unknown"),
    "not-implemented": (501, "Not implemented"),
    "overloaded": (503, "Overloaded"),
    "no-webhook-secret": (503, "No webhook secret"),
    "mail-store-unavailable": (503, "Mail store unavailable"),
    "processors-unavailable": (503, "Processors unavailable"),
    "store-unavailable": (503, "Store unavailable"),
    "http-version-not-supported": (505, "HTTP version not supported"),
    "upstream-unreachable": (502, "Upstream unreachable"),
    "workers-failed": (502, "Workers failed"),
    "no-healthy-instance": (503, "No healthy instance"),
    "circuit-open": (503, "Circuit open"),
    "workers-busy": (503, "Workers busy"),
    "concurrency-limit": (503, "Concurrency limit"),
    "upstream-timeout": (504, "Upstream timeout"),
    "store-full": (507, "Insufficient storage"),
}
"""Every slug that the daemon can answer with, with its status and title; ``docs/http-api.md`` lists them."""

CONTENT_TYPE = b"application/problem+json"


@attrs.frozen
class Problem:
    """One error answer, before it is written down."""

    slug: str
    title: str
    status: int
    detail: str
    details: Sequence[Flaw] = ()
    headers: Sequence[Header] = ()
    more: Mapping[str, str] = attrs.field(factory=dict)
    """Further members (RFC 9457 3.2)."""

    @classmethod
    def of(
        cls, slug: str, detail: str, *, details: Sequence[Flaw] = (), headers: Sequence[Header] = ()
    ) -> "Problem":
        """Return the problem ``slug`` with the status and title of the catalogue; KeyError for an unknown
        slug.
        """
        status, title = PROBLEMS[slug]
        return cls(slug, title, status, detail, details, headers)


def document(problem: Problem, request_id: str, now: datetime) -> bytes:
    """Return the problem as JSON."""
    return dumps(
        {
            "type": f"/problems/{problem.slug}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "instance": request_id,
            "success": False,
            "error": problem.title,
            "details": [{"path": flaw.path, "message": flaw.message} for flaw in problem.details],
            "timestamp": format_instant(now),
            **problem.more,
        }
    )


def headers_of(problem: Problem) -> list[Header]:
    """Return the headers of the answer; its length is said by whoever writes it."""
    return [(b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store"), *problem.headers]


async def send_problem(send: Send, problem: Problem, context: RequestContext, clock: Clock) -> None:
    """Answer a request, of which nothing was answered yet, with ``problem``."""
    body = document(problem, context.request_id, clock.now())
    headers = [*headers_of(problem), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def raw_response(problem: Problem, request_id: str, now: datetime) -> bytes:
    """Return the whole answer, status line included, of a connection that closes after it.

    For what is refused before there is a request that an application could answer.
    """
    body = document(problem, request_id, now)
    lines = [
        f"HTTP/1.1 {problem.status} {_phrase(problem.status)}".encode(),
        b"date: " + format_datetime(now, usegmt=True).encode(),
        *(name + b": " + value for name, value in headers_of(problem)),
        b"content-length: %d" % len(body),
        b"x-request-id: " + request_id.encode(),
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
