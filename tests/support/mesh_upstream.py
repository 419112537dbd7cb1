"""A small HTTP/1.1 server as an instance behind the mesh: it tells what it was sent, and behaves as its paths say."""

from contextlib import asynccontextmanager

import attrs
import h11
import trio


@attrs.define
class Asked:
    line: bytes
    headers: dict
    pairs: list
    body: bytes = b""


@attrs.define
class Upstream:
    port: int = 0
    unused_port: int = 0
    requests: list = attrs.field(factory=list)
    connections: int = 0
    open: int = 0
    gone: trio.Event = attrs.field(factory=trio.Event)
    """A client left while an answer was under way."""
    arrived: trio.Event = attrs.field(factory=trio.Event)
    """A request's head came."""
    first_piece: trio.Event = attrs.field(factory=trio.Event)
    answers: list = attrs.field(factory=list)
    """Statuses that are answered first, one a request."""
    challenge: bytes = b""
    """``WWW-Authenticate`` of ``/status``."""


@attrs.define
class _Connection:
    upstream: Upstream
    stream: trio.SocketStream
    http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.SERVER))

    async def event(self):
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.stream.receive_some(65536))
        return event

    async def send(self, event):
        await self.stream.send_all(self.http.send(event) or b"")

    async def answer(self, status=200, body=b"", headers=()):
        await self.send(
            h11.Response(status_code=status, headers=[("content-length", str(len(body))), *headers])
        )
        await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())

    async def run(self):
        while True:
            event = await self.event()
            if not isinstance(event, h11.Request):
                return
            await self.serve(event)
            if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
                return
            self.http.start_next_cycle()

    async def serve(self, event):
        up = self.upstream
        line = b"%b %b HTTP/%b" % (event.method, event.target, event.http_version)
        asked = Asked(line, dict(event.headers), list(event.headers))
        up.requests.append(asked)
        up.arrived.set()
        path = event.target.partition(b"?")[0]
        if path == b"/early":
            await self.answer(413, b"too much")
            return
        if path == b"/slam":
            await self.stream.aclose()
            return
        if path == b"/converse":
            await self.converse()
            return
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                asked.body += event.data
                up.first_piece.set()
        if up.answers and (status := up.answers.pop(0)) != 200:
            await self.answer(status, b"busy")
        elif path == b"/gone":
            await self.stream.aclose()
        elif path == b"/head":
            await self.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        elif path == b"/never":
            await self.until_gone()
        elif path == b"/half":  # too long to be taken whole before it is passed on
            await self.send(h11.Response(status_code=200, headers=[("content-length", "100000")]))
            await self.send(h11.Data(data=b"half"))
            await self.until_gone()
        elif path == b"/break":
            length = asked.line.partition(b"length=")[2].split()[0]
            await self.send(h11.Response(status_code=200, headers=[("content-length", length)]))
            await self.send(h11.Data(data=b"half"))
            await self.stream.aclose()
        elif path == b"/headers":
            hop = [("connection", "x-hop, keep-alive"), ("x-hop", "1"), ("keep-alive", "timeout=5")]
            more = [("x-mine", "2"), ("x-service-id", "false"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
            await self.answer(200, b"{}", [*hop, *more, ("content-type", "application/json")])
        elif path == b"/large":
            await self.send(h11.Response(status_code=200, headers=[]))
            for _ in range(64):
                await self.send(h11.Data(data=b"x" * 65536))
            await self.send(h11.EndOfMessage())
        elif event and path == b"/status":
            challenge = [("www-authenticate", up.challenge)] if up.challenge else []
            await self.answer(int(asked.headers[b"x-status"]), b"", challenge)
        else:
            await self.answer(200, asked.body if asked.line[:4] != b"HEAD" else b"")

    async def converse(self):
        """Answer a body while it comes."""
        await self.send(h11.Response(status_code=200, headers=[]))
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                await self.send(event)
        await self.send(h11.EndOfMessage())

    async def until_gone(self):
        try:
            while await self.stream.receive_some(1):
                pass
        except trio.BrokenResourceError:
            pass
        self.upstream.gone.set()


@asynccontextmanager
async def open_upstream():
    """Serve on a free loopback port for the length of the block."""
    upstream = Upstream()

    async def serve(stream):
        upstream.connections += 1
        upstream.open += 1
        try:
            await _Connection(upstream, stream).run()
        except (
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            h11.RemoteProtocolError,
            h11.LocalProtocolError,
        ):
            pass
        finally:
            upstream.open -= 1
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        upstream.port = listener.socket.getsockname()[1]
        with trio.socket.socket() as unused:
            await unused.bind(("127.0.0.1", 0))
            upstream.unused_port = unused.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            yield upstream
        nursery.cancel_scope.cancel()
