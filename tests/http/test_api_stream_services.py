"""What discovery says on the stream: the registry's events like all others, and the heartbeat that is not stored."""

import json
from datetime import timedelta
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.api.stream import KEEP_ALIVE
from econeura_daemon.daemon.itself import Itself
from econeura_daemon.events.passing import KEPT
from econeura_daemon.probes import Outcome, ProbeResult
from tests.support.api_world import open_stored_world, open_world
from tests.support.inline_store import open_inline_store
from tests.support.streams import open_stream

WEB = {"type": "web", "host": "127.0.0.1", "port": 80}


@pytest.fixture
async def world():
    with trio.fail_after(3600):
        async with open_inline_store() as store, open_world(store) as opened:
            yield opened


async def register(world, key, **fields):
    answer = await world.post("/v1/services", {**WEB, "id": key, **fields})
    assert answer.status_code in {200, 201}


def data(message):
    return json.loads(message.data)["data"]


async def test_what_befalls_an_instance_is_told_as_it_is_committed(world, autojump_clock):
    async with open_stream(world.asgi, "types=service.*") as reader:
        await register(world, "a", endpoints=[{"endpoint": "/x"}])
        await trio.sleep(1)
        await world.client.put("/v1/services/a/drain")
        await world.client.delete("/v1/services/a")
        seen = await reader.take(5)
    assert [message.event for message in seen] == [
        "service.registered",
        "service.endpoints_registered",
        "service.status_changed",
        "service.status_changed",
        "service.deregistered",
    ]
    changes = [(data(one)["previousStatus"], data(one)["newStatus"]) for one in seen[2:4]]
    assert changes == [("unknown", "healthy"), ("healthy", "draining")]
    assert {data(one)["service"]["id"] for one in seen} == {"a"}
    assert [sorted(data(one).keys() - {"service"}) for one in seen] == [
        ["replaced"],
        ["endpoints"],
        ["newStatus", "previousStatus", "reason"],
        ["newStatus", "previousStatus", "reason"],
        ["reason"],
    ]
    assert [one.id for one in seen] == list(range(seen[0].id, seen[0].id + 5))
    for one in seen:
        event = json.loads(one.data)
        assert (await world.client.get(f"/v1/events/{event['id']}")).json()["data"] == event


async def test_a_reader_may_ask_for_changes_of_status_alone(autojump_clock):
    healthy = True

    async def probe(_said, _check):
        await trio.lowlevel.checkpoint()
        return ProbeResult(outcome=Outcome.PASS if healthy else Outcome.FAIL, detail="HTTP 503 'db down'")

    async with (
        open_inline_store() as store,
        open_world(store, probe=probe) as world,
        open_stream(world.asgi, "types=service.status_changed") as reader,
    ):
        await register(world, "a")
        assert data(await reader.next())["newStatus"] == "healthy"
        healthy = False
        told = data(await reader.next())
        assert (told["previousStatus"], told["newStatus"]) == ("healthy", "unhealthy")
        assert told["reason"] == "3 failures in a row: HTTP 503 'db down'"
        assert told["service"]["status"] == "unhealthy"


@pytest.mark.parametrize("how", ["Last-Event-ID", "after"])
async def test_a_reader_resumes_across_restarts_without_gap_or_repeat(tmp_path, how):
    """The daemon ends while a reader is in the middle, and while instances come and go."""
    seen = []

    async def follow(world, count):
        last = seen[-1].id if seen else 0
        query, header = (
            ("types=service.*", last) if how == "Last-Event-ID" else (f"types=service.*&after={last}", None)
        )
        async with open_stream(world.asgi, query, last_event_id=header) as reader:
            for message in await reader.take(count):
                assert message is not None
                seen.append(message)

    with trio.fail_after(60):
        for run in range(3):
            async with open_stored_world(tmp_path) as world:
                world.clock.shift = timedelta(days=run)  # or it would make the ids of the run before
                for number in range(20):
                    await register(world, f"{run}-{number}", ttlMs=3_600_000)
                    await register(world, f"{run}-{number}", ttlMs=3_600_000, weight=7)
                await follow(world, 17)
                for number in range(10):
                    await world.client.delete(f"/v1/services/{run}-{number}")
        async with open_stored_world(tmp_path) as world:
            await follow(world, 150 - len(seen))
            kept = []
            cursor = ""
            while cursor is not None:
                page = (
                    await world.client.get(
                        "/v1/events", params={"type": "service.*", "limit": 40, **cursor_of(cursor)}
                    )
                ).json()["data"]
                kept += page["items"]
                cursor = page["nextCursor"]
    assert [json.loads(one.data) for one in seen] == kept[::-1]
    assert len(seen) == 150


