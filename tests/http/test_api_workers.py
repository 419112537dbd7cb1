"""E-mails and cron through workers services, as existing clients know it: shapes, causes, records."""

import gzip
import json
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.core.settings import DiscoverySettings, MeshSettings, Settings, WorkersSettings
from tests.support.api_world import open_stored_world
from tests.support.scripted_workers import RESULT, ok, open_workers_service, register, well

PROCESS = "/v1/workers/emails/process"
MANAGE = "/v1/workers/cron/manage"
EMAIL = {"messageId": "<a@example.org>", "organizationId": "acme", "priority": "high", "metadata": {"x": 1}}
QUICK = MeshSettings(timeout_ms=500, try_timeout_ms=200, retries=1)


@pytest.fixture
async def world(tmp_path):
    async with open_stored_world(tmp_path, settings=Settings(mesh={"workers": QUICK})) as world:
        yield world


@pytest.fixture
async def workers(world):
    async with open_workers_service() as workers:
        await register(world, workers)
        yield workers


async def items(world, path, **query):
    return (await world.client.get(path, params=query)).json()["data"]["items"]


async def recorded(world):
    """Return the statuses of e-mails and the types of the events beside services'."""
    emails = [one["status"] for one in await items(world, "/v1/workers/emails")]
    events = [one["type"] for one in await items(world, "/v1/events")]
    return emails, [one for one in events if not one.startswith("service.")]


async def test_an_email_is_processed_as_existing_clients_know_it(world, workers):
    answer = await world.post(PROCESS, EMAIL, x_request_id="req-7")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["success", "data", "timestamp"]
    took = body["data"].pop("responseTime")
    assert body["data"] == {"messageId": "<a@example.org>", "result": RESULT, "serviceId": "w-1"}
    assert isinstance(took, int)
    (asked,) = workers.asked
    assert asked.body == {
        "messageId": "<a@example.org>",
        "organizationId": "acme",
        "priority": "high",
        "metadata": {"x": 1},
    }
    assert {name: asked.headers[name] for name in ("x-organization-id", "x-request-source")} == {
        "x-organization-id": "acme",
        "x-request-source": "api",
    }
    assert asked.headers["x-service-client"] == "econeura-service-client"
    assert asked.headers["x-request-id"] == "req-7"
    assert asked.headers["idempotency-key"].startswith("eml_")


async def test_what_came_of_it_is_recorded_with_its_event(world, workers):
    await world.post(PROCESS, EMAIL)
    (email,) = await items(world, "/v1/workers/emails", organizationId="acme", messageId="<a@example.org>")
    assert email["status"] == "succeeded"
    assert (email["result"], email["serviceId"], email["jobId"]) == (RESULT, "w-1", None)
    (event,) = await items(world, "/v1/events", type="email.*")
    assert (event["type"], event["source"], event["version"]) == ("email.processed", "api", "1.0.0")
    assert event["data"]["emailId"] == email["id"]
    assert event["data"]["result"] == RESULT
    assert await items(world, "/v1/workers/emails", status="failed") == []


async def test_every_problem_of_a_request_is_named(world, workers):
    answer = await world.post(
        PROCESS, {"messageId": "", "organizationId": "a\nb", "priority": "soon", "x": 1}
    )
    assert answer.status_code == 400
    paths = {one["path"] for one in answer.json()["details"]}
    assert paths == {"$.messageId", "$.organizationId", "$.priority", "$.x"}
    assert (await world.post(PROCESS, {})).status_code == 400
    assert workers.asked == []
    assert await recorded(world) == ([], [])


