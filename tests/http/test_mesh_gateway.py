"""The gateway, over real sockets on both sides."""

import json

import h11
import pytest
import trio

from econeura_daemon.client import KeptBody
from tests.http.gateway_rig import open_rig, problem, raw
from tests.http.server_rig import Client

PATIENCE = 30


@pytest.fixture
async def rig(tmp_path):
    with trio.fail_after(PATIENCE):
        async with open_rig(tmp_path) as opened:
            yield opened


async def test_a_request_goes_to_an_instance_and_its_answer_comes_back(rig):
    answer = await rig.ask("POST", "/v1/mesh/workers/echo/%7e?a=%20b", b"hello", "Content-Type: text/x")
    assert (answer.status, answer.body) == (200, b"hello")
    assert (answer.headers["x-service-id"], answer.headers["x-retries"]) == ("w1", "0")
    assert 0 <= int(answer.headers["x-response-time"]) < 3000
    (asked,) = rig.upstream.requests
    assert asked.line == b"POST /echo/%7e?a=%20b HTTP/1.1"
    assert asked.headers[b"content-type"] == b"text/x"
    assert asked.headers[b"x-request-id"].decode() == answer.headers["x-request-id"]


async def test_headers_of_one_hop_stay_there_and_the_way_is_told(rig):
    await rig.ask(
        "GET", "/v1/mesh/workers/echo", b"", "Connection: x-hop, close", "X-Hop: 1", "TE: trailers", "Via: 1.0 x",
        "Authorization: Bearer eco_publisher", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Own: 2",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b",
        "X-Timeout-Ms: 2000", "Upgrade: h2c",
    )  # fmt: skip
    (asked,) = rig.upstream.requests
    assert not {b"x-hop", b"te", b"authorization", b"connection", b"upgrade"} & set(asked.headers)
    assert asked.headers[b"x-own"] == b"2"
    assert asked.headers[b"host"] == b"127.0.0.1:%d" % rig.upstream.port
    assert asked.headers[b"x-forwarded-for"] == b"192.0.2.1, 127.0.0.1"
    assert asked.headers[b"forwarded"] == b'for=192.0.2.1, for=127.0.0.1;host="localhost:3001";proto=http'
    assert 0 < int(asked.headers[b"x-timeout-ms"]) <= 2000
    trace, parent = asked.headers[b"traceparent"].split(b"-")[1:3]
    assert trace == b"0af7651916cd43dd8448eb211c80319c"
    assert parent != b"b7ad6b7169203331"
    assert asked.headers[b"tracestate"] == b"a=b"


async def test_what_comes_back_is_end_to_end(rig):
    async with Client(await rig.connect()) as client:
        await client.send(raw("GET", "/v1/mesh/workers/headers"))
        answer = await client.answer()
    assert not {"x-hop", "keep-alive"} & set(answer.headers)
    assert answer.headers["x-mine"] == "2"
    assert answer.headers["x-service-id"] == "w1"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PATCH", "PUT", "PURGE"])
async def test_any_method_goes_through_and_the_connection_is_kept(rig, method):
    async with Client(await rig.connect()) as client:
        for _ in range(2):
            await client.send(raw(method, "/v1/mesh/workers/echo"))
            assert (await client.answer(method=method)).status == 200
    assert [asked.line.split()[0] for asked in rig.upstream.requests] == [method.encode()] * 2


async def test_statuses_are_passed_on(rig):
    for status in (204, 304, 404, 500):
        answer = await rig.ask("GET", "/v1/mesh/workers/status", b"", f"X-Status: {status}")
        assert answer.status == status


async def test_a_body_beyond_the_bound_of_bodies_goes_through(rig):
    body = b"x" * 300_000
    answer = await rig.ask("PUT", "/v1/mesh/workers/echo", body)
    assert (answer.status, answer.body) == (200, body)
    assert (await rig.ask("POST", "/v1/events", body)).status == 413


async def test_a_large_answer_comes_whole(rig):
    answer = await rig.ask("GET", "/v1/mesh/workers/large")
    assert len(answer.body) == 64 * 65536
    await rig.all_is_back()


