"""One request and its answer, between the reader of the connection and the application."""

from collections import deque

import attrs
import trio

from econeura_daemon.server.asgi import Message
from econeura_daemon.server.framing import Head


@attrs.define(eq=False)
class Exchange:
    """What both sides know of it."""

    head: Head
    messages: deque[Message] = attrs.field(factory=deque)
    """What the application has not taken yet. It has no bound of its own: the reader keeps to `unread`."""
    arrived: trio.Event = attrs.field(factory=trio.Event)
    unread: int = 0
    """Bytes of the body among the messages."""
    room: trio.Event = attrs.field(factory=trio.Event)
    """Set when the application took something."""
    is_started: bool = False
    """Something of the answer was written: it cannot be replaced by another."""
    streams: bool = False
    """The answer did not say its length: it may go on for long."""
    is_finished: bool = False
    """The answer is complete, or never will be; what the application still sends is dropped."""
    is_muted: bool = False
    """The reader answered in the application's place."""
    keeps_alive: bool = False
    """Another request may follow."""
    over: trio.Event = attrs.field(factory=trio.Event)
    """Set once the answer is finished and written."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around the application."""

    def put(self, message: Message) -> None:
        """Queue a message for the application."""
        self.messages.append(message)
        self.unread += len(message.get("body", b""))
        self.arrived.set()

    async def take(self) -> Message:
        """Return the application's next message; after the exchange's end that is always the disconnect."""
        while not self.messages:
            if self.over.is_set():
                await trio.lowlevel.checkpoint()
                return {"type": "http.disconnect"}
            self.arrived = trio.Event()
            await self.arrived.wait()
        message = self.messages.popleft()
        self.unread -= len(message.get("body", b""))
        self.room.set()
        return message
