"""What goes wrong between a program, httpx and the sockets, and where it ends."""

import socket
from contextlib import aclosing

import httpx
import pytest
import trio

from econeura_daemon.client import UpstreamTimeoutError, UpstreamUnreachableError, facts_of
from tests.http.test_mesh_client import PATIENCE, at, client_of
from tests.support.mesh_upstream import open_upstream


def assert_all_is_back(client):
    service = client.mesh.services()["workers"]
    state = service.states["w1"]
    assert (service.in_flight, state.limiter.borrowed, state.member.in_flight) == (0, 0, 0)
    assert (service.breaker.statistics().in_flight, state.breaker.statistics().in_flight) == (0, 0)


@pytest.mark.parametrize(
    "service", ["", "Workers", "a b", "workers@elsewhere", "workers/x", "workers:80", "é", "-a"]
)
async def test_what_is_no_service_type_is_said(service):
    with trio.fail_after(PATIENCE):
        async with client_of() as client:
            with pytest.raises(ValueError, match="expected the type of a service, such as 'workers', got"):
                await client.request(service, "GET", "/")


@pytest.mark.parametrize("path", ["", "echo", "@elsewhere/", ".elsewhere/", ":80/"])
async def test_what_is_no_path_is_said(path):
    with trio.fail_after(PATIENCE):
        async with client_of() as client:
            with pytest.raises(ValueError, match="expected a path that begins with /, got"):
                await client.request("workers", "GET", path)


@pytest.mark.parametrize("name", ["my_service", "1", "10-0-0-1", "a-", "a" * 64])
async def test_whatever_is_a_service_type_can_be_called(name):
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port), type_=name) as client:
            assert (await client.request(name, "GET", "/echo")).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"X-A": "b\r\nX-C: d"}},
        {"headers": {"X-A": "b\nc"}},
        {"headers": {"X-A\r\n": "b"}},
        {"headers": {"X-A": "b\0"}},
        {"headers": {"X A": "b"}},
        {"method": "GET /elsewhere HTTP/1.1\r\nX-A: b\r\n\r\nGET"},
        {"method": "GÉT"},
    ],
)
async def test_a_request_that_would_not_stay_within_its_lines_is_never_sent(wrong):
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for _ in range(6):
                with pytest.raises(httpx.LocalProtocolError, match="the request cannot be sent"):
                    await client.request("workers", **{"method": "GET", "path": "/echo", **wrong})
            assert_all_is_back(client)
            assert upstream.requests == []
            assert (await client.request("workers", "GET", "/echo")).status_code == 200


async def test_a_body_whose_length_is_no_number_is_never_sent():
    async def parts():
        yield b"abc"

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            with pytest.raises(httpx.LocalProtocolError, match="its length is '1x'"):
                await client.request(
                    "workers", "PUT", "/echo", content=parts(), headers={"Content-Length": "1x"}
                )
            assert upstream.requests == []


@pytest.mark.parametrize(("length", "flaw"), [("2", "longer"), ("5", "shorter")])
async def test_a_body_of_another_length_than_announced_is_the_callers_failure(length, flaw):
    async def parts():
        yield b"abc"

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for _ in range(6):
                with pytest.raises(httpx.LocalProtocolError, match=f"its body is {flaw} than announced"):
                    async with aclosing(parts()) as body:
                        await client.request(
                            "workers", "PUT", "/echo", content=body, headers={"Content-Length": length}
                        )
            assert_all_is_back(client)
            assert (await client.request("workers", "GET", "/echo")).status_code == 200


async def test_a_body_that_ends_in_an_exception_ends_the_call_with_it_and_breaks_no_breaker():
    class OutOfPaperError(Exception):
        pass

    async def parts():
        yield b"abc"
        await trio.lowlevel.checkpoint()
        raise OutOfPaperError

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for _ in range(6):
                with pytest.raises(OutOfPaperError):
                    await client.request("workers", "PUT", "/echo", content=parts())
            assert_all_is_back(client)
            assert client.mesh.services()["workers"].states["w1"].breaker.statistics().calls == 0
            assert (await client.request("workers", "GET", "/echo")).status_code == 200


async def test_an_answer_that_comes_before_the_upload_is_through_ends_the_upload():
    taken, closed = 0, False

    async def parts():
        nonlocal taken, closed
        try:
            while True:
                taken += 1
                await trio.lowlevel.checkpoint()
                yield b"x" * 65536
        finally:
            closed = True

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            async with aclosing(parts()) as body:
                answer = await client.request("workers", "PUT", "/early", content=body)
                assert (answer.status_code, answer.content) == (413, b"too much")
                before = taken
                assert_all_is_back(client)
                assert (await client.request("workers", "GET", "/echo")).status_code == 200
                assert taken == before
            assert closed


