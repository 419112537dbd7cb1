"""One HTTP/2 connection, served by Hypercorn over a TLS stream. The only file that knows Hypercorn.

Of Hypercorn 0.18 we use `TCPServer` with its `H2Protocol`. HTTP/1.1, where its crashes and hangs live
(`tests/http/test_server_hypercorn_facts.py` reproduces them), never gets there. What is left of them is fenced
in here: its sends are shielded and may never end, so a cancelled connection has its socket closed under it;
an error of its task group ends with this connection, whose caller guards the others; a websocket, which may
be opened over HTTP/2 too (RFC 8441), is refused.
"""

import math
import socket as stdlib_socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper

from econeura_daemon.server.asgi import AsgiScope, Message, Receive
from econeura_daemon.server.context import Peer
from econeura_daemon.server.http1_heads import MAX_HEAD
from econeura_daemon.server.site import Site

MAX_STREAMS = 100
"""Requests at once on one connection (RFC 9113 section 6.5.2 recommends no fewer)."""

WINDOW = 256 * 1024
"""Bytes of a body that may wait for the application to read them."""


async def serve_http2(stream: trio.SSLStream[trio.SocketStream], peer: Peer, site: Site) -> None:
    """Serve one connection, whose handshake is done, until it ends."""
    raw = stream.transport_stream.socket
    if raw.family != stdlib_socket.AF_UNIX:
        raw.setsockopt(
            stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_USER_TIMEOUT, site.settings.send_timeout_ms
        )
    context = WorkerContext(None)
    server = TCPServer(
        cast("AppWrapper", _Wrapper(peer, site)), _config(site), context, site.state.copy(), stream
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_close_when_cancelled, raw)
        nursery.start_soon(_end_with, site.drain.begun, context)
        await server.run()
        nursery.cancel_scope.cancel()


async def _close_when_cancelled(raw: trio.socket.SocketType) -> None:
    try:
        await trio.sleep(math.inf)
    finally:
        raw.close()


async def _end_with(drain: trio.Event, context: WorkerContext) -> None:
    await drain.wait()
    await context.terminate.set()
    await context.terminated.set()


def _config(site: Site) -> Config:
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_timeout = site.settings.keep_alive_timeout_ms / 1000
    config.keep_alive_max_requests = 2**31
    config.h2_max_concurrent_streams = MAX_STREAMS
    config.h2_max_header_list_size = MAX_HEAD
    config.ssl_handshake_timeout = site.settings.head_timeout_ms / 1000
    return config


class _Wrapper:
    """The application as Hypercorn calls it."""

    def __init__(self, peer: Peer, site: Site) -> None:
        self._peer = peer
        self._site = site

    async def __call__(
        self,
        scope: AsgiScope,
        receive: Receive,
        send: Callable[[Any], Awaitable[None]],
        _sync_spawn: object,
        _call_soon: object,
    ) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close"})
            return
        scope["econeura.peer"] = self._peer
        async with trio.open_nursery() as nursery:
            body = _Body(receive, nursery.cancel_scope)
            nursery.start_soon(body.watch)
            await self._site.gate(scope, body.receive, send)
            nursery.cancel_scope.cancel()


class _Body:
    """What a client sends; when it leaves, its handler is cancelled, as in HTTP/1.1."""

    def __init__(self, receive: Receive, handler: trio.CancelScope) -> None:
        self._receive = receive
        self._handler = handler
        self._waiting: deque[Message] = deque()
        self._size = 0
        self._changed = trio.Event()

    async def receive(self) -> Message:
        """Return a piece of the body; after its end wait until the handler is cancelled."""
        while not self._waiting:
            await self._changed.wait()
        message = self._waiting.popleft()
        self._size -= len(message.get("body", b""))
        self._change()
        return message

    async def watch(self) -> None:
        """Take what comes, as far as there is room; notice that the client leaves."""
        while True:
            while self._size > WINDOW:
                await self._changed.wait()
            message = await self._receive()
            if message["type"] != "http.request":
                self._handler.cancel()
                return
            self._waiting.append(message)
            self._size += len(message.get("body", b""))
            self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
