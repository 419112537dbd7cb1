"""Routes without Quart: a request value in, an answer value out, for what every event passes through.

`server` calls these functions itself, behind the same rules as everything else, when method and path match
and there is no query that they do not take. Quart's table holds them too, through `from_quart`: for their place
in the OpenAPI document, for the methods that they do not have, and for requests with a query.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import attrs
from quart import Response as QuartResponse
from quart import request as quart_request

from econeura_daemon.api.bodies import JSON, refuse_other_types
from econeura_daemon.api.context import request_context
from econeura_daemon.api.idempotency import Answer, Key, read_key
from econeura_daemon.api.problems import problem_of
from econeura_daemon.api.replies import envelope
from econeura_daemon.api.services import Services, services
from econeura_daemon.core.clock import to_ms
from econeura_daemon.core.jsons import loads
from econeura_daemon.core.structuring import structure_json
from econeura_daemon.server import HotFunction, HotRoute, HotRoutes, Peer, Request, Response, document
from econeura_daemon.server.problems import headers_of

T = TypeVar("T")

View = Callable[[Services, Request], Awaitable[Response]]
"""A hot route; what it raises is answered as on any other route."""


@attrs.frozen
class Hot:
    """A hot route; see `server.HotRoute`."""

    view: View
    takes_query: bool = False
    waits: bool = False


Views = Mapping[tuple[str, str], Hot]
"""By method and path."""

_NOBODY = Peer("quart", is_local=False)


def hot_routes(installed: Services, views: Views) -> HotRoutes:
    """Return what `server` is to serve itself."""
    return {
        (method, path): HotRoute(
            _bound(hot.view, installed), path, takes_query=hot.takes_query, waits=hot.waits
        )
        for (method, path), hot in views.items()
    }


async def from_quart(view: View) -> QuartResponse:
    """Answer the present request of Quart's with a hot route."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in quart_request.headers]
    body = await quart_request.get_data(cache=True, as_text=False, parse_form_data=False)
    asked = Request(
        quart_request.method,
        quart_request.path,
        headers,
        dict(reversed(headers)),
        _NOBODY,  # the rules, which look at it, are passed
        None,
        request_context(),
        body,
        quart_request.query_string,
    )
    return to_quart(await view(services(), asked))


def to_quart(answer: Response) -> QuartResponse:
    """Return the same answer as Quart has it."""
    response = QuartResponse(answer.body, status=answer.status)
    for name, value in answer.headers:
        response.headers[name.decode()] = value.decode("latin-1")
    return response


def read_json(request: Request, cls: type[T]) -> T:
    """Return the body as ``cls``; raises as `bodies.read_body` does."""
    content_type = request.first.get(b"content-type", b"")
    if content_type != b"application/json" or b"content-encoding" in request.first:
        encoding = request.first.get(b"content-encoding", b"")
        refuse_other_types(content_type.decode("latin-1"), encoding.decode("latin-1"), JSON)
    return structure_json(loads(request.body), cls)


def key_of(request: Request) -> Key | None:
    """Return the idempotency key; raises as `bodies.idempotency_key` does."""
    if b"idempotency-key" not in request.first:
        return None
    return read_key(
        request.values(b"idempotency-key"),
        principal=request.context.principal.name,
        route=f"{request.method} {request.path}",
        body=request.body,
    )


def reply_once(answer: Answer) -> Response:
    """Answer with what a deed came to, as of when it was done."""
    headers = [(b"content-type", JSON.encode())]
    if answer.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    return Response(answer.status, envelope(answer.data, status=answer.status, at=answer.at), headers)


def reply(installed: Services, data: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
    """Answer 200 with ``data`` that is JSON already."""
    return reply_enveloped(enveloped(installed, data), headers)


def enveloped(installed: Services, data: bytes) -> bytes:
    """Return the body of a 200 around ``data`` that is JSON already."""
    return envelope(data, status=200, at=to_ms(installed.clock.now()))


def reply_enveloped(body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
    """Answer 200 with a body as a whole: several may be answered with the same one, which is kept once."""
    return Response(200, body, [(b"content-type", JSON.encode()), *headers])


def _bound(view: View, installed: Services) -> HotFunction:
    async def answer(request: Request) -> Response:
        try:
            return await view(installed, request)
        except Exception as error:
            found = problem_of(error)
            if found is None:
                raise  # the server logs it and answers 500
            body = document(found, request.context.request_id, installed.clock.now())
            return Response(found.status, body, headers_of(found))

    return answer
