"""The registrant under a clock that jumps, against a daemon in memory."""

import logging
import re
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import httpx
import pytest
import trio

from econeura_daemon.finding import DEFAULT_URL
from econeura_daemon.registrant import ConfigurationError, RefusedError, UnavailableError, registered
from tests.support.pretended_daemon import PretendedDaemon

TTL = 30.0
ID = "orders:127.0.0.1:8080"
ID_IN_PATH = "orders%3A127.0.0.1%3A8080"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """Nothing leads to a real daemon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ECONEURA_URL", "ECONEURA_TOKEN", "ECONEURA_TOKEN_FILE", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def daemon(nursery):
    async def travel():
        await trio.sleep(0.01)

    return PretendedDaemon(nursery, travel)


@asynccontextmanager
async def orders(daemon, **more):
    named = {"ttl": TTL, "rng": Random(5), "url": "http://daemon", "transport": daemon.transport, **more}
    async with registered("orders", "127.0.0.1", 8080, **named) as service:
        yield service


def problem(status, title, *flaws):
    details = [{"path": path, "message": message} for path, message in flaws]
    return httpx.Response(status, json={"title": title, "detail": "It is so", "details": details})


async def test_an_instance_is_there_for_the_length_of_the_block(daemon, autojump_clock):
    async with orders(
        daemon,
        tags=["x"],
        metadata={"zone": 1},
        endpoints=[{"endpoint": "/v1/orders"}],
        check={"kind": "tcp"},
        deregister_after=60,
        weight=5,
        token="secret",
    ) as service:
        assert service.is_registered
        assert (service.id, service.status, service.last_error) == (ID, "healthy", None)
        assert list(daemon.instances) == [ID]
        assert "secret" not in repr(service)
    assert daemon.paths() == ["POST /v1/services", f"DELETE /v1/services/{ID_IN_PATH}"]
    assert daemon.asked[0].body == {
        "type": "orders",
        "host": "127.0.0.1",
        "port": 8080,
        "id": ID,
        "tags": ["x"],
        "metadata": {"zone": 1},
        "weight": 5,
        "endpoints": [{"endpoint": "/v1/orders"}],
        "check": {"kind": "tcp"},
        "ttlMs": 30000,
        "deregisterAfterMs": 60000,
    }
    assert {one.headers["authorization"] for one in daemon.asked} == {"Bearer secret"}
    assert daemon.instances == {}
    assert daemon.connections == 0
    assert not service.is_registered


async def test_a_lease_is_renewed_three_times_over_by_one_request_each_and_never_in_step(
    daemon, autojump_clock
):
    async with orders(daemon):
        await trio.sleep(40 * TTL)
        renewals = [one.at for one in daemon.asked[1:]]
        assert {one.path for one in daemon.asked[1:]} == {f"/v1/services/{ID_IN_PATH}/heartbeat"}
        assert daemon.connections == 1
    gaps = [later - earlier for earlier, later in pairwise(renewals)]
    assert 0.8 * TTL / 3 <= min(gaps) < 0.85 * TTL / 3
    assert 0.95 * TTL / 3 < max(gaps) <= TTL / 3 + 0.02
    assert 40 * 3 <= len(renewals) <= 40 * 3 / 0.8


async def test_an_instance_that_the_daemon_lost_is_registered_again_at_once(daemon, autojump_clock):
    async with orders(daemon) as service:
        daemon.instances.clear()
        await trio.sleep(TTL / 3 + 0.1)
        assert daemon.paths()[1:] == [f"PUT /v1/services/{ID_IN_PATH}/heartbeat", "POST /v1/services"]
        assert daemon.asked[2].at - daemon.asked[1].at < 0.1
        assert list(daemon.instances) == [ID]
        assert service.is_registered


async def test_a_daemon_that_goes_away_is_asked_with_growing_patience_until_it_is_back(
    daemon, autojump_clock, caplog
):
    caplog.set_level(logging.INFO, "econeura_daemon.registrant")
    tries = []

    def transport():
        tries.append(trio.current_time())
        return daemon.transport()

    async with orders(daemon, transport=transport) as service:
        daemon.is_down = True
        await trio.sleep(TTL * 0.9)
        assert service.is_registered  # the lease is live
        assert isinstance(service.last_error, UnavailableError)
        await trio.sleep(TTL)
        assert not service.is_registered
        assert str(service.last_error) == "no daemon answers at http://daemon: connection refused"
        waits = [later - earlier for earlier, later in pairwise(tries[1:])]
        assert 0.25 <= waits[0] <= 0.51
        assert max(waits) <= TTL / 3 + 0.1
        assert all(later > earlier * 0.9 for earlier, later in pairwise(waits[:5]))
        daemon.is_down = False
        await trio.sleep(TTL / 3 + 0.1)
        assert service.is_registered
        assert service.last_error is None
        assert daemon.paths()[-1].endswith("/heartbeat")  # it may be known still
        daemon.instances.clear()
        daemon.is_down = True
        await trio.sleep(TTL)
        daemon.is_down = False
        await trio.sleep(TTL / 3 + 0.1)
        assert service.is_registered
        assert list(daemon.instances) == [ID]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 2, "one an outage"
    assert warnings[0].startswith(f"{ID} is not renewed: no daemon answers")


async def test_an_absent_daemon_holds_the_start_up_for_no_longer_than_was_asked(daemon, autojump_clock):
    daemon.is_down = True
    for asked, taken in ((0, 0), (2, 2)):
        began = trio.current_time()
        async with orders(daemon, start_timeout=asked) as service:
            assert trio.current_time() - began == pytest.approx(taken)
            assert not service.is_registered
            daemon.is_down = False
            await trio.sleep(TTL / 3)
            assert service.is_registered
            daemon.is_down = True
        daemon.instances.clear()


async def test_a_daemon_that_hangs_bounds_neither_start_nor_end(daemon, autojump_clock):
    daemon.hangs = True
    began = trio.current_time()
    async with orders(daemon) as service:
        assert trio.current_time() - began == pytest.approx(5)
        await trio.sleep(2)
        assert str(service.last_error) == "http://daemon did not answer within 5 s"
        left = trio.current_time()
    assert trio.current_time() - left <= 10
    assert daemon.paths()[-1].startswith("DELETE"), "the answer was lost; it may have been registered"


async def test_a_refusal_at_the_start_is_raised_with_all_its_flaws(daemon, autojump_clock):
    daemon.refusal = problem(400, "Invalid input", ("$.type", "is reserved"), ("$.host", "is missing"))
    with pytest.raises(
        RefusedError, match=re.escape("400: Invalid input; $.type: is reserved; $.host")
    ) as caught:
        async with orders(daemon):
            raise AssertionError("it must not begin")
    assert caught.value.status == 400
    assert daemon.paths() == ["POST /v1/services"], (
        "what was refused is not deregistered: it may be another's"
    )


async def test_a_refusal_later_is_told_and_ends_nothing(daemon, autojump_clock, caplog):
    async with orders(daemon) as service:
        daemon.refusal = problem(401, "Unauthorized")
        await trio.sleep(TTL * 2)
        assert isinstance(service.last_error, RefusedError)
        assert "ECONEURA_TOKEN_FILE" in str(service.last_error)
        assert not service.is_registered
        daemon.refusal = None
        await trio.sleep(TTL / 3)
        assert service.is_registered
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["ERROR"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(503, "Overloaded"), UnavailableError),
        (problem(429, "Too many"), UnavailableError),
        (httpx.ReadError("reset"), UnavailableError),
        (httpx.RemoteProtocolError("cut off"), UnavailableError),
        (problem(403, "Forbidden"), RefusedError),
        (httpx.Response(200, text="<html>"), RefusedError),
        (httpx.Response(200, json=[]), RefusedError),
        (httpx.Response(302, text=""), RefusedError),
        (httpx.Response(404, text="nginx"), RefusedError),
        (ZeroDivisionError("a bug"), Exception),
    ],
)
async def test_whatever_comes_back_the_block_goes_on_and_so_does_the_registrant(
    answer, error, daemon, autojump_clock
):
    async with orders(daemon, start_timeout=0) as service:
        daemon.refusal = answer
        await trio.sleep(TTL)
        assert isinstance(service.last_error, error)
        daemon.refusal = None
        await trio.sleep(TTL / 3)
        assert service.is_registered
        assert service.last_error is None


async def test_a_drain_outlasts_a_daemon_that_lost_everything(daemon, autojump_clock):
    async with orders(daemon) as service:
        await service.drain()
        assert service.status == daemon.instances[ID]["status"] == "draining"
        daemon.instances.clear()
        await trio.sleep(TTL / 3 + 0.1)
        assert service.status == daemon.instances[ID]["status"] == "draining"
        await service.undrain()
        daemon.instances.clear()
        await trio.sleep(TTL / 3 + 0.1)
        assert daemon.instances[ID]["status"] == "healthy"
        daemon.instances.clear()
        await service.drain()  # the daemon does not know it now; the next registration says it
        await trio.sleep(TTL / 3 + 0.1)
        assert daemon.instances[ID]["status"] == "draining"


async def test_a_drain_that_did_not_come_through_is_raised_and_not_made_up_for_later(daemon, autojump_clock):
    async with orders(daemon) as service:
        daemon.is_down = True
        with pytest.raises(UnavailableError):
            await service.drain()
        daemon.is_down = False
        daemon.refusal = problem(403, "Forbidden")
        with pytest.raises(RefusedError):
            await service.drain()
        daemon.refusal = None
        daemon.instances.clear()
        await trio.sleep(TTL / 3 + 0.1)
        assert daemon.instances[ID]["status"] == "healthy"


async def test_a_drain_beside_a_registration_under_way_is_not_lost(daemon, autojump_clock):
    for delay in (0.0, 0.005, 0.015, 0.025, 0.035):
        async with orders(daemon, start_timeout=0) as service:
            await trio.sleep(delay)
            await service.drain()
            await trio.sleep(1)
            assert daemon.instances[ID]["status"] == "draining", delay


async def test_what_the_daemon_says_of_the_instance_is_known_after_the_next_renewal(daemon, autojump_clock):
    async with orders(daemon) as service:
        daemon.instances[ID]["status"] = "draining"  # by an operator
        await trio.sleep(TTL / 3 + 0.1)
        assert service.status == "draining"


async def test_two_in_one_process_know_nothing_of_each_other(daemon, autojump_clock):
    async with orders(daemon) as one, orders(daemon, instance_id="other") as other:
        assert set(daemon.instances) == {one.id, other.id}
        await trio.sleep(TTL)
        assert set(daemon.instances) == {ID, "other"}
    assert daemon.instances == {}


@pytest.mark.parametrize("error", [ValueError("x"), ExceptionGroup("g", [ValueError()]), KeyboardInterrupt()])
async def test_an_exception_passes_as_it_is(error, daemon, autojump_clock):
    with pytest.raises(type(error)) as caught:
        async with orders(daemon):
            raise error
    assert caught.value is error
    assert daemon.instances == {}


async def test_an_exception_beside_a_cancellation_is_not_lost(daemon, autojump_clock):
    async def leave():
        with trio.CancelScope() as scope:
            async with orders(daemon):
                scope.cancel()
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await leave()
    assert daemon.instances == {}


async def test_cancelled_at_any_time_it_leaves_nothing(nursery, autojump_clock):
    for step in range(1, 400):

        async def travel():
            await trio.sleep(0.1)

        daemon = PretendedDaemon(nursery, travel)
        with trio.move_on_after(step * 0.017) as scope:
            async with orders(daemon, ttl=3.0) as service:
                await trio.sleep(0.15)
                await service.drain()
                await trio.sleep(1)
                daemon.instances.clear()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await daemon.idle()
        assert daemon.instances == {}, step
        assert daemon.connections == 0, step
        assert not daemon.asked or daemon.paths()[-1] == f"DELETE /v1/services/{ID_IN_PATH}", step


async def test_address_and_token_are_those_of_the_environment_as_they_are_now(
    daemon, autojump_clock, monkeypatch, tmp_path
):
    token = tmp_path / "token"
    token.write_text("first\n")
    monkeypatch.setenv("ECONEURA_TOKEN_FILE", str(token))
    async with orders(daemon, url=None) as service:
        assert daemon.asked[-1].headers["host"] == DEFAULT_URL.removeprefix("http://")
        assert daemon.asked[-1].headers["authorization"] == "Bearer first"
        token.write_text("second\n")
        monkeypatch.setenv("ECONEURA_URL", "http://elsewhere:5/prefix/")
        daemon.is_down = True
        await trio.sleep(TTL / 3 + 0.1)
        daemon.is_down = False
        daemon.refusal = problem(503, "To see what was asked")
        await trio.sleep(TTL / 3)
        assert daemon.asked[-1].headers["host"] == "elsewhere:5"
        assert daemon.asked[-1].path.startswith("/prefix/v1/services/")
        assert daemon.asked[-1].headers["authorization"] == "Bearer second"
        token.unlink()
        daemon.refusal = None
        daemon.is_down = True
        await trio.sleep(TTL)
        assert isinstance(service.last_error, ConfigurationError)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"url": "ftp://x"}, "expected http://HOST:PORT"),
        ({"url": "127.0.0.1:3001"}, "expected http://HOST:PORT"),
        ({"url": "http://x:99999"}, "'http://x:99999' is no address"),
        ({"url": "http://u:p@x"}, "no user name"),
        ({"url": "unix:"}, "names no socket"),
        ({"token": "ö"}, "printable ASCII"),
    ],
)
async def test_what_cannot_be_right_is_told_before_anything_begins(named, said, daemon, autojump_clock):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        async with orders(daemon, **named):
            raise AssertionError("it must not begin")
    assert daemon.asked == []


async def test_metadata_that_is_no_json_is_told_before_anything_begins(daemon, autojump_clock):
    with pytest.raises(TypeError, match="not JSON serializable"):
        async with orders(daemon, metadata={"x": object()}):
            raise AssertionError("it must not begin")


@pytest.mark.parametrize("ttl", [0, -1, 0.05, 1e6, float("nan"), float("inf")])
async def test_a_lease_that_no_daemon_grants_is_told_before_anything_begins(ttl, daemon, autojump_clock):
    with pytest.raises(ValueError, match=r"^ttl: expected 0\.1 to 86400 seconds, got "):
        async with orders(daemon, ttl=ttl):
            raise AssertionError("it begins")
    assert daemon.asked == []


async def test_what_was_not_heard_of_yet_has_no_reason(daemon, autojump_clock):
    async with orders(daemon, start_timeout=0) as service:
        assert repr(service) == "<Service orders:127.0.0.1:8080 (orders): not registered>"