GARBAGE = {
    "no JSON": (200, b"<html>it works</html>"),
    "nothing": (200, b""),
    "no object": (200, [1, 2]),
    "no success": (200, {"data": {"result": RESULT}}),
    "success false": (200, {"success": False, "error": "no such e-mail"}),
    "no data": (200, {"success": True}),
    "no result": ok({}),
    "a result of another kind": ok({"result": "done"}),
    "NaN": (200, b'{"success": true, "data": {"result": {"confidence": NaN}}}'),
    "too deep": (200, b'{"success": true, "data": {"result": ' + b'{"a":' * 100 + b"1" + b"}" * 102),
    "compressed": (200, gzip.compress(json.dumps(ok({"result": RESULT})[1]).encode())),
    "created": (302, b""),
    "unknown e-mail": (404, {"title": "Not found", "detail": "There is no e-mail <a@example.org>"}),
    "half a surrogate": (200, b'{"success": true, "data": {"result": {"category": "\\ud800"}}}'),
    "no UTF-8": (200, b'{"success": true, "data": {"result": {"category": "\xe9"}}}'),
    "a number without end": (200, b'{"success": true, "data": {"result": {"confidence": 1e999}}}'),
    "a NUL": (400, {"detail": "cannot read \x00"}),
    "nothing but a status": (204, b""),
    "reasons of other kinds": (422, {"detail": 7, "error": {"message": ["x"]}, "message": ""}),
    "a bug": (500, {"title": "Internal error", "detail": "its log tells more"}),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_an_answer_that_is_none_is_a_502_that_says_whose(world, workers, kind):
    async def answer(_asked):
        return GARBAGE[kind]

    workers.answer = answer
    got = await world.post(PROCESS, EMAIL)
    problem = got.json()
    assert got.status_code == 502, got.text
    assert problem["type"] == "/problems/workers-failed"
    assert problem["messageId"] == "<a@example.org>"
    assert problem["success"] is False
    assert problem["detail"].startswith("w-1 answered ")
    assert list(problem) == [
        "type", "title", "status", "detail", "instance", "success", "error", "details", "timestamp", "messageId",
    ]  # fmt: skip
    assert await recorded(world) == (["failed"], [])
    (email,) = await items(world, "/v1/workers/emails", status="failed")
    assert email["error"] == problem["detail"].replace("\0", "\ufffd")


@pytest.mark.parametrize("status", [409, 429, 503])
async def test_a_worker_that_could_do_it_at_another_time_is_a_503_that_says_so(world, workers, status):
    async def answer(_asked):
        return status, {"title": "Busy", "detail": "come again"}

    workers.answer = answer
    got = await world.post(PROCESS, EMAIL)
    assert (got.status_code, got.json()["type"]) == (503, "/problems/workers-busy")
    assert got.headers["Retry-After"] == "1"
    assert got.json()["detail"] == f"w-1 answered {status}: come again"
    assert got.json()["messageId"] == "<a@example.org>"
    assert await recorded(world) == (["failed"], [])


async def test_what_a_worker_says_of_its_refusal_is_passed_on(world, workers):
    async def answer(_asked):
        return GARBAGE["unknown e-mail"]

    workers.answer = answer
    detail = (await world.post(PROCESS, EMAIL)).json()["detail"]
    assert detail == "w-1 answered 404: There is no e-mail <a@example.org>"


async def test_an_answer_beyond_the_bound_is_not_kept(world, workers):
    async def answer(_asked):
        return ok({"result": {**RESULT, "note": "x" * (1024 * 1024)}})

    workers.answer = answer
    got = await world.post(PROCESS, EMAIL)
    assert (got.status_code, got.json()["type"]) == (502, "/problems/workers-failed")
    assert "more than 1048576 bytes" in got.json()["detail"]
    assert await recorded(world) == (["failed"], [])


async def test_a_result_is_kept_to_the_digit_whatever_is_in_it(world, workers):
    result = {**RESULT, "big": 2**90, "text": "caf\u00e9 \0 \u2028", "unknown": [None, {}]}

    async def answer(_asked):
        return ok({"result": result, "more": "that nobody asked for"})

    workers.answer = answer
    got = await world.post(PROCESS, EMAIL, idempotency_key="k-1")
    again = await world.post(PROCESS, EMAIL, idempotency_key="k-1")
    (email,) = await items(world, "/v1/workers/emails")
    (event,) = await items(world, "/v1/events", type="email.*")
    assert got.json()["data"]["result"] == again.json()["data"]["result"] == result
    assert email["result"] == event["data"]["result"] == result


async def test_an_answer_that_breaks_off_is_a_502(world, workers):
    async def answer(_asked):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n{"

    workers.answer = answer
    got = await world.post(PROCESS, EMAIL)
    assert got.status_code == 502
    assert (await recorded(world))[0] == ["failed"]


async def test_without_workers_it_is_a_503_and_with_slow_ones_a_504(world):
    got = await world.post(PROCESS, EMAIL)
    assert (got.status_code, got.json()["type"]) == (503, "/problems/no-healthy-instance")
    assert (got.json()["messageId"], got.headers["Retry-After"]) == ("<a@example.org>", "1")

    async def answer(_asked):
        await trio.sleep(5)

    async with open_workers_service(answer) as workers:
        await register(world, workers)
        got = await world.post(PROCESS, EMAIL)
        assert (got.status_code, got.json()["type"]) == (504, "/problems/upstream-timeout")
    assert (await recorded(world))[0] == ["failed", "failed"]


async def test_a_call_is_repeated_at_another_worker_under_the_same_key(world, workers):
    async def broken(_asked):
        return b""

    async with open_workers_service(broken) as other:
        await register(world, other, "w-2")
        for _ in range(20):
            assert (await world.post(PROCESS, EMAIL)).status_code == 200
            if other.asked:
                break
        keys = {asked.headers["idempotency-key"] for asked in other.asked}
    assert keys
    assert keys <= {asked.headers["idempotency-key"] for asked in workers.asked}


async def test_the_same_request_under_one_key_is_processed_once(world, workers):
    first = await world.post(PROCESS, EMAIL, idempotency_key="k-1")
    again = await world.post(PROCESS, EMAIL, idempotency_key="k-1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["data"] == first.json()["data"]
    assert len(workers.asked) == 1
    other = await world.post(PROCESS, {**EMAIL, "priority": "low"}, idempotency_key="k-1")
    assert other.status_code == 422
    assert await recorded(world) == (["succeeded"], ["email.processed"])


async def test_what_failed_may_be_asked_again_under_its_key_and_workers_see_the_same(world, workers):
    async def failing(_asked):
        workers.answer = well
        return 500, {"detail": "busy"}

    workers.answer = failing
    assert (await world.post(PROCESS, EMAIL, idempotency_key="k-1")).status_code == 502
    assert (await world.post(PROCESS, EMAIL, idempotency_key="k-1")).status_code == 200
    assert (await world.post(PROCESS, EMAIL, idempotency_key="k-2")).status_code == 200
    first, second, third = [asked.headers["idempotency-key"] for asked in workers.asked]
    assert first == second != third


async def test_the_second_one_at_once_under_a_key_is_told_so(world, workers):
    go = trio.Event()

    async def answer(asked):
        await go.wait()
        return await well(asked)

    workers.answer = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.post(PROCESS, EMAIL, idempotency_key="k-1"))
        await _until(lambda: workers.asked)
        got = await world.post(PROCESS, EMAIL, idempotency_key="k-1")
        assert (got.status_code, got.json()["type"]) == (409, "/problems/idempotency-in-flight")
        go.set()


async def test_a_client_that_leaves_gives_everything_back_and_what_it_asked_for_is_not_forgotten(
    world, workers
):
    async def answer(_asked):
        await trio.sleep_forever()

    workers.answer = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.post(PROCESS, EMAIL, idempotency_key="k-1"))
        await _until(lambda: workers.asked)
        nursery.cancel_scope.cancel()
    assert world.services.workers.waiting.under_way == 0
    (email,) = await items(world, "/v1/workers/emails")
    assert email["status"] == "failed"
    assert "left before workers had answered" in email["error"]
    workers.answer = well
    assert (await world.post(PROCESS, EMAIL, idempotency_key="k-1")).status_code == 200
    first, second = [asked.headers["idempotency-key"] for asked in workers.asked]
    assert first == second


async def test_what_the_database_does_not_take_is_asked_for_again_and_workers_see_the_same(world, workers):
    recorder = world.services.workers.recorder
    store = recorder._store

    async def full(_work):
        await trio.lowlevel.checkpoint()
        raise StoreUnavailableError("secret")

    recorder._store = _Late(full)
    got = await world.post(PROCESS, EMAIL, idempotency_key="k-1")
    assert (got.status_code, got.json()["type"]) == (503, "/problems/store-unavailable")
    assert (got.json()["messageId"], got.headers["Retry-After"]) == (EMAIL["messageId"], "5")
    recorder._store = store
    assert await recorded(world) == ([], [])
    assert (await world.post(PROCESS, EMAIL, idempotency_key="k-1")).status_code == 200
    first, second = [asked.headers["idempotency-key"] for asked in workers.asked]
    assert first == second
    assert await recorded(world) == (["succeeded"], ["email.processed"])


async def test_a_key_that_is_used_again_with_another_body_after_a_failure_is_another_one_for_workers(
    world, workers
):
    async def failing(_asked):
        workers.answer = well
        return 500, {"detail": "busy"}

    workers.answer = failing
    assert (await world.post(PROCESS, EMAIL, idempotency_key="k-1")).status_code == 502
    other = {**EMAIL, "messageId": "<b@example.org>"}
    assert (await world.post(PROCESS, other, idempotency_key="k-1")).status_code == 200
    first, second = [asked.headers["idempotency-key"] for asked in workers.asked]
    assert first != second


async def test_many_at_once_are_each_processed_and_recorded_once_within_what_workers_take(tmp_path):
    settings = Settings(mesh={"workers": MeshSettings(max_concurrency=4)})
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_stored_world(tmp_path, settings=settings))
        workers = await stack.enter_async_context(open_workers_service())
        await register(world, workers)
        got = []

        async def one(n):
            email = {**EMAIL, "messageId": f"<{n}@example.org>", "organizationId": f"o-{n % 3}"}
            got.append((await world.post(PROCESS, email)).status_code)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for n in range(60):
                    nursery.start_soon(one, n)
        assert got == [200] * 60
        assert workers.most <= 4
        asked = sorted(asked.body["messageId"] for asked in workers.asked)
        emails = await items(world, "/v1/workers/emails", limit=100)
        assert asked == sorted(email["messageId"] for email in emails)
        assert len(set(asked)) == 60


