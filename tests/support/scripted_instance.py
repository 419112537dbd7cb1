"""An instance that answers every request with the same bytes, whatever they are, and keeps what it was sent."""

import re
from contextlib import asynccontextmanager

import attrs
import trio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@attrs.define
class Scripted:
    port: int = 0
    answer: bytes = OK
    closes: bool = False
    """After its answer."""
    heads: list = attrs.field(factory=list)
    """As they came, without the empty line."""
    bodies: list = attrs.field(factory=list)
    """As they came, coding included."""

    @property
    def lines(self):
        """The last request's header lines, names in lower case."""
        pairs = [line.split(b": ", 1) for line in self.heads[-1].split(b"\r\n")[1:]]
        return [(name.lower(), value) for name, value in pairs]

    def values(self, name):
        return [value for key, value in self.lines if key == name]


async def _serve(instance, stream):
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(65536)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\ncontent-length: (\d+)", head)
        is_chunked = re.search(rb"(?i)\ntransfer-encoding:", head)
        while len(data) < int(length[1]) if length else is_chunked and not data.endswith(b"0\r\n\r\n"):
            data += await stream.receive_some(65536)
        instance.heads.append(head)
        instance.bodies.append(data)
        data = b""
        await stream.send_all(instance.answer)
        if instance.closes:
            return


@asynccontextmanager
async def open_scripted():
    """Serve on a free loopback port for the length of the block."""
    instance = Scripted()

    async def serve(stream):
        try:
            await _serve(instance, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        instance.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield instance
        nursery.cancel_scope.cancel()
