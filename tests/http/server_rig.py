"""A server on loopback port 0, and a client that speaks raw bytes to it."""

import resource
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import attrs
import h11
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import Scope, TokenFile, open_listeners, open_server
from econeura_daemon.server.context import RequestContext
from econeura_daemon.telemetry.metrics import Metrics

PATIENCE = 20
"""Seconds after which a test that waits for a socket has failed."""


@contextmanager
def descriptors_for(connections):
    """Let the process have both ends of so many connections open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, connections * 2 + 500)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def read_body(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise AssertionError("the body broke off and the application was not cancelled")
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send, body=b"ok", status=200, headers=()):
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


@attrs.define
class App:
    """A small raw ASGI application whose paths are behaviours."""

    release: trio.Event = attrs.field(factory=trio.Event)
    entered: trio.Event = attrs.field(factory=trio.Event)
    cancelled: trio.Event = attrs.field(factory=trio.Event)
    calls: list = attrs.field(factory=list)
    lifespan: list = attrs.field(factory=list)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.calls.append(scope["path"])
        self.entered.set()
        behaviour = getattr(self, "do_" + scope["path"].strip("/").replace("-", "_"), self.do_echo)
        try:
            await behaviour(scope, receive, send)
        except trio.Cancelled:
            self.cancelled.set()
            raise

    async def _live(self, receive, send):
        while True:
            phase = (await receive())["type"]
            self.lifespan.append(phase)
            await send({"type": f"{phase}.complete"})
            if phase == "lifespan.shutdown":
                return

    async def do_echo(self, scope, receive, send):
        await answer(send, await read_body(receive))

    async def do_blind(self, scope, receive, send):
        """Answers without reading the body."""
        await answer(send)

    async def do_wait(self, scope, receive, send):
        await self.release.wait()
        await answer(send, b"waited")

    async def do_poll(self, scope, receive, send):
        RequestContext.of(scope).long_lived()
        await self.release.wait()
        await answer(send, b"polled")

    async def do_stream(self, scope, receive, send):
        RequestContext.of(scope).long_lived()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not scope["econeura"].draining.is_set():
            await send({"type": "http.response.body", "body": b": tick\n", "more_body": True})
            await trio.sleep(0.05)
        await send({"type": "http.response.body", "body": b": end\n", "more_body": False})

    async def do_converse(self, scope, receive, send):
        """Answers a body while it comes."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async def do_begun(self, scope, receive, send):
        """Has begun its answer, which says how long it is, when it waits."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b": begun", "more_body": True})
        await self.release.wait()
        await send({"type": "http.response.body", "body": b"\n.", "more_body": False})

    async def do_flood(self, scope, receive, send):
        """Sends for ever, as fast as the client takes it."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async def do_large(self, scope, receive, send):
        """Sends more at once than any socket buffer holds."""
        await answer(send, b"x" * 64_000_000)

    async def do_gives_up(self, scope, receive, send):
        """Ends a write by a time-out of its own, and goes on as if nothing had happened."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(0.2):
            await send({"type": "http.response.body", "body": b"x" * 64_000_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"END", "more_body": False})

    async def do_gives_up_at_the_end(self, scope, receive, send):
        with trio.move_on_after(0.2):
            await answer(send, b"x" * 64_000_000)

    async def do_fail(self, scope, receive, send):
        raise ValueError("the secret is swordfish")

    async def do_fail_late(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ValueError("the secret is swordfish")

    async def do_silent(self, scope, receive, send):
        """Answers nothing at all."""

    async def do_context(self, scope, receive, send):
        context = RequestContext.of(scope)
        context.route = "/context"
        await answer(send, repr((context, context.principal)).encode())


def needs(method, path):
    """Say a test's scopes: the first part of the path names it."""
    return {
        "open": None,
        "read": Scope.READ,
        "publish": Scope.PUBLISH,
        "admin": Scope.ADMIN,
    }.get(path.split("/")[1], None if method in {"GET", "HEAD"} else Scope.PUBLISH)


@attrs.define
class Rig:
    server: object
    app: object
    metrics: Metrics
    port: int | None
    path: str | None

    async def connect(self):
        if self.path is not None:
            return await trio.open_unix_socket(self.path)
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def wait_for_connections(self, count):
        """Wait until no more than ``count`` connections are open."""
        with trio.fail_after(PATIENCE):
            while self.server.connections > count:  # noqa: ASYNC110 - the server need not tell
                await trio.sleep(0.01)

    async def ask(self, raw, **reading):
        """Send raw bytes on a new connection and return the first answer."""
        async with Client(await self.connect()) as client:
            await client.send(raw)
            return await client.answer(**reading)


@asynccontextmanager
async def serving(
    app=None,
    *,
    tokens=None,
    auth_required=False,
    drain_timeout_ms=5000,
    scope_of=needs,
    access_log=False,
    unix=None,
    listeners=None,
    hot=None,
    find_passage=None,
    **settings,
):
    """Open a server; ``unix``: the path of a socket instead of a port; ``settings``: those of HTTP."""
    app = App() if app is None else app
    bind = ("127.0.0.1:0",) if unix is None else (f"unix:{unix}",)
    http = HttpSettings(**{"bind": bind, **settings})
    listeners = open_listeners(http, {}, has_tokens=False) if listeners is None else listeners
    metrics = Metrics()
    async with open_server(
        app,
        listeners,
        http,
        clock=SystemClock(),
        rng=Random(1),
        tokens=tokens or TokenFile(Path("/nonexistent")),
        auth_required=auth_required,
        scope_of=scope_of,
        telemetry=metrics,
        drain_timeout_ms=drain_timeout_ms,
        access_log=access_log,
        hot=hot,
        find_passage=find_passage,
    ) as server:
        port = None if unix else listeners[0].socket.getsockname()[1]
        yield Rig(server, app, metrics, port, unix)


@attrs.frozen
class Answer:
    status: int
    headers: dict
    body: bytes
    is_complete: bool = True


class Client:
    """One connection, as a client that takes nothing for granted: answers are parsed by h11."""

    def __init__(self, stream):
        self.stream = stream
        self._parser = None
        self._rest = b""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await trio.aclose_forcefully(self.stream)

    async def send(self, raw):
        await self.stream.send_all(raw)

    async def answer(self, *, method="GET", until_closed=False):
        """Read one answer; fails if what comes is none. With ``until_closed`` the end must follow it."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._rest:
            parser.receive_data(self._rest)
            self._rest = b""
        status, headers, body, is_complete = 0, {}, b"", False
        with trio.fail_after(PATIENCE):
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    data = await self.stream.receive_some(65536)
                    if not data and not status:
                        raise ConnectionError("closed without an answer")
                    try:
                        parser.receive_data(data)
                        event = parser.next_event() if not data else h11.NEED_DATA
                    except h11.RemoteProtocolError:
                        break
                if isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    is_complete = True
                    self._rest = parser.trailing_data[0]
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    break
        if until_closed:
            await self.is_closed()
        return Answer(status, headers, body, is_complete)

    async def is_closed(self):
        """Wait for the end; fails if anything else comes."""
        with trio.fail_after(PATIENCE):
            rest = self._rest + await self.stream.receive_some(65536)
            assert rest == b"", rest
            return True


def request(path="/echo", *, method="GET", body=None, host="localhost", headers=""):
    """Write a plain request down; ``headers``: lines ended by CRLF."""
    if body is not None:
        method = "POST" if method == "GET" else method
        headers += f"Content-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode() + (body or b"")
