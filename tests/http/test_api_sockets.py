"""The API over real sockets: what in-process clients cannot show."""

import json

import h11
import pytest
import trio

from econeura_daemon.api import scope_of
from econeura_daemon.api.app import ROUTES
from tests.http.server_rig import Client, request, serving
from tests.support.api_world import open_sqlite_world

EVENT = json.dumps({"type": "order.paid", "data": {"n": 1}}).encode()
JSON = "Content-Type: application/json\r\n"


@pytest.fixture
async def rig(tmp_path):
    with trio.fail_after(60):
        async with open_sqlite_world(tmp_path) as world, serving(world.app, scope_of=scope_of) as opened:
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


async def stream_of(client, until):
    """Read the stream's body until it holds ``until``; return all of it. None: to the end."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    body = b""
    while until is None or until not in body:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(await client.stream.receive_some(65536))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body
    return body


async def test_a_stream_brings_what_is_published_beside_it_and_ends_with_the_drain(rig):
    async with Client(await rig.connect()) as reader, Client(await rig.connect()) as client:
        await reader.send(request("/v1/stream?after=0"))
        await client.send(request("/v1/events", body=EVENT, headers=JSON))
        published = json.loads((await client.answer()).body)["data"]
        async with trio.open_nursery() as nursery:

            async def drain_once_read(text):
                assert published["id"].encode() in text
                rig.server.stop_accepting()

            came = []

            async def read():
                came.append(await stream_of(reader, None))

            nursery.start_soon(read)
            async with Client(await rig.connect()) as other:
                await other.send(request("/v1/stream?after=0"))
                await drain_once_read(await stream_of(other, b"\n\nid: 1\nevent: order.paid\n"))
        assert b"event: order.paid" in came[0]


async def test_a_reader_that_leaves_is_forgotten(rig):
    for _ in range(5):
        async with Client(await rig.connect()) as reader:
            await reader.send(request("/v1/stream"))
            await stream_of(reader, b"retry")
    await rig.wait_for_connections(0)