async def test_an_answer_that_came_is_recorded_though_the_client_left(world, workers):
    """The record is waited for under a shield: cancelled at every point from the answer on, it is all there."""
    answered = trio.Event()

    async def answer(asked):
        answered.set()
        return await well(asked)

    workers.answer = answer
    store = world.services.store
    transact = store.transact
    held = trio.Event()

    async def late(work):
        held.set()
        await trio.sleep(0.05)
        return await transact(work)

    object.__setattr__(world.services.workers.recorder, "_store", _Late(late))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.post(PROCESS, EMAIL))
        await held.wait()
        nursery.cancel_scope.cancel()
    assert await recorded(world) == (["succeeded"], ["email.processed"])


class _Late:
    def __init__(self, transact):
        self.transact = transact


async def test_more_than_workers_take_waits_in_turn_and_beyond_the_bound_is_told_when_to_come_again(tmp_path):
    settings = Settings(
        mesh={"workers": MeshSettings(max_concurrency=1)},
        workers=WorkersSettings(max_waiting=2, max_wait_ms=60_000),
    )
    go = trio.Event()
    got = []

    async def answer(asked):
        await go.wait()
        return await well(asked)

    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_stored_world(tmp_path, settings=settings))
        workers = await stack.enter_async_context(open_workers_service(answer))
        await register(world, workers)
        nursery = await stack.enter_async_context(trio.open_nursery())

        async def one(priority):
            answer = await world.post(PROCESS, {**EMAIL, "messageId": priority, "priority": priority})
            got.append(answer.status_code)

        nursery.start_soon(one, "normal")
        await _until(lambda: workers.asked)
        async with trio.open_nursery() as leaving:  # who leaves before its turn is nobody's e-mail
            leaving.start_soon(one, "high")
            await _until(lambda: len(world.services.workers.waiting) == 1)
            leaving.cancel_scope.cancel()
        assert len(world.services.workers.waiting) == 0
        for priority in ("low", "urgent"):
            nursery.start_soon(one, priority)
            await _until(lambda: len(world.services.workers.waiting) == ("low", "urgent").index(priority) + 1)  # noqa: B023
        refused = await world.post(PROCESS, EMAIL)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["type"] == "/problems/concurrency-limit"
        health = (await world.client.get("/v1/workers/health")).json()["data"]
        assert health["stats"]["waiting"] == {"urgent": 1, "high": 0, "normal": 0, "low": 1}
        go.set()
        await _until(lambda: len(got) == 3)
        assert [asked.body["messageId"] for asked in workers.asked] == ["normal", "urgent", "low"]
        assert got == [200] * 3
        assert await recorded(world) == (["succeeded"] * 3, ["email.processed"] * 3)


