"""The envelope of every answer: ``{"success": true, "data": …, "timestamp": …}``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from quart import Response

from econeura_daemon.api.paging import PageOf
from econeura_daemon.api.services import services
from econeura_daemon.core.clock import format_ms, to_ms
from econeura_daemon.core.jsons import dumps

T = TypeVar("T")

JSON = "application/json"


def reply(data: Any, *, status: int = 200) -> Response:
    """Answer with ``data``."""
    return reply_json(dumps(data), status=status)


def reply_json(data: bytes, *, status: int = 200) -> Response:
    """Answer with ``data`` that is JSON already."""
    answer = envelope(data, status=status, at=to_ms(services().clock.now()))
    return Response(answer, status=status, content_type=JSON)


def envelope(data: bytes, *, status: int, at: int) -> bytes:
    """Return what every answer is, around ``data`` that is JSON already; ``at`` in milliseconds since the epoch."""
    success = b"true" if status < 400 else b"false"
    return b'{"success":%b,"data":%b,"timestamp":"%b"}' % (success, data, format_ms(at).encode())


async def reply_page(
    page: PageOf,
    rows: Sequence[T],
    limit: int,
    position: Callable[[T], int | str],
    show: Callable[[T], bytes],
) -> Response:
    """Answer with a page of ``limit`` rows, of which one more was read if there is one.

    ``position`` is where a row stands in the list, ``show`` writes it as JSON.
    """
    shown = rows[:limit]
    next_cursor = None
    if len(rows) > limit:
        next_cursor = await services().cursors.issue(page, position(shown[-1]))
    return reply_json(b'{"items":[%b],"nextCursor":%b}' % (b",".join(map(show, shown)), dumps(next_cursor)))
