"""A reader of Server-Sent Events that drives the ASGI app itself, so that Trio's test clock can be ahead of it."""

from contextlib import asynccontextmanager

import attrs
import trio


@attrs.frozen
class Message:
    """One event as it came: ``id`` and ``event`` None where they were not sent."""

    id: int | None
    event: str | None
    data: str


def parse(block):
    """Read one block of a stream; None for a block that dispatches nothing."""
    fields = {}
    for line in block.split("\n"):
        name, _, value = line.partition(": ")
        if name and not line.startswith(":"):
            fields[name] = value
    if "data" not in fields:
        return None
    return Message(int(fields["id"]) if "id" in fields else None, fields.get("event"), fields["data"])


class Reader:
    """What came over one stream."""

    def __init__(self, channel):
        self._channel = channel
        self._text = ""
        self.raw = ""
        """All that came."""
        self.status = None
        self.headers = {}
        self.comments = 0

    async def begin(self):
        """Wait for the head of the answer."""
        start = await self._channel.receive()
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}

    async def next(self):
        """Return the next event; None at the end of the stream."""
        while True:
            while "\n\n" in self._text:
                block, _, self._text = self._text.partition("\n\n")
                if block.startswith(":"):
                    self.comments += 1
                message = parse(block)
                if message is not None:
                    return message
            try:
                piece = await self._channel.receive()
            except trio.EndOfChannel:
                return None
            self._text += piece["body"].decode()
            self.raw += piece["body"].decode()

    async def take(self, count):
        """Return the next ``count`` events."""
        return [await self.next() for _ in range(count)]


@asynccontextmanager
async def open_stream(asgi, query="", *, last_event_id=None, room=0):
    """Open ``/v1/stream``; ``room`` is how many pieces wait for the reader before the sender does."""
    send_channel, receive_channel = trio.open_memory_channel(room)
    headers = [(b"host", b"localhost:3001")]
    if last_event_id is not None:
        headers.append((b"last-event-id", str(last_event_id).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/stream",
        "raw_path": b"/v1/stream",
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 40000),
        "server": ("localhost", 3001),
    }
    asked = False

    async def receive():
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return await trio.sleep_forever()

    async def serve():
        async with send_channel:
            await asgi(scope, receive, send_channel.send)

    async with trio.open_nursery() as nursery, receive_channel:
        nursery.start_soon(serve)
        reader = Reader(receive_channel)
        await reader.begin()
        yield reader
        nursery.cancel_scope.cancel()
