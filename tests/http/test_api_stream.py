"""The live stream: every event once and in order, wherever a reader resumes, however slow it is."""

import json

import pytest
import sqlalchemy as sa
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.api import stream as streaming
from econeura_daemon.api.stream import BATCH, FIRST_BATCH, KEEP_ALIVE, MAX_BEHIND, Start, lagged, start_of
from econeura_daemon.core.errors import StoreUnavailableError
from tests.support.api_world import open_stored_world, open_world
from tests.support.inline_store import open_inline_store
from tests.support.streams import open_stream


@pytest.fixture
async def world():
    # under the test's clock a stream that says nothing says so for ever: a loop, not a wait
    with trio.fail_after(3600):
        async with open_inline_store() as store, open_world(store) as opened:
            yield opened


async def publish(world, *types):
    for kind in types:
        answer = await world.post("/v1/events", {"type": kind, "data": {"kind": kind}})
        assert answer.status_code == 202


async def publish_many(world, count):
    for start in range(0, count, 1000):
        size = min(1000, count - start)
        answer = await world.post("/v1/events/batch", {"events": [{"type": "a", "data": {}}] * size})
        assert answer.status_code == 202


async def test_a_new_reader_sees_what_comes_and_nothing_from_before(world, autojump_clock):
    await publish(world, "before")
    async with open_stream(world.asgi) as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-store"
        await publish(world, "order.paid")
        message = await reader.next()
        assert (message.id, message.event) == (2, "order.paid")
        event = json.loads(message.data)
        assert (event["type"], event["data"]) == ("order.paid", {"kind": "order.paid"})
        stored = await world.client.get(f"/v1/events/{event['id']}")
        assert stored.json()["data"] == event


async def test_a_reader_resumes_behind_its_last_event_without_gap_or_repeat(world, autojump_clock):
    await publish(world, *(f"e{number}" for number in range(250)))
    seen = []
    while len(seen) < 250:
        last = seen[-1].id if seen else 0
        async with open_stream(world.asgi, last_event_id=last) as reader:
            seen += await reader.take(min(37, 250 - len(seen)))
    assert [message.event for message in seen] == [f"e{number}" for number in range(250)]


async def test_last_event_id_wins_over_after_and_an_empty_one_counts_as_none(world, autojump_clock):
    await publish(world, "a", "b", "c")
    async with open_stream(world.asgi, "after=0", last_event_id=2) as reader:
        assert (await reader.next()).event == "c"
    async with open_stream(world.asgi, "after=1", last_event_id="") as reader:
        assert (await reader.next()).event == "b"


async def test_types_choose_by_pattern(world, autojump_clock):
    async with open_stream(world.asgi, "types=order.*,exact") as reader:
        await publish(world, "order", "order.paid", "other", "exact", "exact.not", "order.a.b")
        assert [one.event for one in await reader.take(3)] == ["order.paid", "exact", "order.a.b"]


async def test_a_filter_that_matches_nothing_for_long_loses_nothing_behind_it(world, autojump_clock):
    await publish_many(world, 3 * BATCH + 1)
    await publish(world, "rare")
    async with open_stream(world.asgi, "types=rare&after=0") as reader:
        assert (await reader.next()).event == "rare"


async def test_a_comment_every_15_seconds_keeps_the_connection_open(world, autojump_clock):
    async with open_stream(world.asgi) as reader:
        begun = trio.current_time()
        with trio.move_on_after(KEEP_ALIVE * 4 + 1):
            await reader.next()
        assert reader.comments == 1 + 4  # the first opens the stream
        await publish(world, "a")
        assert (await reader.next()).event == "a"
        assert trio.current_time() - begun == pytest.approx(KEEP_ALIVE * 4 + 1)


async def test_a_stream_ends_when_the_daemon_drains(world, autojump_clock):
    async with open_stream(world.asgi) as reader:
        await publish(world, "a")
        assert (await reader.next()).event == "a"
        await wait_all_tasks_blocked()  # it waits for more by now
        begun = trio.current_time()
        world.drain.begin()
        assert await reader.next() is None
        assert trio.current_time() == begun


