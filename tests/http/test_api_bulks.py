"""Bulks of e-mails: each item for itself, in the order asked; jobs that go on by themselves, and end once."""

import json
from collections import Counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.settings import MeshSettings, Settings, WorkersSettings
from econeura_daemon.workers import runner
from tests.support.api_world import open_stored_world
from tests.support.scripted_workers import RESULT, bulk_item, ok, open_workers_service, register, well
from tests.support.waiting import until

BULK = "/v1/workers/emails/process/bulk"
JOBS = "/v1/workers/jobs"
QUICK = MeshSettings(timeout_ms=2000, try_timeout_ms=500, retries=1)


def asked(count, **more):
    return {"messageIds": [f"<{n}@example.org>" for n in range(count)], "organizationId": "acme", **more}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Let chunks be asked for again soon."""
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.05)


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path, settings=Settings(mesh={"workers": QUICK})) as world:
        yield world


@pytest.fixture
async def workers(world):
    async with open_workers_service() as workers:
        await register(world, workers)
        yield workers


async def begin(world, body, **headers):
    answer = await world.post(BULK, body, prefer="respond-async", **headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["data"]["jobId"]


async def show(world, job_id, **query):
    return (await world.client.get(f"{JOBS}/{job_id}", params=query)).json()["data"]


async def ended(world, job_id):
    async def is_over():
        return (await show(world, job_id))["finishedAt"] is not None

    await until(is_over, 10)
    return await show(world, job_id)


async def all_results(world, job_id):
    items, query = [], {"limit": 250}
    while True:
        page = (await show(world, job_id, **query))["results"]
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        query["cursor"] = page["nextCursor"]


async def events(world):
    return [
        one
        for one in (await world.client.get("/v1/events", params={"type": "email.*"})).json()["data"]["items"]
        if one["type"] == "email.bulk_processed"
    ]


async def emails(world, **query):
    return (await world.client.get("/v1/workers/emails", params={"limit": 250, **query})).json()["data"][
        "items"
    ]


async def _until(condition):
    with trio.fail_after(5):
        while not condition():
            await wait_all_tasks_blocked(0.001)
            await trio.sleep(0.001)


async def test_a_bulk_is_answered_in_the_order_asked_by_chunks_of_fifty(world, workers):
    answer = await world.post(BULK, asked(120, priority="urgent"))
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert list(data) == ["total", "successful", "failed", "results"]
    assert (data["total"], data["successful"], data["failed"]) == (120, 120, 0)
    assert [one["messageId"] for one in data["results"]] == asked(120)["messageIds"]
    first = data["results"][0]
    assert list(first) == ["messageId", "success", "result", "serviceId", "responseTime"]
    assert (first["success"], first["result"], first["serviceId"]) == (True, RESULT, "w-1")
    assert sorted(len(one.body["messageIds"]) for one in workers.asked) == [20, 50, 50]
    assert {one.body["priority"] for one in workers.asked} == {"urgent"}
    assert len({one.headers["idempotency-key"] for one in workers.asked}) == 3
    assert len(await emails(world, status="succeeded")) == 120
    (event,) = await events(world)
    assert (event["data"]["total"], event["data"]["failed"]) == (120, 0)


async def test_one_that_fails_fails_for_itself(world, workers):
    async def answer(asked):
        ids = asked.body["messageIds"]
        if "<55@example.org>" in ids:
            return 500, {"detail": "a bug"}
        return ok(
            {
                "results": [
                    {"messageId": one, "success": False, "error": "no such mail"}
                    if "<7@" in one
                    else bulk_item(one)
                    for one in ids
                ]
            }
        )

    workers.answer = answer
    data = (await world.post(BULK, asked(120))).json()["data"]
    assert (data["total"], data["successful"], data["failed"]) == (120, 69, 51)
    seventh = data["results"][7]
    assert list(seventh) == ["messageId", "success", "error", "serviceId", "responseTime"]
    assert seventh["error"] == "no such mail"
    assert data["results"][55]["error"] == "w-1 answered 500: a bug"
    assert len(await emails(world, status="failed")) == 51


GARBAGE = {
    "another order": (lambda ids: [bulk_item(one) for one in reversed(ids)], 3),
    "one is missing": (lambda ids: [bulk_item(one) for one in ids[1:]], 2),
    "a stranger": (lambda ids: [bulk_item("<x@y>"), *map(bulk_item, ids)], 3),
    "one twice": (
        lambda ids: [bulk_item(ids[0]), {"messageId": ids[0], "success": False}, *map(bulk_item, ids)],
        3,
    ),
    "no objects": (lambda _ids: [1, "a", None], 0),
    "no list": (lambda _ids: "done", 0),
    "a success without a result": (lambda ids: [{"messageId": one, "success": True} for one in ids], 0),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_whatever_a_worker_answers_each_has_one_outcome(world, workers, kind):
    make, good = GARBAGE[kind]

    async def answer(asked):
        return ok({"results": make(asked.body["messageIds"])})

    workers.answer = answer
    data = (await world.post(BULK, asked(3))).json()["data"]
    assert (data["total"], data["successful"]) == (3, good)
    assert all(one["error"] for one in data["results"] if not one["success"])


async def test_what_is_asked_for_twice_is_processed_once_and_answered_at_each_place(world, workers):
    ids = ["<a@b>", *asked(60)["messageIds"], "<a@b>"]
    data = (await world.post(BULK, {**asked(1), "messageIds": ids})).json()["data"]
    assert [one["messageId"] for one in data["results"]] == ids
    assert data["successful"] == 62
    job_id = await begin(world, {**asked(1), "messageIds": ids})
    assert (await ended(world, job_id))["total"] == 61
    wanted = Counter(one for request in workers.asked for one in request.body["messageIds"])
    assert set(wanted.values()) == {2}, "once by the bulk, once by the job"
    assert len(await emails(world, messageId="<a@b>")) == 2


async def test_workers_are_given_metadata_if_there_is_any(world, workers):
    await world.post(BULK, asked(1))
    await world.post(BULK, asked(1, metadata={"a": 1}))
    first, second = workers.asked
    assert first.body == {"messageIds": ["<0@example.org>"], "organizationId": "acme", "priority": "normal"}
    assert second.body["metadata"] == {"a": 1}


async def test_a_bulk_that_takes_too_long_is_answered_with_what_is_done(tmp_path):
    settings = Settings(mesh={"workers": QUICK}, workers=WorkersSettings(bulk_timeout_ms=300))

    async def answer(request):
        if len(workers.asked) > 5:
            await trio.sleep_forever()
        return await well(request)

    async with (
        open_workers_service(answer) as workers,
        open_stored_world(tmp_path, settings=settings) as world,
    ):
        await register(world, workers)
        data = (await world.post(BULK, asked(1000))).json()["data"]
        assert (data["total"], data["successful"], data["failed"]) == (1000, 250, 750)
        assert data["results"][-1]["error"] == "The bulk had no end within 300 ms"
        assert len(await emails(world, status="failed")) == 250, "a page of them"
        assert len(workers.asked) <= 9, "nobody is asked for more then"
        assert world.services.workers.waiting.under_way == 0


async def test_without_workers_the_whole_is_a_503(world):
    answer = await world.post(BULK, asked(3))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-healthy-instance")
    assert await events(world) == []
    assert await emails(world) == []


async def test_what_is_no_bulk_is_refused_with_every_problem(world, workers):
    answer = await world.post(BULK, {"messageIds": ["", "ok", 5], "organizationId": "", "x": 1})
    paths = {one["path"] for one in answer.json()["details"]}
    assert paths >= {"$.messageIds[2]", "$.x"}
    assert (await world.post(BULK, {**asked(1), "messageIds": []})).status_code == 400
    assert (await world.post(BULK, asked(10_001))).status_code == 400
    assert workers.asked == []


async def test_no_more_than_a_few_chunks_are_in_flight(world, workers):
    data = (await world.post(BULK, asked(2000))).json()["data"]
    assert data["successful"] == 2000
    assert workers.most <= 4


async def test_a_job_goes_on_by_itself_and_its_results_are_paged(world, workers):
    answer = await world.post(BULK, asked(320), prefer="wait=1, Respond-Async; x=1")
    job_id = answer.json()["data"]["jobId"]
    assert answer.headers["Location"] == f"{JOBS}/{job_id}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    job = await ended(world, job_id)
    assert (job["status"], job["total"], job["done"], job["successful"], job["failed"]) == (
        "succeeded",
        320,
        320,
        320,
        0,
    )
    results = await all_results(world, job_id)
    assert [one["messageId"] for one in results] == asked(320)["messageIds"]
    assert results[0]["result"] == RESULT
    (event,) = await events(world)
    assert (event["data"]["jobId"], event["data"]["status"]) == (job_id, "succeeded")
    listed = (await world.client.get(JOBS)).json()["data"]["items"]
    assert [one["id"] for one in listed] == [job_id]
    assert {one["jobId"] for one in await emails(world)} == {job_id}


async def test_progress_is_on_the_stream_and_not_in_the_log(world, workers):
    heard = []

    def wake():
        heard.extend(json.loads(one.body)["data"] for one in listener.take())

    with world.services.log.passing.listen(["email.bulk_progress"], wake) as listener:
        job_id = await begin(world, asked(120))
        await ended(world, job_id)
    assert heard[-1]["status"] == "succeeded"
    assert heard[-1]["done"] == 120
    stored = (await world.client.get("/v1/events", params={"type": "email.bulk_progress"})).json()
    assert stored["data"]["items"] == []


async def test_a_job_waits_for_workers_and_loses_nothing(world):
    job_id = await begin(world, asked(60))
    await trio.sleep(0.3)
    job = await show(world, job_id)
    assert (job["status"], job["done"]) == ("running", 0)
    async with open_workers_service() as workers:
        await register(world, workers)
        job = await ended(world, job_id)
    assert (job["status"], job["successful"]) == ("succeeded", 60)


async def test_a_job_gives_workers_up_when_its_patience_ends(tmp_path):
    settings = Settings(mesh={"workers": QUICK}, workers=WorkersSettings(job_patience_ms=50))
    async with open_stored_world(tmp_path, settings=settings) as world:
        job = await ended(world, await begin(world, asked(60)))
        assert (job["status"], job["failed"]) == ("failed", 60)
        assert job["results"]["items"][0]["error"] == "No instance of 'workers' is registered"


async def test_what_is_left_of_a_job_is_given_up_at_once_when_its_patience_ended(tmp_path):
    settings = Settings(mesh={"workers": QUICK}, workers=WorkersSettings(job_patience_ms=1000))
    async with open_stored_world(tmp_path, settings=settings) as world:
        job_id = await begin(world, asked(1000))
        await ended(world, job_id)
        results = await all_results(world, job_id)
    assert results[0]["responseTime"] > 500
    assert results[-1]["responseTime"] < 500, "its chunk did not begin to wait anew"


async def test_a_worker_that_cannot_be_reached_is_waited_for_too(world, monkeypatch):
    monkeypatch.setattr(runner, "ATTEMPTS", 1)
    async with open_workers_service() as gone:
        pass
    await register(world, gone)
    job_id = await begin(world, asked(60))
    await until(lambda: shown_calls(world), 5)
    async with open_workers_service() as workers:
        await register(world, workers, "w-2")
        job = await ended(world, job_id)
    assert (job["status"], job["successful"]) == ("succeeded", 60)


async def shown_calls(world):
    """Tell whether a call came to its end."""
    return (await world.client.get("/v1/mesh/calls")).json()["data"]["items"]


async def test_a_job_that_waits_for_workers_is_canceled_at_once(world, monkeypatch):
    monkeypatch.setattr(runner, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 60.0)
    job_id = await begin(world, asked(60))
    await _until(lambda: len(world.services.workers.runner) == 1)
    await wait_all_tasks_blocked(0.1)
    await world.client.delete(f"{JOBS}/{job_id}")
    assert (await ended(world, job_id))["status"] == "canceled"


async def test_a_busy_worker_is_asked_again_under_the_same_key_and_one_that_refuses_is_not(world, workers):
    async def answer(asked):
        if len(workers.asked) < 4:
            return 409, {"detail": "under way"}
        return await well(asked)

    workers.answer = answer
    job = await ended(world, await begin(world, asked(10)))
    assert (job["status"], job["successful"]) == ("succeeded", 10)
    assert len({one.headers["idempotency-key"] for one in workers.asked}) == 1

    async def refusing(_asked):
        return 500, {"detail": "a bug"}

    workers.answer, workers.asked = refusing, []
    job = await ended(world, await begin(world, asked(10)))
    assert (job["status"], job["failed"], len(workers.asked)) == ("failed", 10, 1)


async def test_what_a_slow_worker_did_not_come_to_is_asked_for_again_while_it_comes_to_some(world, workers):
    def late(message_id):
        return {"messageId": message_id, "success": False, "error": "no time", "late": True}

    async def slow(asked):
        ids = asked.body["messageIds"]
        most = 0 if len(workers.asked) > 3 else 4
        return ok({"results": [bulk_item(one) for one in ids[:most]] + [late(one) for one in ids[most:]]})

    workers.answer = slow
    job_id = await begin(world, asked(10))
    assert (await ended(world, job_id))["successful"] == 10
    assert [len(one.body["messageIds"]) for one in workers.asked] == [10, 6, 2]
    assert [one.headers["idempotency-key"] for one in workers.asked] == [
        f"{job_id}:0",
        f"{job_id}:0:1",
        f"{job_id}:0:2",
    ]
    assert [one["messageId"] for one in await all_results(world, job_id)] == asked(10)["messageIds"]
    job = await ended(world, await begin(world, asked(10)))
    assert (job["status"], job["failed"], len(workers.asked)) == ("failed", 10, 4)


async def test_a_job_whose_e_mails_fail_in_part_is_partial(world, workers):
    async def answer(asked):
        return ok({"results": [bulk_item(one) for one in asked.body["messageIds"][1:]]})

    workers.answer = answer
    job = await ended(world, await begin(world, asked(10)))
    assert (job["status"], job["successful"], job["failed"]) == ("partial", 9, 1)


async def test_a_canceled_job_ends_and_what_is_done_stays(world, workers):
    go = trio.Event()

    async def answer(asked):
        await go.wait()
        return await well(asked)

    workers.answer = answer
    job_id = await begin(world, asked(1000))
    await _until(lambda: len(workers.asked) == 4)
    canceled = (await world.client.delete(f"{JOBS}/{job_id}")).json()["data"]
    assert canceled["status"] == "running"
    go.set()
    job = await ended(world, job_id)
    assert job["status"] == "canceled"
    assert job["done"] == len(await emails(world)) == 200
    assert (await world.client.delete(f"{JOBS}/{job_id}")).json()["data"]["status"] == "canceled"
    (event,) = await events(world)
    assert event["data"]["status"] == "canceled"


async def test_a_canceled_job_that_nobody_works_on_ends_at_once(world):
    world.services.workers.runner.stop()
    job_id = await begin(world, asked(3))
    assert (await world.client.delete(f"{JOBS}/{job_id}")).json()["data"]["status"] == "canceled"
    assert (await world.client.delete(f"{JOBS}/blk_none")).status_code == 404


async def test_the_same_key_begins_one_job(world, workers):
    first = await begin(world, asked(3), idempotency_key="k-1")
    assert await begin(world, asked(3), idempotency_key="k-1") == first
    assert len((await world.client.get(JOBS)).json()["data"]["items"]) == 1


async def test_a_repeat_gets_the_first_answer_whichever_way_it_prefers(world, workers):
    first = await world.post(BULK, asked(3), idempotency_key="k-1")
    again = await world.post(BULK, asked(3), idempotency_key="k-1", prefer="respond-async")
    assert (again.status_code, again.json()["data"]) == (200, first.json()["data"])
    job_id = await begin(world, asked(3), idempotency_key="k-2")
    again = await world.post(BULK, asked(3), idempotency_key="k-2")
    assert (again.status_code, again.headers["Location"]) == (202, f"{JOBS}/{job_id}")


async def test_a_job_goes_on_where_it_was_with_the_next_start_and_repeats_no_recorded_chunk(tmp_path):
    settings = Settings(mesh={"workers": QUICK})
    held = trio.Event()

    async def answer(asked):
        if len(workers.asked) > 6:
            held.set()
            await trio.sleep_forever()
        return await well(asked)

    async with open_workers_service(answer) as workers:
        async with open_stored_world(tmp_path, settings=settings) as world:
            await register(world, workers)
            job_id = await begin(world, asked(1000))
            with trio.fail_after(5):
                await held.wait()

            async def six_are_recorded():
                return (await show(world, job_id))["done"] == 300

            await until(six_are_recorded)
            world.services.workers.runner._nursery.cancel_scope.cancel()  # a drain that ran out of time
        done = [one.headers["idempotency-key"] for one in workers.asked[:6]]
        workers.answer, workers.asked = well, []
        async with open_stored_world(tmp_path, settings=settings) as world:
            job = await ended(world, job_id)
            assert (job["status"], job["successful"]) == ("succeeded", 1000)
            results = await all_results(world, job_id)
            assert [one["messageId"] for one in results] == asked(1000)["messageIds"]
            assert len(await emails(world)) == 250
            total = Counter(one["type"] for one in await events(world))
            assert total == {"email.bulk_processed": 1}
        again = {one.headers["idempotency-key"] for one in workers.asked}
        assert len(again) == 14
        assert not again & set(done)


async def test_a_caller_that_leaves_a_bulk_stops_it(world, workers):
    async def answer(_asked):
        await trio.sleep_forever()

    workers.answer = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.post, BULK, asked(1000))
        await _until(lambda: len(workers.asked) == 4)
        nursery.cancel_scope.cancel()
    assert world.services.workers.waiting.under_way == 0
    assert await emails(world) == []