async def test_there_is_room_for_as_many_as_those_workers_take_that_may_be_asked(world, workers):
    room = world.services.workers.calling.room
    assert room(0) == 20
    async with open_workers_service() as other:
        await register(world, other, "w-2")
        assert room(0) == 40
        assert (await world.client.put("/v1/services/w-2/drain")).status_code == 200
        assert room(0) == 20
    await world.client.delete("/v1/services/w-1")
    await world.client.delete("/v1/services/w-2")
    assert room(0) == float("inf")


async def test_cron_jobs_of_workers_are_switched_and_asked(world, workers):
    for action, method, path, enabled in (
        ("enable", "POST", "/cron/jobs/daily_reports/enable", True),
        ("disable", "POST", "/cron/jobs/daily_reports/disable", False),
        ("status", "GET", "/cron/jobs/daily_reports", True),
    ):
        body = {"jobId": "daily_reports", "action": action, "organizationId": "acme"}
        answer = await world.post(MANAGE, body)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert list(data) == ["jobId", "action", "result", "serviceId", "responseTime"]
        assert data["result"] == {"id": "daily_reports", "enabled": enabled}
        asked = workers.asked[-1]
        assert (asked.method, asked.path) == (method, path)
        assert asked.headers["x-organization-id"] == "acme"
        (event, *_) = await items(world, "/v1/events", type="cron.managed")
        assert (event["data"]["jobId"], event["data"]["action"]) == ("daily_reports", action)


