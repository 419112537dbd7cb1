"""Bodies of requests: what is sent again, and what is the caller's own to bring."""

import httpx
import pytest
import trio

from econeura_daemon.client import KeptBody, RequestBodyTooSlowError, UpstreamUnreachableError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.primitives import State
from tests.support.mesh_rig import Sent, hang, pieces, raises, read, world


async def test_a_retry_sends_what_was_sent_and_then_the_rest(autojump_clock):
    bodies = []

    async def takes_one_piece(call):
        stream = call.body.stream()
        bodies.append(await anext(aiter(stream)))
        if len(bodies) == 1:
            raise httpx.ReadError("reset")
        bodies.append(await read(stream))
        return Sent()

    mesh = world("a", behaviours={"a": takes_one_piece})
    assert await mesh.call("PUT", body=KeptBody(pieces(b"ab", b"cd", b"ef"), 6)) == (200, b"ok")
    assert bodies == [b"ab", b"ab", b"cdef"]


async def test_a_generator_that_was_interrupted_is_not_taken_for_its_end(autojump_clock):
    async def parts():
        yield b"ab"
        await trio.sleep(15)  # longer than one try
        yield b"cd"

    generator = parts()

    async def more():
        return await anext(generator, b"")

    async def takes_it(call):
        return Sent(parts=[await read(call.body.stream())])

    mesh = world("a", behaviours={"a": takes_it}, settings=MeshSettings(try_timeout_ms=10_000))
    with pytest.raises(RequestBodyTooSlowError):
        await mesh.call("PUT", body=KeptBody(more, 4, is_resumable=False))
    assert len(mesh.asked) == 1
    mesh.assert_all_is_back()
    await generator.aclose()


async def test_a_request_that_cannot_be_sent_is_nobodys_failure(autojump_clock):
    mesh = world("a", behaviours={"a": raises(httpx.LocalProtocolError("no"))})
    for _ in range(10):
        with pytest.raises(httpx.LocalProtocolError):
            await mesh.call()
    assert mesh.service.states["a"].breaker.state is State.CLOSED
    mesh.assert_all_is_back()


async def test_a_non_replayable_body_is_not_retried(autojump_clock):
    """Of a generator nothing is there twice once it has begun; of any body, nothing beyond 64 KiB."""

    async def takes_it_and_fails(call):
        await read(call.body.stream())
        raise httpx.ReadError("reset")

    half = 32 * 1024
    for last, attempts in ((half, 4), (half + 1, 1)):
        mesh = world("a", behaviours={"a": takes_it_and_fails})
        with pytest.raises(UpstreamUnreachableError):
            await mesh.call("PUT", body=KeptBody(pieces(b"a" * half, b"b" * last), None))
        assert len(mesh.asked) == attempts
        mesh.assert_all_is_back()


async def test_what_an_instance_had_taken_before_it_hung_is_sent_again_to_the_next(autojump_clock):
    bodies = []

    async def hangs_in_the_middle(call):
        bodies.append(await anext(call.body.stream()))
        if len(bodies) == 1:
            await hang(call)
        bodies.append(await read(call.body.stream()))
        return Sent()

    mesh = world("a", "b", behaviours=dict.fromkeys("ab", hangs_in_the_middle))
    assert await mesh.call("PUT", body=KeptBody(pieces(b"ab", b"cd", b"ef"), 6)) == (200, b"ok")
    assert bodies == [b"ab", b"ab", b"abcdef"]
    assert len(set(mesh.asked)) == 2
    mesh.assert_all_is_back()
