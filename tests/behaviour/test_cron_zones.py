"""New time zone data, as a distribution's update brings it: files that the process has read already are other ones."""

import os
import struct
import zoneinfo

import pytest
import trio

from econeura_daemon.core.clock import format_ms
from econeura_daemon.cron import zones
from tests.support.clocks import TrioClock
from tests.support.cron_rig import open_rig
from tests.support.inline_store import open_inline_store

HOUR = 3600
TOWN = "Test/Town"


def zone_file(hours):
    """A zone that is always ``hours`` ahead of UTC (RFC 9636)."""
    data = struct.pack(">lbb", hours * HOUR, 0, 0) + b"ABC\0"
    header = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return header + data + header + data + f"\nABC{-hours}\n".encode()


class Machine:
    """One whose zones are files of the test's."""

    def __init__(self, folder):
        self.path = folder / TOWN
        self.path.parent.mkdir()
        self.looks = 0

    def say(self, hours):
        new = self.path.with_suffix(".new")
        new.write_bytes(zone_file(hours))
        os.utime(new, (hours, hours))
        new.replace(self.path)

    async def data(self):
        self.looks += 1
        await trio.lowlevel.checkpoint()
        return zones.data_mark()


@pytest.fixture
def machine(tmp_path):
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([tmp_path])
    machine = Machine(tmp_path)
    machine.say(1)
    zones.use_new_data()
    yield machine
    zoneinfo.reset_tzpath(before)
    zones.use_new_data()


@pytest.fixture
async def clock():
    return TrioClock()


@pytest.fixture
async def store(clock):
    async with open_inline_store() as store:
        yield store


async def next_of(rig, job_id):
    return format_ms((await rig.job(job_id)).next_at)[11:16]


async def test_ticks_follow_new_data_within_an_hour_and_at_once_when_told_to_reload(
    machine, store, clock, autojump_clock
):
    async with open_rig(store, clock, zone_data=machine.data) as rig:
        town = await rig.add("0 12 * * *", timeZone=TOWN)
        other = await rig.add("0 12 * * *")
        assert await next_of(rig, town) == "11:00"
        machine.say(3)
        await trio.sleep(HOUR + 1)
        assert await next_of(rig, town) == "09:00"
        assert await next_of(rig, other) == "12:00"
        machine.say(2)
        rig.cron.use(rig.cron.settings)
        await trio.sleep(0.1)
        assert await next_of(rig, town) == "10:00"
        assert len((await rig.job(town)).to_json([])["nextRun"]) == 24
        await trio.sleep(48 * HOUR)
        assert {format_ms(run.scheduled_for)[11:16] for run in await rig.runs(town)} == {"10:00"}
        assert len(await rig.runs(town)) == 2
        assert machine.looks < 60


async def test_data_that_changed_while_the_daemon_was_off_is_noticed_at_the_start(
    machine, store, clock, autojump_clock
):
    async with open_rig(store, clock, zone_data=machine.data) as rig:
        town = await rig.add("0 12 * * *", timeZone=TOWN)
        await trio.sleep(1)
    machine.say(4)
    zones.use_new_data()  # another process has read nothing yet
    async with open_rig(store, clock, zone_data=machine.data, run_id="run_2") as rig:
        await trio.sleep(1)
        assert await next_of(rig, town) == "08:00"


@pytest.mark.parametrize("is_due_first", [True, False])
async def test_a_job_whose_zone_is_gone_is_disabled_and_says_why_and_the_others_go_on(
    machine, store, clock, autojump_clock, is_due_first
):
    async with open_rig(store, clock, zone_data=machine.data) as rig:
        town = await rig.add("* * * * *", timeZone=TOWN)
        other = await rig.add("* * * * *")
        await trio.sleep(1)
        machine.path.unlink()
        if is_due_first:
            zones.use_new_data()
            await trio.sleep(60)
        else:
            rig.cron.new_zones.look()
            await trio.sleep(0.1)
        job = await rig.job(town)
        assert (job.body.enabled, job.next_at) == (False, None)
        assert "there is no time zone 'Test/Town'" in job.disabled_reason
        await trio.sleep(180)
        assert len(await rig.runs(other)) >= 3