async def test_cookies_of_one_caller_are_not_sent_by_the_next():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            first = await client.request("workers", "GET", "/headers")
            assert len(first.headers.get_list("set-cookie")) == 2
            await client.http.get("http://workers/headers")
            await client.request("workers", "GET", "/echo")
            await client.http.get("http://workers/echo")
            await client.http.get("http://workers/echo", headers={"Cookie": "mine=1"})
    assert [asked.headers.get(b"cookie") for asked in upstream.requests] == [None] * 4 + [b"mine=1"]


async def test_a_connect_timeout_of_httpx_is_no_deadline():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            timeout = httpx.Timeout(5.0, connect=0.000001, pool=0.000001)
            assert (await client.http.get("http://workers/echo", timeout=timeout)).status_code == 200
            with pytest.raises(UpstreamTimeoutError):
                await client.http.get("http://workers/never", timeout=httpx.Timeout(5.0, read=0.05))


async def test_a_service_that_drips_is_ended_by_the_services_timeout_and_its_own_failure():
    settings = {"timeout_ms": 300, "try_timeout_ms": 100}
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port), **settings) as client:
            with pytest.raises(UpstreamTimeoutError, match="w1 did not bring its answer to an end in time"):
                await client.request("workers", "GET", "/half")
            assert_all_is_back(client)
            assert client.mesh.services()["workers"].states["w1"].breaker.statistics().failures == 1


async def test_an_answer_that_is_closed_by_another_task_wakes_who_reads_it():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            request = client.http.build_request("GET", "http://workers/half")
            answer = await client.http.send(request, stream=True)
            parts = aiter(answer.stream)
            assert await anext(parts) == b"half"
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def close():
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    await answer.aclose()

                with pytest.raises(httpx.TransportError):
                    await anext(parts)
            assert_all_is_back(client)
            assert facts_of(answer).service_id == "w1"


@pytest.mark.parametrize(
    ("method", "sent"), [("POST", 1), ("PATCH", 1), ("GET", 2), ("PUT", 2), ("DELETE", 2)]
)
async def test_what_may_have_been_carried_out_is_not_sent_again_on_a_new_connection(method, sent):
    """The one that was kept ends just when it is used again: perhaps it is old, perhaps the instance died of it."""
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port), retries=0) as client:
            await client.request("workers", "GET", "/echo")
            with pytest.raises(UpstreamUnreachableError):
                await client.request("workers", method, "/gone")
            assert len(upstream.requests) == 1 + sent
            assert_all_is_back(client)


async def test_an_instance_that_accepts_no_connection_is_given_up_after_one_tries_time():
    with trio.fail_after(PATIENCE), socket.socket() as deaf, socket.socket() as one, socket.socket() as other:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (one, other):  # its queue is full then, and the kernel drops who comes
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        await trio.sleep(0.05)
        async with open_upstream() as upstream:
            deaf_one = at("deaf", deaf.getsockname()[1])
            async with client_of(deaf_one, at("w1", upstream.port), try_timeout_ms=100) as client:
                while not client.mesh.services() or client.mesh.services()["workers"].totals.retries == 0:
                    answer = await client.request("workers", "POST", "/echo", content=b"x")
                    assert (answer.status_code, facts_of(answer).service_id) == (200, "w1")
                assert len(upstream.requests) == client.mesh.services()["workers"].totals.requests


async def test_a_request_says_the_length_of_its_body_and_an_answer_to_head_has_none():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for method in ("POST", "PUT", "PATCH", "GET", "DELETE"):
                await client.http.send(httpx.Request(method, "http://workers/echo"))
            answer = await client.request("workers", "HEAD", "/head")
            assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "10")
            assert_all_is_back(client)
    lengths = [asked.headers.get(b"content-length") for asked in upstream.requests]
    assert lengths == [b"0", b"0", b"0", None, None, None]


async def test_a_generator_that_was_interrupted_is_not_sent_again_without_its_rest():
    async def parts():
        yield b"ab"
        await trio.sleep(0.1)
        yield b"cd"

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            async with aclosing(parts()) as body:
                with pytest.raises(UpstreamUnreachableError, match="the body cannot be sent again"):
                    await client.request("workers", "PUT", "/slam", content=body)
            assert len(upstream.requests) == 1
            assert_all_is_back(client)


async def test_an_empty_piece_is_not_the_end_of_a_body():
    async def parts():
        for part in (b"", b"ab", b"", b"cd", b""):
            yield part

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            assert (await client.request("workers", "PUT", "/echo", content=parts())).content == b"abcd"
