"""The client of the mesh over real sockets."""

from random import Random

import httpx
import pytest
import trio

from econeura_daemon.client import (
    UpstreamTimeoutError,
    UpstreamUnreachableError,
    facts_of,
    open_client,
)
from econeura_daemon.core.settings import MeshSettings
from tests.support.mesh_rig import instance
from tests.support.mesh_upstream import open_upstream

PATIENCE = 20


def client_of(*instances, type_="workers", **settings):
    return open_client(
        resolve=lambda name: instances if name == type_ else (),
        settings_of=lambda _: MeshSettings(**settings),
        rng=Random(7),
    )


def at(name, port, host="127.0.0.1", **more):
    return instance(name, port=port, host=host, **more)


async def test_a_service_is_called_in_one_line():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            answer = await client.request("workers", "POST", "/echo?x=1", json={"a": 1})
            assert (answer.status_code, answer.json()) == (200, {"a": 1})
            assert facts_of(answer).service_id == "w1"
            assert facts_of(answer).attempts == 1
            assert 0 < facts_of(answer).seconds < PATIENCE
    (asked,) = upstream.requests
    assert asked.line == b"POST /echo?x=1 HTTP/1.1"
    assert asked.headers[b"host"] == b"127.0.0.1:%d" % upstream.port
    assert asked.headers[b"content-length"] == b"7"
    assert 29_000 < int(asked.headers[b"x-timeout-ms"]) <= 30_000
    assert len(asked.headers[b"traceparent"]) == 55


async def test_httpx_calls_services_by_host_names():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            async with client.http.stream("GET", "http://workers/echo") as answer:
                assert [part async for part in answer.aiter_raw()] == []
            assert client.mesh.services()["workers"].in_flight == 0


async def test_connections_are_kept():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for _ in range(3):
                await client.request("workers", "PUT", "/echo", content=b"abcd")
            assert upstream.connections == 1


async def test_connections_are_kept_after_streamed_bodies():
    async def parts():
        for part in (b"ab", b"cd"):
            await trio.lowlevel.checkpoint()
            yield part

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for _ in range(50):
                for more in ({}, {"headers": {"Content-Length": "4"}}):
                    response = await client.request("workers", "PUT", "/echo", content=parts(), **more)
                    assert response.content == b"abcd"
            assert upstream.connections == 1


async def test_a_streamed_body_goes_in_chunks():
    async def parts():
        for part in (b"ab", b"cd"):
            await trio.lowlevel.checkpoint()
            yield part

    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            answer = await client.request("workers", "PUT", "/echo", content=parts())
            assert answer.content == b"abcd"
    assert upstream.requests[0].headers[b"transfer-encoding"] == b"chunked"


async def test_what_nobody_listens_to_is_passed_by():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream:
            dead = at("dead", upstream.unused_port)
            async with client_of(dead, at("w1", upstream.port)) as client:
                for _ in range(20):
                    answer = await client.request("workers", "POST", "/echo")
                    assert facts_of(answer).service_id == "w1"
            async with client_of(dead) as client:
                with pytest.raises(UpstreamUnreachableError, match="connection refused"):
                    await client.request("workers", "GET", "/")


async def test_a_timeout_is_the_whole_answers():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream, client_of(at("w1", upstream.port)) as client:
            for path in ("/never", "/half"):
                with pytest.raises(UpstreamTimeoutError):
                    await client.request("workers", "GET", path, timeout=0.2)
            assert client.mesh.services()["workers"].in_flight == 0
            assert client.mesh.services()["workers"].states["w1"].limiter.borrowed == 0


async def test_a_clouds_metadata_is_never_called():
    with trio.fail_after(PATIENCE):
        async with client_of(at("m", 80, host="169.254.169.254")) as client:
            with pytest.raises(UpstreamUnreachableError, match="is never called: a cloud's metadata"):
                await client.request("workers", "GET", "/")


async def test_host_and_certificate_are_those_of_the_name_behind_an_address():
    with trio.fail_after(PATIENCE):
        async with open_upstream() as upstream:
            named = at("w1", upstream.port, server_name="workers.internal")
            async with client_of(named) as client:
                await client.request("workers", "GET", "/echo")
    assert upstream.requests[0].headers[b"host"] == b"workers.internal:%d" % upstream.port


async def test_errors_are_httpx_errors():
    with trio.fail_after(PATIENCE):
        async with client_of() as client:
            with pytest.raises(httpx.TransportError):
                await client.request("workers", "GET", "/")