async def test_both_ways_stream_at_once(rig):
    async with Client(await rig.connect()) as client:
        await client.send(raw("POST", "/v1/mesh/workers/converse", b"", "Transfer-Encoding: chunked"))
        http = h11.Connection(h11.CLIENT)
        http.send(
            h11.Request(method="POST", target="/", headers=[("host", "x"), ("transfer-encoding", "chunked")])
        )

        async def event():
            while (found := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await client.stream.receive_some(65536))
            return found

        assert isinstance(await event(), h11.Response)  # before any of the body was sent
        for word in (b"ping", b"pong"):
            await client.send(http.send(h11.Data(data=word)))
            assert bytes((await event()).data) == word
        await client.send(http.send(h11.EndOfMessage()))
        assert isinstance(await event(), h11.EndOfMessage)
    await rig.all_is_back()


async def test_a_client_that_leaves_ends_the_call_upstream(rig):
    for path in ("never", "half"):
        async with Client(await rig.connect()) as client:
            await client.send(raw("GET", f"/v1/mesh/workers/{path}"))
            await rig.upstream.arrived.wait()
        await rig.upstream.gone.wait()
        await rig.all_is_back()
        rig.upstream.gone, rig.upstream.arrived = trio.Event(), trio.Event()


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(rig):
    answer = await rig.ask("GET", "/v1/mesh/workers/break?length=100000")
    assert (answer.status, answer.body, answer.is_complete) == (200, b"half", False)
    await rig.all_is_back()


async def test_a_short_answer_that_breaks_off_is_none(rig):
    answer = await rig.ask("POST", "/v1/mesh/workers/break?length=10", b"once")
    assert (answer.status, answer.is_complete) == (502, True)
    assert answer.headers["content-type"] == "application/problem+json"
    await rig.all_is_back()


async def test_a_retry_is_told(rig):
    rig.upstream.answers += [503, 502]
    answer = await rig.ask("PUT", "/v1/mesh/workers/echo", b"again")
    assert (answer.status, answer.body, answer.headers["x-retries"]) == (200, b"again", "2")
    rig.upstream.answers += [503]
    answer = await rig.ask("POST", "/v1/mesh/workers/echo", b"once")
    assert (answer.status, answer.body, answer.headers["x-retries"]) == (503, b"busy", "0")
    rig.upstream.answers += [503]
    answer = await rig.ask("POST", "/v1/mesh/workers/echo", b"keyed", "Idempotency-Key: k")
    assert (answer.status, answer.headers["x-retries"]) == (200, "1")


def chunked(body):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


async def test_a_streamed_body_is_replayed_up_to_64_kib(rig):
    for size, status in ((64 * 1024, 200), (64 * 1024 + 1, 503)):
        rig.upstream.answers[:] = [503]
        async with Client(await rig.connect()) as client:
            await client.send(raw("PUT", "/v1/mesh/workers/echo", b"", "Transfer-Encoding: chunked"))
            await client.send(chunked(b"x" * size))
            answer = await client.answer(method="PUT")
        assert answer.status == status


async def test_refusals_are_problems(rig):
    assert problem(await rig.ask("GET", "/v1/mesh/nobody/x")) == (503, "no-healthy-instance")
    answer = await rig.ask("GET", "/v1/mesh/workers/never", b"", "X-Timeout-Ms: 100")
    assert problem(answer) == (504, "upstream-timeout")
    assert (answer.headers["x-service-id"], answer.headers["x-retries"]) == ("w1", "0")
    await rig.register("w1", rig.upstream.unused_port)
    for _ in range(2):
        answer = await rig.ask("GET", "/v1/mesh/workers/x")
        if problem(answer) == (503, "circuit-open"):
            break
        assert problem(answer) == (502, "upstream-unreachable")
    assert 54 <= int((await rig.ask("GET", "/v1/mesh/workers/x")).headers["retry-after"]) <= 66


async def test_what_does_not_fit_is_a_400(rig):
    for value in ("0", "-1", "1.5", "soon", "99999999999"):
        answer = await rig.ask("GET", "/v1/mesh/workers/echo", b"", f"X-Timeout-Ms: {value}")
        assert problem(answer) == (400, "invalid-input")
    assert problem(await rig.ask("GET", "/v1/mesh/%77orkers/echo")) == (400, "invalid-input")
    assert rig.upstream.requests == []


async def test_reserved_names_and_what_is_no_type_are_no_services(rig):
    for path in ("calls/x", "faults/x", "default/x", "Workers/x", "workers", "", "%C3%A4/x"):
        assert problem(await rig.ask("GET", f"/v1/mesh/{path}")) == (404, "not-found")


async def test_calls_need_the_scope_publish(rig):
    for method in ("GET", "OPTIONS", "POST"):
        answer = await rig.ask(method, "/v1/mesh/workers/echo", b"", "Authorization: Bearer eco_reader")
        assert problem(answer) == (403, "forbidden")
    assert problem(await rig.ask("GET", "/v1/mesh/workers/echo", b"", "Forwarded: for=x"))[0] == 401
    answer = await rig.ask("GET", "/v1/mesh/workers/echo", b"", "Authorization: Bearer eco_publisher")
    assert answer.status == 200


async def test_a_slow_client_is_not_the_instances_fault_and_holds_no_slot(rig):
    async with Client(await rig.connect()) as client:
        await client.send(raw("POST", "/v1/mesh/workers/echo", b"", "Content-Length: 10"))
        await client.send(b"x")
        await trio.sleep(0.1)
        assert rig.world.services.mesh.services() == {}
    for _ in range(5):
        async with Client(await rig.connect()) as client:
            await client.send(
                raw("POST", "/v1/mesh/workers/echo", b"", "Transfer-Encoding: chunked", "X-Timeout-Ms: 100")
            )
            await client.send(b"1\r\nx\r\n")
            assert problem(await client.answer(method="POST"))[1] == "request-timeout"
    assert rig.service.states["w1"].breaker.statistics().failures_in_a_row == 0
    await rig.all_is_back()


async def test_the_mesh_tells_how_it_fares(rig):
    await rig.ask("POST", "/v1/mesh/workers/echo", b"1")
    answer = await rig.ask("GET", "/v1/mesh?type=workers")
    (item,) = json.loads(answer.body)["data"]["items"]
    assert item["totals"] == {"requests": 1, "failures": 0, "retries": 0, "refusals": 0}
    assert item["breaker"] == {"state": "closed", "reason": "it never opened", "until": None}
    (one,) = item["instances"]
    assert (one["id"], one["status"], one["inFlight"], one["limit"]) == ("w1", "healthy", 0, 20)
    assert one["latencyMs"] > 0
    assert item["policy"]["timeoutMs"] == 3000
    assert json.loads((await rig.ask("GET", "/v1/mesh?type=nobody")).body)["data"] == {"items": []}
    (listed,) = json.loads((await rig.ask("GET", "/v1/mesh")).body)["data"]["items"]
    assert (listed["type"], listed["totals"]) == ("workers", item["totals"])


async def test_the_last_calls_are_listed_with_their_attempts(rig):
    rig.upstream.answers += [503]
    await rig.ask("PUT", "/v1/mesh/workers/echo?secret=1", b"x", "X-Request-ID: mine")
    await rig.ask("GET", "/v1/mesh/workers/status", b"", "X-Status: 404")
    await rig.ask("GET", "/v1/mesh/workers/never", b"", "X-Timeout-Ms: 100")

    async def listed(query):
        answer = await rig.ask("GET", f"/v1/mesh/calls{query}")
        return [one["path"] for one in json.loads(answer.body)["data"]["items"]]

    assert await listed("") == ["/never", "/status", "/echo"]
    assert await listed("?limit=1") == ["/never"]
    assert await listed("?status=404&type=workers") == ["/status"]
    assert await listed("?status=upstream-timeout") == ["/never"]
    assert await listed("?slowMs=90") == ["/never"]
    assert await listed("?type=web") == []
    answer = await rig.ask("GET", "/v1/mesh/calls?status=200")
    (one,) = json.loads(answer.body)["data"]["items"]
    assert (one["id"], one["method"], one["status"], one["problem"]) == ("mine", "PUT", 200, None)
    outcomes = [(made["serviceId"], made["outcome"]) for made in one["attempts"]]
    assert outcomes == [("w1", "answered 503"), ("w1", "answered 200")]
    assert "secret" not in answer.body.decode()
    assert problem(await rig.ask("GET", "/v1/mesh/calls?status=soon")) == (400, "invalid-input")


async def test_a_piece_that_is_awaited_is_known():
    async def source():
        await trio.sleep_forever()

    body = KeptBody(source, None)
    with trio.move_on_after(0.01):
        await anext(aiter(body.stream()))
    assert body.is_awaited
    body.stream()
    assert not body.is_awaited
