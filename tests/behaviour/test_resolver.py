"""Look-ups: in threads of their own, shared, abandoned by who is cancelled."""

import socket
import threading
from ipaddress import ip_address

import httpx
import pytest
import trio
import trio.testing

from econeura_daemon.wire import resolver as module
from econeura_daemon.wire.resolver import Resolver, open_resolver


@pytest.fixture
def dns(monkeypatch):
    """The system's resolver, scripted: names to answers, errors, or a `threading.Event` to wait for."""
    answers = {}
    calls = []

    def getaddrinfo(host, port, type):  # noqa: A002 - the real one's name
        calls.append(host)
        answer = answers[host]
        if isinstance(answer, threading.Event):
            answer.wait(30)
            answer = ["192.0.2.9"]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, type, 6, "", (text, 0)) for text in answer]

    monkeypatch.setattr(module.socket, "getaddrinfo", getaddrinfo)
    answers["calls"] = calls
    yield answers
    for answer in answers.values():
        if isinstance(answer, threading.Event):
            answer.set()


async def test_the_system_resolves_loopback_names():
    with trio.fail_after(10):
        async with open_resolver() as resolve:
            assert ip_address("127.0.0.1") in await resolve("localhost")


async def test_a_literal_address_asks_nobody(dns):
    async with open_resolver() as resolve:
        assert await resolve("192.0.2.1") == [ip_address("192.0.2.1")]
        assert await resolve("2001:db8::1") == [ip_address("2001:db8::1")]
    assert dns["calls"] == []


async def test_answers_keep_their_order_without_repeats_and_the_second_is_of_the_other_family(dns):
    dns["a.example"] = ["2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1", "192.0.2.2"]
    async with open_resolver() as resolve:
        found = await resolve("a.example")
    assert [str(one) for one in found] == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError("too many open files"),
        UnicodeError("label too long"),
        ValueError("embedded null character"),
        RuntimeError("can't start new thread"),
    ],
)
async def test_a_failed_look_up_is_told_in_words(dns, error):
    dns["a.example"] = error
    async with open_resolver() as resolve:
        with pytest.raises(httpx.ConnectError, match=r"'a\.example' cannot be resolved: ."):
            await resolve("a.example")


async def test_callers_of_one_name_share_a_look_up_and_later_ones_ask_anew(dns):
    dns["a.example"] = answer = threading.Event()
    found = []
    with trio.fail_after(10):
        async with open_resolver() as resolve:

            async def ask():
                found.extend(await resolve("a.example"))

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                answer.set()
            assert len(found) == 5
            assert dns["calls"] == ["a.example"]
            await ask()
    assert dns["calls"] == ["a.example", "a.example"]


async def test_a_name_that_hangs_holds_up_no_other_name_and_no_other_thread(dns):
    dns["slow.example"], dns["b.example"] = threading.Event(), ["192.0.2.1"]
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, open_resolver() as resolve:
            for _ in range(200):
                nursery.start_soon(resolve, "slow.example")
            await trio.testing.wait_all_tasks_blocked()
            assert await resolve("b.example") == [ip_address("192.0.2.1")]
            assert await trio.to_thread.run_sync(lambda: 1) == 1
            nursery.cancel_scope.cancel()


async def test_look_ups_beyond_the_threads_wait_for_one(dns):
    dns["slow.example"], dns["b.example"] = hanging, _ = threading.Event(), ["192.0.2.1"]
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            resolve = Resolver(nursery, threads=1)
            nursery.start_soon(resolve, "slow.example")
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.05) as scope:
                await resolve("b.example")
            assert scope.cancelled_caught
            hanging.set()
            assert await resolve("b.example") == [ip_address("192.0.2.1")]


async def test_who_is_cancelled_leaves_the_look_up_to_the_others(dns):
    dns["a.example"] = answer = threading.Event()
    found = []
    with trio.fail_after(10):
        async with open_resolver() as resolve, trio.open_nursery() as nursery:

            async def ask(scope):
                with scope:
                    found.extend(await resolve("a.example"))

            first, second = trio.CancelScope(), trio.CancelScope()
            nursery.start_soon(ask, first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, second)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            answer.set()
    assert found == [ip_address("192.0.2.9")]


async def test_who_still_waits_when_the_block_is_left_is_told(dns):
    dns["a.example"] = threading.Event()
    told = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def ask():
                with pytest.raises(httpx.ConnectError, match="abandoned"):
                    await resolve("a.example")
                told.append(True)

            async with open_resolver() as resolve:
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
    assert told


async def test_leaving_the_block_does_not_wait_for_a_look_up_that_hangs(dns):
    dns["a.example"] = threading.Event()
    with trio.fail_after(10):
        async with open_resolver() as resolve:
            with trio.move_on_after(0.02):
                await resolve("a.example")