async def test_a_job_that_workers_do_not_have_is_a_404_and_a_wrong_action_a_400(world, workers):
    async def answer(_asked):
        return 404, {"title": "Not found", "detail": "no such job"}

    workers.answer = answer
    body = {"jobId": "x", "action": "status", "organizationId": "acme"}
    assert (await world.post(MANAGE, body)).status_code == 404
    got = await world.post(MANAGE, {**body, "action": "destroy", "jobId": "../../health"})
    assert {one["path"] for one in got.json()["details"]} == {"$.action", "$.jobId"}
    assert (await recorded(world))[1] == []


async def test_health_and_stats_have_their_shapes(world, workers):
    await world.post(PROCESS, EMAIL)
    health = (await world.client.get("/v1/workers/health")).json()["data"]
    assert list(health) == ["healthy", "services", "stats"]
    assert health["healthy"] is True
    assert [one["id"] for one in health["services"]] == ["w-1"]
    stats = (await world.client.get("/v1/workers/stats")).json()["data"]
    assert list(stats) == ["initialized", "workersClient", "webhookStats", "serviceDiscovery"]
    assert stats["initialized"] is True
    assert stats["workersClient"]["requests"] == 1
    assert stats["serviceDiscovery"]["totalServices"] == 1


async def test_workers_that_the_breaker_refuses_to_call_are_not_healthy_whatever_their_checks_say(
    world, workers
):
    async def answer(_asked):
        return 500, {"title": "Broken"}

    workers.answer = answer
    with trio.fail_after(20):
        while (await world.post(PROCESS, EMAIL)).json()["type"] != "/problems/circuit-open":
            pass
    health = (await world.client.get("/v1/workers/health")).json()["data"]
    assert (health["healthy"], [one["status"] for one in health["services"]]) == (False, ["healthy"])


async def test_without_discovery_there_are_no_workers_and_it_says_why(tmp_path):
    settings = Settings(discovery=DiscoverySettings(enabled=False))
    async with open_stored_world(tmp_path, settings=settings) as world:
        got = await world.post(PROCESS, EMAIL)
        assert got.status_code == 503
        assert "discovery.enabled" in got.json()["detail"]
        stats = (await world.client.get("/v1/workers/stats")).json()["data"]
        assert (stats["initialized"], stats["workersClient"]) == (False, None)


async def _until(condition):
    with trio.fail_after(5):
        while not condition():
            await wait_all_tasks_blocked(0.001)
            await trio.sleep(0.001)
