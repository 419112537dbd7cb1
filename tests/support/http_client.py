"""A client on one keep-alive connection: bytes and h11, nothing that lingers when the peer is killed."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import attrs
import h11
import trio


class GoneError(Exception):
    """The peer closed or reset the connection before it answered."""


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.document["data"]


class Client:
    """Sends one request after the other."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._connection = h11.Connection(h11.CLIENT)

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow: the last answer did not end the connection."""
        return self._connection.our_state is h11.IDLE

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        return await self.request("GET", path + (f"?{urlencode(query)}" if query else ""))

    async def post(self, path: str, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.request("POST", path, json.dumps(document).encode(), headers)

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        sent = {"Host": self._host, "Content-Length": str(len(body)), **(headers or {})}
        if body:
            sent.setdefault("Content-Type", "application/json")
        request = h11.Request(method=method, target=target, headers=list(sent.items()))
        raw = self._connection.send(request) + self._connection.send(h11.Data(data=body))
        try:
            await self._stream.send_all(raw + self._connection.send(h11.EndOfMessage()))
            return await self._answer()
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise GoneError(str(error)) from None

    async def stream(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[str]:
        """Yield the pieces of an answer that goes on, as they come; it ends with the connection."""
        request = h11.Request(method="GET", target=path, headers=[("Host", self._host), *headers.items()])
        raw = self._connection.send(request) + self._connection.send(h11.EndOfMessage())
        try:
            await self._stream.send_all(raw)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    self._connection.receive_data(await self._stream.receive_some(65536))
                elif isinstance(event, h11.Data):
                    yield bytes(event.data).decode()
                elif not isinstance(event, h11.Response):
                    return
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise GoneError(str(error)) from None

    async def _answer(self) -> Answer:
        status, headers, body = 0, {}, bytearray()
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                self._connection.receive_data(await self._stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE:
                    self._connection.start_next_cycle()
                return Answer(status, headers, bytes(body))
            else:
                raise GoneError("closed")


@asynccontextmanager
async def open_client(url: str) -> AsyncGenerator[Client]:
    """Connect for the length of the block."""
    parts = urlsplit(url)
    try:
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    except OSError as error:
        raise GoneError(str(error)) from None
    async with stream:
        yield Client(stream, parts.netloc)
