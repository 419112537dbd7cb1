"""Errors become problems (RFC 9457) here, in one table."""

import logging
from collections.abc import Mapping
from math import ceil

import attrs
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from econeura_daemon.api.context import request_context
from econeura_daemon.api.idempotency import IdempotencyInFlightError, IdempotencyMismatchError
from econeura_daemon.api.services import services
from econeura_daemon.client import MeshError
from econeura_daemon.core.errors import (
    ConflictError,
    EgressRefusedError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    RegistryFullError,
    StoreBusyError,
    StoreError,
    StoreFullError,
)
from econeura_daemon.core.phrases import shortened
from econeura_daemon.server import Problem, document
from econeura_daemon.webhooks import MissingHeadersError, NoSecretError, SignatureError
from econeura_daemon.workers import NoTurnError, WorkersBusyError, WorkersFailedError

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)

Headers = tuple[tuple[bytes, bytes], ...]

RETRY_SOON: Headers = ((b"retry-after", b"1"),)
_SIGN: Headers = ((b"www-authenticate", b'Webhook-Signature realm="econeura-daemon"'),)
_RETRY_LATER: Headers = ((b"retry-after", b"5"),)


@attrs.frozen
class _Answer:
    """What an error is answered with; ``detail`` None: what it says of itself, which must be fit to show."""

    slug: str
    detail: str | None = None
    headers: Headers = ()


ANSWERS: Mapping[type[Exception], _Answer] = {
    NotFoundError: _Answer("not-found"),
    ConflictError: _Answer("conflict"),
    EgressRefusedError: _Answer("invalid-input"),
    IdempotencyMismatchError: _Answer("idempotency-mismatch"),
    IdempotencyInFlightError: _Answer("idempotency-in-flight", headers=RETRY_SOON),
    MissingHeadersError: _Answer("missing-webhook-headers"),
    NoSecretError: _Answer("no-webhook-secret"),
    SignatureError: _Answer("invalid-signature", headers=_SIGN),
    NoTurnError: _Answer("concurrency-limit", headers=RETRY_SOON),
    WorkersBusyError: _Answer("workers-busy", headers=RETRY_SOON),
    WorkersFailedError: _Answer("workers-failed"),
    StoreBusyError: _Answer(
        "overloaded", "More is waiting to be stored than the daemon takes on; nothing was stored", RETRY_SOON
    ),
    RegistryFullError: _Answer("store-full"),
    StoreFullError: _Answer("store-full", "No space is left; nothing was stored"),
    StoreError: _Answer(
        "store-unavailable", "The database does not answer as it should; nothing was stored", _RETRY_LATER
    ),
    OutcomeUnknownError: _Answer(
        "outcome-unknown",
        "The database was lost while this was being stored: it may be stored or not. "
        "Send it again with the same id or Idempotency-Key",
    ),
}
"""The most special type counts. What is not here is a bug, and a 500."""

_OF_STATUS = {
    400: "invalid-input",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "payload-too-large",
    415: "unsupported-media-type",
}
"""The problems that Quart and werkzeug find."""


def install(app: Quart) -> None:
    """Let the app answer every error with a problem."""
    for kind in (HTTPException, Exception):
        app.register_error_handler(kind, _answer)


def problem_reply(found: Problem) -> Response:
    """Answer the present request with a problem."""
    body = document(found, request_context().request_id, services().clock.now())
    response = Response(body, status=found.status, content_type=MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    for name, value in found.headers:
        response.headers[name.decode()] = value.decode()
    return response


def problem_of(error: Exception) -> Problem | None:
    """Return what an error is answered with; None for a bug."""
    if isinstance(error, InvalidInputError):
        return Problem.of("invalid-input", error.summary, details=error.flaws)
    if isinstance(error, HTTPException):
        return _of_werkzeug(error)
    if isinstance(error, MeshError):
        after = None if error.retry_after is None else b"%d" % max(1, ceil(error.retry_after))
        return Problem.of(error.slug, str(error), headers=((b"retry-after", after),) if after else ())
    answer = next((ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS), None)
    if answer is None:
        return None
    found = Problem.of(answer.slug, answer.detail or str(error), headers=answer.headers)
    if found.status >= 500:
        _log.warning("answered %s: %s", answer.slug, error)
    return found


def _of_werkzeug(error: HTTPException) -> Problem | None:
    slug = _OF_STATUS.get(error.code or 500)
    if slug is None:
        return None
    headers: Headers = ()
    detail = error.description or ""
    if isinstance(error, NotFound):
        detail = f"There is no route {_asked()}"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        headers = ((b"allow", allowed.encode()),)
        detail = f"There is no route {_asked()}; at this path there is {allowed}"
    return Problem.of(slug, detail, headers=headers)


def _asked() -> str:
    return f"{request.method} {shortened(request.path)}"


async def _answer(error: Exception) -> Response:
    found = problem_of(error)
    return await _bug(error) if found is None else problem_reply(found)


async def _bug(error: Exception) -> Response:
    context = request_context()
    _log.error("request %s failed", context.request_id, exc_info=error)
    return problem_reply(
        Problem.of("internal-error", f"A bug of the daemon's; its log tells of request {context.request_id}")
    )
