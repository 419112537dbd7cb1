"""The API over real sockets: what in-process clients cannot show."""

import json

import h11
import pytest
import trio

from econeura_daemon.api import scope_of
from econeura_daemon.api.app import ROUTES
from tests.http.server_rig import Client, request, serving
from tests.support.api_world import open_stored_world

EVENT = json.dumps({"type": "order.paid", "data": {"n": 1}}).encode()
JSON = "Content-Type: application/json\r\n"


@pytest.fixture
async def rig(tmp_path):
    with trio.fail_after(60):
        async with open_stored_world(tmp_path) as world, serving(world.app, scope_of=scope_of) as opened:
            yield opened


async def test_head_and_get_share_one_connection_and_say_the_same_length(rig):
    async with Client(await rig.connect()) as client:
        for route in ROUTES:
            if route.method != "GET" or "{id}" in route.path or route.path == "/v1/stream":
                continue
            await client.send(request(route.path, method="HEAD"))
            head = await client.answer(method="HEAD")
            await client.send(request(route.path))
            got = await client.answer()
            assert (head.status, got.status, head.body) == (200, 200, b"")
            if route.path not in {"/metrics", "/health"}:  # these change from one answer to the next
                assert int(head.headers["content-length"]) == len(got.body)


async def test_an_answer_without_a_body_leaves_the_connection_in_order(rig):
    async with Client(await rig.connect()) as client:
        body = json.dumps({"url": "https://receiver.example/", "events": ["*"]}).encode()
        await client.send(request("/v1/webhooks/subscriptions", body=body, headers=JSON))
        made = json.loads((await client.answer()).body)["data"]
        await client.send(request(f"/v1/webhooks/subscriptions/{made['id']}", method="DELETE"))
        assert (await client.answer(method="DELETE")).status == 200
        await client.send(request("/v1/events", method="OPTIONS"))
        assert (await client.answer(method="OPTIONS")).status == 204
        await client.send(request("/v1/events"))
        assert (await client.answer()).status == 200


class StreamReader:
    """Reads the body of one answer that does not end."""

    def __init__(self, client):
        self._client = client
        self._parser = h11.Connection(h11.CLIENT)
        self._parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        self._parser.send(h11.EndOfMessage())

    async def read(self, until):
        """Return what comes, up to a piece that holds ``until``."""
        body = b""
        while until not in body:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                self._parser.receive_data(await self._client.stream.receive_some(65536))
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.Response), event
        return body

    async def end(self):
        """Wait for the end of the answer; fails if it breaks off."""
        while not isinstance(event := self._parser.next_event(), h11.EndOfMessage):
            assert event is h11.NEED_DATA, event
            self._parser.receive_data(await self._client.stream.receive_some(65536))


async def test_a_stream_brings_what_is_published_beside_it(rig):
    async with Client(await rig.connect()) as reader, Client(await rig.connect()) as client:
        await reader.send(request("/v1/stream"))
        stream = StreamReader(reader)
        await stream.read(b"retry: 1000\n\n")
        await client.send(request("/v1/events", body=EVENT, headers=JSON))
        published = json.loads((await client.answer()).body)["data"]
        came = await stream.read(b"\n\n")
        assert came.startswith(b"id: 1\nevent: order.paid\n")
        assert published["id"].encode() in came


async def test_a_stream_ends_in_order_when_the_server_drains(rig):
    async with Client(await rig.connect()) as reader:
        await reader.send(request("/v1/stream"))
        stream = StreamReader(reader)
        await stream.read(b"retry: 1000\n\n")
        rig.server.stop_accepting()
        await stream.end()
        await reader.is_closed()


async def test_a_reader_that_leaves_is_forgotten(rig):
    for _ in range(5):
        async with Client(await rig.connect()) as reader:
            await reader.send(request("/v1/stream"))
            await StreamReader(reader).read(b"retry")
    await rig.wait_for_connections(0)
