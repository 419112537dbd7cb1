"""Whose an ``Authorization`` is, on its way through the gateway: the daemon's, or the service's."""

import base64

import pytest
import trio

from tests.http.gateway_rig import open_rig, problem

PATIENCE = 30
BASIC = "Basic " + base64.b64encode(b"user:password").decode()
DISGUISED = "Basic " + base64.b64encode(b"user:eco_publisher").decode()
PATH = "/v1/mesh/workers/echo"

# What is sent, the status, and the Authorization that the instance gets.
FREE = [
    ([], 200, None),
    (["Authorization: Bearer theirs"], 200, b"Bearer theirs"),
    ([f"Authorization: {BASIC}"], 200, BASIC.encode()),
    (["Authorization: AWS4-HMAC-SHA256 Credential=a/b"], 200, b"AWS4-HMAC-SHA256 Credential=a/b"),
    (["Authorization: Bearer a.deco_b.c-eco_d"], 200, b"Bearer a.deco_b.c-eco_d"),
    (["Authorization: Bearer eco_publisher"], 200, None),
    (["authorization: bearer  eco_publisher"], 200, None),
    (["Authorization: Bearer eco_reader"], 403, None),
    (["Authorization: Bearer eco_revoked"], 401, None),
    (["Authorization: Token eco_publisher"], 401, None),
    ([f"Authorization: {DISGUISED}"], 401, None),
    (["Authorization: Bearer theirs, Bearer eco_publisher"], 401, None),
    (["Authorization: Bearer theirs", "Authorization: Bearer eco_publisher"], 400, None),
    (["Authorization: Bearer eco_publisher", "Authorization: Bearer theirs"], 400, None),
    (["Proxy-Authorization: Bearer eco_publisher", "Authorization: Bearer theirs"], 200, b"Bearer theirs"),
    (["Proxy-Authorization: Bearer eco_publisher", "Authorization: Bearer eco_reader"], 200, None),
    (["Proxy-Authorization: Bearer eco_publisher", f"Authorization: {DISGUISED}"], 200, None),
    (["Proxy-Authorization: Bearer eco_publisher"], 200, None),
    (["Proxy-Authorization: Bearer eco_reader", "Authorization: Bearer eco_publisher"], 403, None),
    (["Proxy-Authorization: Bearer unknown", "Authorization: Bearer theirs"], 401, None),
    (["Proxy-Authorization: Bearer eco_publisher", "Proxy-Authorization: Bearer eco_publisher"], 400, None),
]  # fmt: skip

NEEDED = [
    ([], 401, None),
    (["Authorization: Bearer theirs"], 401, None),
    ([f"Authorization: {BASIC}"], 401, None),
    (["Authorization: Bearer eco_publisher"], 200, None),
    (["Authorization: Bearer eco_revoked"], 401, None),
    (["Proxy-Authorization: Bearer eco_publisher", "Authorization: Bearer theirs"], 200, b"Bearer theirs"),
    (["Proxy-Authorization: Bearer eco_publisher", "Authorization: Bearer eco_publisher"], 200, None),
    (["Proxy-Authorization: Bearer theirs", "Authorization: Bearer eco_publisher"], 401, None),
]


@pytest.fixture
async def rig(tmp_path):
    with trio.fail_after(PATIENCE):
        async with open_rig(tmp_path) as opened:
            yield opened


async def check(rig, table, *more):
    for headers, status, passed in table:
        rig.upstream.requests.clear()
        answer = await rig.ask("GET", PATH, b"", *headers, *more)
        assert (headers, answer.status) == (headers, status)
        if status != 200:
            problem(answer)
            assert rig.upstream.requests == []
            continue
        (asked,) = rig.upstream.requests
        assert (headers, asked.headers.get(b"authorization")) == (headers, passed)
        assert not any(b"eco_publisher" in value or b"eco_reader" in value for _, value in asked.pairs)
        assert b"proxy-authorization" not in asked.headers


async def test_where_no_token_is_needed_credentials_that_are_not_ours_are_the_services(rig):
    await check(rig, FREE)


async def test_what_came_through_a_proxy_needs_a_token_and_may_bear_both(rig):
    await check(rig, NEEDED, "Forwarded: for=192.0.2.1")
    await check(rig, NEEDED, "X-Forwarded-For: 192.0.2.1")


async def test_where_a_token_is_required_it_is_ours_alone(tmp_path):
    with trio.fail_after(PATIENCE):
        async with open_rig(tmp_path, auth_required=True) as rig:
            await check(rig, NEEDED)
            answer = await rig.ask("GET", PATH, b"", "Authorization: Bearer theirs")
            assert b"is in Proxy-Authorization" in answer.body
            assert b"theirs" not in answer.body


async def test_other_routes_take_no_foreign_credentials_and_no_proxy_authorization(rig):
    for path in ("/v1/mesh", "/v1/mesh/calls", "/v1/mesh/workers"):
        answer = await rig.ask("GET", path, b"", "Authorization: Bearer theirs")
        assert problem(answer) == (401, "unauthorized")
    answer = await rig.ask(
        "GET", "/v1/mesh", b"", "Proxy-Authorization: Bearer eco_reader", "Forwarded: for=x"
    )
    assert problem(answer) == (401, "unauthorized")


async def test_what_the_instance_asks_for_comes_back(rig):
    rig.upstream.challenge = b'Basic realm="theirs"'
    answer = await rig.ask("GET", "/v1/mesh/workers/status", b"", "X-Status: 401")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="theirs"')
