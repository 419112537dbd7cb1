"""The watchdog under a clock that jumps; systemd is a real socket, the store a function."""

import logging
import socket
from datetime import UTC, datetime, timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.supervision.notify import open_notifier
from econeura_daemon.supervision.watchdog import JUMP, Clocks, Watchdog, boot_time

INTERVAL = 20.0


class World:
    """What the watchdog sees of the machine: the clocks, and a store that answers, fails or hangs."""

    def __init__(self):
        self.set_by = timedelta()
        self.suspended = 0.0
        self.store = "answers"
        self.lags = []
        self.pings = []

    def now(self):
        running = timedelta(seconds=trio.current_time() + self.suspended)
        return datetime(2026, 11, 24, tzinfo=UTC) + running + self.set_by

    def boot_time(self):
        return trio.current_time() + self.suspended

    async def ping(self):
        self.pings.append(trio.current_time())
        if self.store == "fails":
            raise StoreUnavailableError("the disk is gone")
        if self.store == "hangs":
            await trio.sleep_forever()
        if self.store == "has a bug":
            raise ValueError("a bug")


@pytest.fixture
def world():
    return World()


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        yield listening


@pytest.fixture
def environ(tmp_path, systemd):
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(int(INTERVAL * 1e6))}


@pytest.fixture
def watchdog(world, environ):
    with open_notifier(environ) as notifier:
        yield Watchdog(notifier, world.ping, world, observe_lag=world.lags.append, boot_time=world.boot_time)


def fed(systemd):
    """Return how often systemd was told since the last look."""
    count = 0
    while True:
        try:
            assert systemd.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            return count
        count += 1


async def test_it_is_fed_twice_an_interval(autojump_clock, nursery, watchdog, systemd):
    await nursery.start(watchdog.run)
    await trio.sleep(0.1)
    assert fed(systemd) == 1
    for _ in range(10):  # its socket holds but ten datagrams
        await trio.sleep(INTERVAL)
        assert fed(systemd) == 2
    assert watchdog.health().status == "healthy"


@pytest.mark.parametrize(("store", "why"), [("fails", ": the disk is gone\n"), ("hangs", "\n")])
async def test_a_store_that_does_not_answer_starves_it_within_an_interval(
    autojump_clock, nursery, watchdog, world, systemd, store, why, caplog
):
    await nursery.start(watchdog.run)
    await trio.sleep(INTERVAL * 2 + 0.1)
    world.store = store
    await trio.sleep(INTERVAL * 1.5)
    fed(systemd)
    await trio.sleep(INTERVAL * 10)
    assert fed(systemd) == 0
    assert "the watchdog is not fed: the store does not answer" + why in caplog.text
    assert watchdog.health().status == "unhealthy"


async def test_it_is_fed_again_once_the_store_answers_again(
    autojump_clock, nursery, watchdog, world, systemd, caplog
):
    caplog.set_level(logging.INFO)
    await nursery.start(watchdog.run)
    world.store = "fails"
    await trio.sleep(INTERVAL * 3 + 0.1)
    world.store = "answers"
    await trio.sleep(INTERVAL)
    fed(systemd)
    await trio.sleep(INTERVAL * 2)
    assert fed(systemd) == 4
    assert "the watchdog is fed again" in caplog.text


async def test_a_hanging_ping_is_not_joined_by_others(autojump_clock, nursery, watchdog, world):
    world.store = "hangs"
    nursery.start_soon(watchdog.run)
    await trio.sleep(INTERVAL * 10)
    assert len(world.pings) == 1


async def test_it_has_started_once_the_store_has_answered(autojump_clock, nursery, watchdog, world):
    world.store = "hangs"
    with trio.move_on_after(100) as scope:
        await nursery.start(watchdog.run)
    assert scope.cancelled_caught


async def test_a_bug_in_the_ping_is_not_hidden(autojump_clock, watchdog, world):
    world.store = "has a bug"
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        await watchdog.run()


async def test_a_loop_that_lags_is_not_fed_until_it_keeps_up_again(
    autojump_clock, nursery, watchdog, world, systemd, caplog
):
    await nursery.start(watchdog.run)
    await trio.sleep(INTERVAL * 2 + 0.1)
    fed(systemd)
    # As if one step of some task had lasted from just after a feed to long after the next was due. The
    # store's last answer is not too old yet.
    autojump_clock.jump(INTERVAL * 0.9)
    await wait_all_tasks_blocked()
    assert fed(systemd) == 0
    assert "the watchdog is not fed: the event loop lags" in caplog.text
    assert max(world.lags) > INTERVAL / 2
    assert watchdog.health().status == "unhealthy"
    await trio.sleep(INTERVAL * 2 + 1)
    assert fed(systemd) == 4
    assert watchdog.health().status == "degraded"
    await trio.sleep(61)
    assert watchdog.health().status == "healthy"


async def test_lag_is_measured_without_systemd_and_nobody_is_asked(autojump_clock, nursery, world):
    with open_notifier({}) as notifier:
        watchdog = Watchdog(notifier, world.ping, world, observe_lag=world.lags.append)
        await nursery.start(watchdog.run)
        await trio.sleep(10.1)
        assert len(world.lags) == 20
        assert world.pings == []
        nursery.cancel_scope.cancel()


async def test_a_step_of_the_wall_clock_is_said_and_feeds_on(
    autojump_clock, nursery, watchdog, world, systemd, caplog
):
    await nursery.start(watchdog.run)
    await trio.sleep(INTERVAL + 0.1)
    world.set_by = timedelta(hours=-1)
    await trio.sleep(INTERVAL)
    world.set_by = timedelta(hours=1)
    await trio.sleep(INTERVAL - 1.1)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the wall clock was set by -3600.0 s", "the wall clock was set by +7200.0 s"]
    assert fed(systemd) == 6


async def test_a_suspended_machine_is_said_and_is_no_step(autojump_clock, nursery, watchdog, world, caplog):
    await nursery.start(watchdog.run)
    world.suspended = 600
    await trio.sleep(INTERVAL)
    assert [record.getMessage() for record in caplog.records] == ["the machine was suspended for 600.0 s"]


seconds = st.floats(0, 1e6)


@given(seconds, seconds, st.floats(-1e6, 1e6))
def test_three_clocks_tell_a_suspend_and_a_step_apart(ran, suspended, stepped):
    before = Clocks(5.0, 100.0, 1e9)
    after = Clocks(5.0 + ran, 100.0 + ran + suspended, 1e9 + ran + suspended + stepped)
    if abs(suspended - JUMP) > 1e-3:
        assert before.suspended(after) == pytest.approx(suspended if suspended > JUMP else 0, abs=1e-3)
    if abs(abs(stepped) - JUMP) > 1e-3:
        assert before.stepped(after) == pytest.approx(stepped if abs(stepped) > JUMP else 0, abs=1e-3)


def test_the_boot_clock_goes_on():
    assert 0 < boot_time() <= boot_time()
