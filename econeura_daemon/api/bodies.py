"""What a request says: its body, its query, its idempotency key."""

from typing import Any, TypeVar

from quart import request
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.http import parse_options_header

from econeura_daemon.api.context import request_context
from econeura_daemon.api.idempotency import Key, read_key
from econeura_daemon.core.jsons import loads
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.structuring import structure_json

T = TypeVar("T")

JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"


async def read_body(cls: type[T]) -> T:
    """Return the request's JSON body as ``cls``.

    Raises `InvalidInputError` (400) with every flaw, `UnsupportedMediaType` (415) for another content type,
    `RequestEntityTooLarge` (413) beyond ``http.max_body_bytes``.
    """
    _refuse_other_types(JSON)
    return structure_json(loads(await raw_body()), cls)


async def read_patch() -> dict[str, Any]:
    """Return the members that a PATCH changes (RFC 7396), unchecked. Raises as `read_body` does."""
    _refuse_other_types(JSON, _MERGE_PATCH)
    return structure_json(loads(await raw_body()), dict[str, Any])


async def raw_body() -> bytes:
    """Return the bytes of the request's body; it is read once and kept for the length of the request."""
    return await request.get_data(cache=True, as_text=False, parse_form_data=False)


async def idempotency_key() -> Key | None:
    """Return the request's idempotency key, scoped to token and route; None without one.

    Raises `InvalidInputError` for one that cannot be used.
    """
    return read_key(
        request.headers.getlist("Idempotency-Key"),
        principal=request_context().principal.name,
        route=f"{request.method} {request.path}",
        body=await raw_body(),
    )


def _refuse_other_types(*expected: str) -> None:
    headers = request.headers
    refuse_other_types(headers.get("Content-Type", ""), headers.get("Content-Encoding", ""), *expected)


def refuse_other_types(content_type: str, encoding: str, *expected: str) -> None:
    """Refuse a body by its headers if it is none of ``expected``. Raises `UnsupportedMediaType`."""
    mimetype, parameters = parse_options_header(content_type)
    if mimetype.lower() not in expected:
        got = mimetype.lower() or "none"
        raise UnsupportedMediaType(f"Expected Content-Type: {' or '.join(expected)}, got {shortened(got)}")
    charset = parameters.get("charset", "utf-8")
    if charset.lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType(f"JSON is UTF-8; this body says charset={shortened(charset)}")
    if encoding.lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"A body with Content-Encoding: {shortened(encoding)} is not read; send it plain"
        )