def cursor_of(text):
    return {"cursor": text} if text else {}


def heart_of(world):
    services = world.services
    return Itself(
        services.registry, services.settings.discovery, services.log.passing, world.clock, Random(1)
    )


async def test_a_heartbeat_comes_every_interval_with_counts_and_no_cursor_and_is_not_kept(
    world, autojump_clock
):
    async with trio.open_nursery() as nursery, open_stream(world.asgi) as reader:
        await nursery.start(heart_of(world).run, ["http://127.0.0.1:3001"])
        assert [one.event for one in await reader.take(2)] == [
            "service.registered",
            "service.endpoints_registered",
        ]
        begun = trio.current_time()
        first, second = await reader.take(2)
        assert trio.current_time() - begun == pytest.approx(20)
        assert second.event == "daemon.heartbeat"
        assert (first.id, first.event) == (None, "daemon.heartbeat")
        event = json.loads(first.data)
        assert (event["type"], event["data"]) == (
            "daemon.heartbeat",
            {"servicesCount": 1, "healthyServices": 1},
        )
        await register(world, "a")
        assert [one.event for one in await reader.take(2)] == ["service.registered", "service.status_changed"]
        assert data(await reader.next()) == {"servicesCount": 2, "healthyServices": 2}
        assert (await world.client.get(f"/v1/events/{event['id']}")).status_code == 404
        stored = (await world.client.get("/v1/events")).json()["data"]["items"]
        assert {one["type"].partition(".")[0] for one in stored} == {"service"}
        async with open_stream(world.asgi, "after=0") as late:
            assert {one.event.partition(".")[0] for one in await late.take(len(stored))} == {"service"}
        nursery.cancel_scope.cancel()


async def test_a_heartbeat_is_filtered_like_everything_else(world, autojump_clock):
    async with trio.open_nursery() as nursery:
        await nursery.start(heart_of(world).run, ["unix:/run/e.sock"])
        async with (
            open_stream(world.asgi, "types=daemon.*") as hearts,
            open_stream(world.asgi, "types=order.*") as orders,
        ):
            with trio.move_on_after(61):
                await orders.next()
            assert orders.comments == 1 + 4, "it is quiet on that stream, but for what keeps it open"
            assert [one.event for one in await hearts.take(6)] == ["daemon.heartbeat"] * 6
        nursery.cancel_scope.cancel()


async def test_a_reader_that_takes_nothing_holds_the_newest_heartbeats_and_misses_no_event(
    world, autojump_clock
):
    async with trio.open_nursery() as nursery, open_stream(world.asgi) as reader:
        await nursery.start(heart_of(world).run, ["unix:/run/e.sock"])
        await trio.sleep(1000)
        await world.post("/v1/events", {"type": "order.paid", "data": {}})
        seen = []
        while not seen or seen[-1].event != "order.paid":
            seen.append(await reader.next())
        assert len(seen) <= KEPT + 3
        instants = [json.loads(one.data)["timestamp"] for one in seen]
        assert instants == sorted(instants)
        nursery.cancel_scope.cancel()


async def test_events_that_do_not_match_do_not_keep_a_stream_silent(world, autojump_clock):
    """Proxies close what says nothing; each of these events wakes the stream, and none is for the reader."""
    async with trio.open_nursery() as nursery, open_stream(world.asgi, "types=rare") as reader:

        async def publish():
            while True:
                await world.post("/v1/events", {"type": "often", "data": {}})
                await trio.sleep(3.5)  # never together with a comment

        nursery.start_soon(publish)
        with trio.move_on_after(KEEP_ALIVE * 4 + 1):
            await reader.next()
        assert reader.comments == 1 + 4
        ids = [int(line.partition(" ")[2]) for line in reader.raw.splitlines() if line.startswith("id:")]
        assert ids == [0, 5, 9, 13, 18], "whoever resumes does so from there"
        nursery.cancel_scope.cancel()


async def test_a_stream_that_waits_for_the_next_heartbeat_ends_with_the_drain(world, autojump_clock):
    async with trio.open_nursery() as nursery, open_stream(world.asgi, "types=daemon.*") as reader:
        await nursery.start(heart_of(world).run, ["unix:/run/e.sock"])
        await reader.take(2)
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        world.drain.begin()
        assert await reader.next() is None
        assert trio.current_time() == begun
        nursery.cancel_scope.cancel()
