"""A receiver of webhooks on a real socket: HTTP/1.1 with keep-alive, answers as the test says."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import h11
import trio


@attrs.frozen
class Received:
    """One request, as it came."""

    headers: dict[str, str]
    body: bytes
    path: str


Answer = Callable[[Received], Awaitable[int]]


async def take(_received: Received) -> int:
    return 204


@attrs.define
class Receiver:
    """Collects what arrives."""

    url: str
    received: list[Received] = attrs.field(factory=list)
    arrived: trio.Event = attrs.field(factory=trio.Event)

    async def wait_for(self, n: int) -> None:
        """Return once ``n`` requests have arrived."""
        while len(self.received) < n:
            self.arrived = trio.Event()
            await self.arrived.wait()

    def ids(self) -> set[str]:
        """Return the webhook-ids that arrived."""
        return {one.headers["webhook-id"] for one in self.received}


@asynccontextmanager
async def open_receiver(answer: Answer = take) -> AsyncGenerator[Receiver]:
    """Receive on a free loopback port for the length of the block."""
    async with trio.open_nursery() as nursery:
        receiver = Receiver("")

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                connection = h11.Connection(h11.SERVER)
                while await _serve_one(stream, connection, receiver, answer):
                    connection.start_next_cycle()

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/hook"
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield receiver
        nursery.cancel_scope.cancel()


async def _serve_one(
    stream: trio.SocketStream, connection: h11.Connection, receiver: Receiver, answer: Answer
) -> bool:
    headers: dict[str, str] = {}
    path, body = "", b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return False  # the sender died in mid-request
        if event is h11.NEED_DATA:
            try:
                connection.receive_data(await stream.receive_some(65536))
            except trio.BrokenResourceError:
                return False
        elif isinstance(event, h11.Request):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            path = event.target.decode()
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return False
    one = Received(headers, body, path)
    receiver.received.append(one)
    receiver.arrived.set()
    status = await answer(one)
    head = connection.send(h11.Response(status_code=status, headers=[("Content-Length", "0")]))
    end = connection.send(h11.EndOfMessage())
    try:
        await stream.send_all(head + end)
    except trio.BrokenResourceError:
        return False
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE
