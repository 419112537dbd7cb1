"""Allow-lists and injected faults, over real sockets."""

import json

import pytest
import trio

from econeura_daemon.core.faults import FaultSettings
from econeura_daemon.core.settings import MeshSettings
from tests.http.gateway_rig import open_rig, problem

PATIENCE = 30
NARROW = MeshSettings(timeout_ms=3000, allow=("GET /echo", "POST /emails/*"))


@pytest.fixture
async def rig(tmp_path):
    with trio.fail_after(PATIENCE):
        async with open_rig(tmp_path, workers=NARROW) as opened:
            yield opened


async def test_what_the_list_lets_through_reaches_the_instance_and_nothing_else_does(rig):
    assert (await rig.ask("GET", "/v1/mesh/workers/echo?path=../admin")).status == 200
    assert (await rig.ask("POST", "/v1/mesh/workers/emails/a/b", b"x")).status == 200
    assert (await rig.ask("HEAD", "/v1/mesh/workers/echo")).status == 200
    for method, path in (
        ("POST", "/echo"),
        ("OPTIONS", "/echo"),
        ("GET", "/emails/x"),
        ("POST", "/emails"),
        ("POST", "/emails/%2e%2e/admin"),
        ("POST", "/emails/..;/admin"),
        ("POST", "/emails/..%2Fadmin"),
        ("POST", "/emails//admin"),
        ("POST", "/emails/../admin"),
        ("GET", "/"),
    ):
        answer = await rig.ask(method, f"/v1/mesh/workers{path}")
        assert (method, path, answer.status) == (method, path, 403)
    assert [asked.line.split(b" ")[:2] for asked in rig.upstream.requests] == [
        [b"GET", b"/echo?path=../admin"],
        [b"POST", b"/emails/a/b"],
        [b"HEAD", b"/echo"],
    ]


async def test_a_refusal_says_what_is_let_through(rig):
    answer = await rig.ask("DELETE", "/v1/mesh/workers/emails/1?secret=1")
    assert problem(answer) == (403, "forbidden")
    said = "mesh.workers.allow lets GET /echo, POST /emails/* through, and not DELETE /emails/1"
    assert json.loads(answer.body)["detail"] == said
    shown = json.loads((await rig.ask("GET", "/v1/mesh")).body)["data"]["items"][0]
    assert shown["policy"]["allow"] == ["GET /echo", "POST /emails/*"]
    assert shown["totals"]["requests"] == 0


async def test_headers_that_name_another_request_do_not_pass_where_there_is_a_list(rig):
    names = (
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
    )
    headers = [f"{name}: DELETE" for name in names]
    await rig.ask("POST", "/v1/mesh/workers/emails/x", b"", *headers)
    assert not {name.lower().encode() for name in names} & set(rig.upstream.requests[-1].headers)
    rig.world.services.mesh.use(lambda _: MeshSettings())
    await rig.ask("POST", "/v1/mesh/workers/emails/x", b"", *headers)
    assert {name.lower().encode() for name in names} <= set(rig.upstream.requests[-1].headers)


async def test_an_underscore_carries_no_header_past_what_is_dropped(rig):
    overrides = ("X_HTTP_Method_Override", "X-HTTP_Method-Override", "X_Original_URL")
    ours = ("X_Forwarded_For", "X_Request_ID", "X_Timeout_Ms", "Proxy_Authorization")
    names = (*overrides, *ours)
    await rig.ask("POST", "/v1/mesh/workers/emails/x", b"", "X_Own: 1", *(f"{name}: 1" for name in names))
    sent = set(rig.upstream.requests[-1].headers)
    assert not {name.lower().encode() for name in names} & sent
    assert b"x_own" in sent


async def test_faults_of_the_configuration_are_shown_and_are_not_the_apis_to_end(rig):
    faulty = MeshSettings(timeout_ms=3000, faults=FaultSettings(percent=50, delay_ms=1))
    rig.world.services.mesh.faults.declare({"workers": faulty})
    static = {
        "type": "workers", "serviceId": None, "percent": 50, "delayMs": 1, "abortStatus": None, "drop": False,
        "static": True, "until": None,
    }  # fmt: skip

    async def data(method, path, body=b""):
        answer = await rig.ask(method, path, body, "Content-Type: application/json")
        assert answer.status == 200
        return json.loads(answer.body)["data"]

    assert (await data("GET", "/v1/mesh/faults"))["items"] == [static]
    assert (await data("GET", "/v1/mesh"))["items"][0]["faults"] == [static]
    put = await data("PUT", "/v1/mesh/faults", b'{"type": "workers", "percent": 0}')
    assert (put["static"], put["percent"]) == (False, 0)
    assert (await data("GET", "/v1/mesh/faults"))["items"] == [put, static]
    assert await data("DELETE", "/v1/mesh/faults?type=web") == {"removed": 0, "kept": 0}
    assert await data("DELETE", "/v1/mesh/faults") == {"removed": 1, "kept": 1}
    assert (await data("GET", "/v1/mesh/faults"))["items"] == [static]