async def test_a_stream_gives_its_slot_back(world, autojump_clock):
    limit = world.services.settings.http.max_concurrent_requests
    async with trio.open_nursery() as nursery:
        opened = 0

        async def follow():
            nonlocal opened
            async with open_stream(world.asgi) as reader:
                opened += 1
                await reader.next()

        for _ in range(limit * 2 + 5):
            nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        assert opened == limit * 2 + 5
        assert (await world.client.get("/v1/events")).status_code == 200
        nursery.cancel_scope.cancel()


async def test_a_reader_that_takes_nothing_makes_the_stream_read_nothing_more(world, autojump_clock):
    await publish_many(world, 10 * BATCH)
    readings = 0
    after = world.services.log.after

    async def counted(*arguments):
        nonlocal readings
        readings += 1
        return await after(*arguments)

    world.services.log.after = counted
    async with open_stream(world.asgi, "after=0") as reader:
        await wait_all_tasks_blocked()
        assert readings <= 2
        assert len(await reader.take(10 * BATCH)) == 10 * BATCH


async def test_large_events_are_read_a_few_at_a_time(world, autojump_clock):
    for number in range(12):
        await world.post("/v1/events", {"type": f"e{number}", "data": {"x": "y" * 200_000}})
    asked = []
    after = world.services.log.after

    async def noted(cursor, patterns, limit):
        asked.append(limit)
        return await after(cursor, patterns, limit)

    world.services.log.after = noted
    async with open_stream(world.asgi, "after=0") as reader:
        assert len(await reader.take(12)) == 12
    assert asked[:2] == [FIRST_BATCH, FIRST_BATCH // 2]


async def test_a_reader_at_the_end_that_falls_far_behind_is_told_and_closed(world, autojump_clock):
    async with open_stream(world.asgi) as reader:
        await publish(world, "a")
        assert (await reader.next()).event == "a"
        await wait_all_tasks_blocked()  # at the log's end, and waiting
        await publish_many(world, MAX_BEHIND + 5 * BATCH)
        seen = []
        while (message := await reader.next()) is not None:
            seen.append(message)
        *events, last = seen
        assert last.event == "lagged"
        told = json.loads(last.data)
        assert told == {"cursor": events[-1].id, "lost": False}
        assert last.id == told["cursor"]
    async with open_stream(world.asgi, last_event_id=last.id) as reader:
        rest = await reader.take(MAX_BEHIND + 5 * BATCH - len(events))
    ids = [message.id for message in [*events, *rest]]
    assert ids == list(range(2, MAX_BEHIND + 5 * BATCH + 2))


async def test_a_reader_that_catches_up_from_far_behind_is_left_alone(world, autojump_clock):
    await publish_many(world, MAX_BEHIND + 5 * BATCH)
    async with open_stream(world.asgi, "after=0") as reader:
        messages = await reader.take(MAX_BEHIND + 5 * BATCH)
    assert [message.event for message in messages] == ["a"] * len(messages)


async def forget_up_to(world, cursor):
    def forget(connection):
        connection.execute(sa.text("DELETE FROM events WHERE cursor <= :cursor"), {"cursor": cursor})

    await world.services.store.transact(forget)


async def test_a_cursor_older_than_what_is_kept_is_told_what_is_lost_then_gets_the_oldest(
    world, autojump_clock
):
    await publish(world, *(f"e{number}" for number in range(1, 11)))
    await forget_up_to(world, 6)
    async with open_stream(world.asgi, last_event_id=3) as reader:
        first, second = await reader.take(2)
        assert (first.event, json.loads(first.data)) == ("lagged", {"cursor": 6, "lost": True})
        assert (second.id, second.event) == (7, "e7")
    async with open_stream(world.asgi, last_event_id=6) as reader:
        assert (await reader.next()).event == "e7"


async def test_what_is_cleaned_away_under_a_slow_reader_is_not_lost_silently(world, autojump_clock):
    await publish_many(world, 5 * BATCH)
    async with open_stream(world.asgi, "after=0") as reader:
        seen = await reader.take(1)
        await wait_all_tasks_blocked()
        await forget_up_to(world, 4 * BATCH)
        while (message := await reader.next()) is not None:
            seen.append(message)
    *events, last = seen
    assert last.event == "lagged"
    assert [one.id for one in events] == list(range(1, len(events) + 1))
    async with open_stream(world.asgi, last_event_id=last.id) as reader:
        first, second = await reader.take(2)
        assert json.loads(first.data)["lost"] is True
        assert second.id == 4 * BATCH + 1


async def test_a_stream_whose_log_cannot_be_read_ends_and_can_be_resumed(world, autojump_clock):
    async with open_stream(world.asgi) as reader:
        await publish(world, "a")
        assert (await reader.next()).event == "a"
        await wait_all_tasks_blocked()
        world.services.store.trouble = StoreUnavailableError("gone")
        world.services.store.announce_from_elsewhere("events")
        assert await reader.next() is None
    world.services.store.trouble = None
    async with open_stream(world.asgi, last_event_id=1) as reader:
        await publish(world, "b")
        assert (await reader.next()).event == "b"


@pytest.mark.parametrize(
    ("asked", "bounds", "start"),
    [
        (None, (0, 0), Start(0)),
        (None, (5, 9), Start(9)),
        (7, (5, 9), Start(7)),
        (4, (5, 9), Start(4)),
        (3, (5, 9), Start(4, lost=True)),
        (0, (1, 9), Start(0)),
        (0, (5, 9), Start(4, lost=True)),
        (9, (5, 9), Start(9)),
        (10, (5, 9), Start(9, lost=True)),
        (10, (0, 0), Start(10)),
    ],
)
def test_where_a_stream_begins(asked, bounds, start):
    assert start_of(asked, *bounds) == start


def test_lagged_is_one_event_that_a_browser_resumes_behind():
    assert lagged(7, lost=True) == b'id: 7\nevent: lagged\ndata: {"cursor":7,"lost":true}\n\n'


@pytest.mark.parametrize(
    ("query", "last", "path"),
    [
        ("after=-1", None, "?after"), ("after=x", None, "?after"), (f"after={2**63}", None, "?after"),
        ("types=", None, "?types"), ("types=a,,b", None, "?types"), ("types=*.a", None, "?types"),
        ("tpyes=a", None, "?tpyes"), ("types=" + ",".join(["a"] * 51), None, "?types"),
        ("", "x", "Last-Event-ID"), ("", "-1", "Last-Event-ID"), ("", "9" * 30, "Last-Event-ID"),
    ],
)  # fmt: skip
async def test_a_stream_that_cannot_be_is_a_400(world, autojump_clock, query, last, path):
    headers = {} if last is None else {"Last-Event-ID": last}
    answer = await world.client.get(f"/v1/stream?{query}", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["path"] == path


async def test_head_of_a_stream_answers_at_once(world, autojump_clock):
    answer = await world.client.head("/v1/stream")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"] == streaming.MEDIA_TYPE


async def test_with_a_writer_beside_it_a_reader_that_comes_and_goes_sees_all_once_and_in_order(tmp_path):
    count = 400
    async with open_stored_world(tmp_path) as world, trio.open_nursery() as nursery:

        async def write():
            for number in range(count):
                await world.post("/v1/events", {"type": f"e{number}", "data": {}})

        seen = []
        nursery.start_soon(write)
        with trio.fail_after(60):
            while len(seen) < count:
                last = seen[-1].id if seen else 0
                async with open_stream(world.asgi, last_event_id=last) as reader:
                    for message in await reader.take(min(23, count - len(seen))):
                        assert message is not None
                        seen.append(message)
        assert [message.event for message in seen] == [f"e{number}" for number in range(count)]
        ids = [message.id for message in seen]
        assert ids == sorted(set(ids))
