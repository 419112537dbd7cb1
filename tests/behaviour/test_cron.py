"""Cron's jobs and their runs, days of them in milliseconds: clock and timers ride together.

The store runs its works in line, so nothing here depends on how long a thread takes.
"""

import itertools
from datetime import timedelta

import attrs
import pytest
import trio

from econeura_daemon.core.clock import format_ms, to_ms
from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.core.jsons import loads
from econeura_daemon.cron.model import Outcome, RunStatus
from tests.support.clocks import START, TrioClock
from tests.support.cron_rig import DEFAULTS, EVENT, GOOD, REQUEST, open_rig
from tests.support.inline_store import open_inline_store

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.fixture
async def clock():
    return TrioClock()


@pytest.fixture
async def store(clock):
    async with open_inline_store() as store:
        yield store


def times(runs):
    return [format_ms(run.scheduled_for)[11:19] for run in runs]


async def test_a_week_of_an_hourly_job_is_a_run_an_hour_and_an_event_each(store, clock, autojump_clock):
    keys = []

    async def call(_action, key, _timeout):
        keys.append(key)
        return GOOD

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("@hourly")
        await trio.sleep(7 * DAY + 1)
        runs = await rig.runs(job_id)
        assert [run.scheduled_for for run in runs] == [
            to_ms(START + timedelta(hours=n)) for n in range(1, 7 * 24 + 1)
        ][-len(runs) :]
        assert keys == [
            f"cron:{job_id}:{format_ms(to_ms(START + timedelta(hours=n)))}" for n in range(1, 7 * 24 + 1)
        ]
        assert (await rig.event_types()).count("cron.run_succeeded") == 7 * 24
        job = await rig.job(job_id)
        assert (job.run_count, job.error_count, job.missed_count, job.late_count) == (7 * 24, 0, 0, 0)
        assert job.last_status is RunStatus.SUCCEEDED


async def test_an_event_action_is_appended_once_a_tick(store, clock, autojump_clock):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("* * * * * *", EVENT)
        await trio.sleep(100.5)
        types = await rig.event_types()
        assert types.count("clock.ticked") == types.count("cron.run_succeeded") == 100
        assert (await rig.job(job_id)).run_count == 100


async def test_overlap_skip_counts_the_tick_and_queue_runs_it_afterwards(store, clock, autojump_clock):
    under_way = most = 0

    async def call(_action, _key, _timeout):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(150)
        under_way -= 1
        return GOOD

    async with open_rig(store, clock, call) as rig:
        skipping = await rig.add("* * * * *", overlap="skip")
        await trio.sleep(5 * MINUTE + 1)
        assert await rig.statuses(skipping) == ["succeeded", "skipped", "skipped", "running", "skipped"]
        assert most == 1
        assert (await rig.job(skipping)).skipped_count == 3
        assert "cron.run_skipped" not in await rig.event_types()


async def test_overlap_queue_runs_the_ticks_one_after_the_other(store, clock, autojump_clock):
    spans = []

    async def call(_action, _key, _timeout):
        began = trio.current_time()
        await trio.sleep(90)
        spans.append((began, trio.current_time()))
        return GOOD

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("* * * * *", overlap="queue")
        await trio.sleep(4 * MINUTE + 30)
        await rig.cron.jobs.disable(job_id)
        await trio.sleep(4 * MINUTE)
        assert await rig.statuses(job_id) == ["succeeded"] * 4
    assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(spans))


async def test_overlap_allow_runs_them_beside_each_other(store, clock, autojump_clock):
    under_way = []

    async def call(_action, key, _timeout):
        under_way.append(key)
        await trio.sleep_forever()

    async with open_rig(store, clock, call, drain_until=trio.current_time) as rig:
        job_id = await rig.add("* * * * *", overlap="allow")
        await trio.sleep(3 * MINUTE + 1)
        assert len(under_way) == 3
        assert await rig.statuses(job_id) == ["running"] * 3


async def test_what_finds_no_room_waits_and_runs_in_turn(store, clock, autojump_clock):
    most = 0

    async def call(_action, _key, _timeout):
        nonlocal most
        most = max(most, rig.cron.running.room)
        await trio.sleep(1)
        return GOOD

    async with open_rig(store, clock, call, settings=attrs.evolve(DEFAULTS, max_running=3)) as rig:
        ids = [await rig.add("@hourly") for _ in range(10)]
        await trio.sleep(HOUR + 10)
        statuses = [await rig.statuses(job_id) for job_id in ids]
        assert statuses == [["succeeded"]] * 10
        started = sorted([(await rig.runs(job_id))[0].started_at for job_id in ids])
        begun_at = [(at - to_ms(START)) // 1000 - HOUR for at in started]
        assert begun_at == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


async def test_a_failed_run_is_tried_again_under_the_same_key_and_then_counts_as_an_error(
    store, clock, autojump_clock
):
    keys = []

    async def call(_action, key, _timeout):
        keys.append(key)
        return Outcome(status=RunStatus.FAILED, error="answered 500", output="oh no")

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("@hourly", retries=2)
        await trio.sleep(HOUR + 30)
        (run,) = await rig.runs(job_id)
        assert (run.status, run.attempt, run.error) == (RunStatus.FAILED, 3, "answered 500")
        assert len(keys) == 3
        assert len(set(keys)) == 1
        job = await rig.job(job_id)
        assert (job.run_count, job.error_count) == (1, 1)
        assert (await rig.event_types()).count("cron.run_failed") == 1


async def test_a_run_that_does_not_end_is_timed_out(store, clock, autojump_clock):
    async def call(_action, _key, _timeout):
        await trio.sleep_forever()

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("@hourly", retries=0, timeoutMs=60_000)
        await trio.sleep(HOUR + 59)
        assert await rig.statuses(job_id) == ["running"]
        await trio.sleep(2)
        (run,) = await rig.runs(job_id)
        assert (run.status, run.error) == (RunStatus.TIMED_OUT, "no end within 60000 ms")
        assert "cron.run_failed" in await rig.event_types()


async def test_a_bug_in_one_run_is_that_runs_alone(store, clock, autojump_clock):
    async def call(action, _key, _timeout):
        if action.path == "/bug":
            raise RuntimeError("a bug")
        return GOOD

    async with open_rig(store, clock, call) as rig:
        broken = await rig.add("@hourly", {**REQUEST, "path": "/bug"}, retries=0)
        sound = await rig.add("@hourly")
        await trio.sleep(2 * HOUR + 1)
        assert await rig.statuses(broken) == ["failed"] * 2
        assert await rig.statuses(sound) == ["succeeded"] * 2


async def test_a_job_that_keeps_failing_is_paused_if_it_says_so(store, clock, autojump_clock):
    async def call(_action, _key, _timeout):
        return Outcome(status=RunStatus.FAILED, error="answered 500")

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("@hourly", retries=0, pauseAfterFailures=3)
        await trio.sleep(DAY)
        job = await rig.job(job_id)
        assert await rig.statuses(job_id) == ["failed"] * 3
        assert (job.body.enabled, job.next_at) == (False, None)
        assert job.disabled_reason == "3 runs failed one after the other"
        job = await rig.cron.jobs.enable(job_id)
        assert (job.failures_in_row, job.disabled_reason) == (0, None)
        await trio.sleep(HOUR + 1)
        assert await rig.statuses(job_id) == ["failed"] * 4


async def test_enabling_does_not_backfill(store, clock, autojump_clock):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("@hourly")
        await rig.cron.jobs.disable(job_id)
        await trio.sleep(5 * HOUR + 1)
        job = await rig.cron.jobs.enable(job_id)
        assert format_ms(job.next_at) == "2026-11-24T08:00:00.000Z"
        await trio.sleep(HOUR)
        assert times(await rig.runs(job_id)) == ["08:00:00"]
        assert (await rig.job(job_id)).missed_count == 0


async def test_an_edit_counts_from_now_on_and_wakes_the_ticker(store, clock, autojump_clock):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("@daily")
        await trio.sleep(90)
        job = await rig.cron.jobs.patch(job_id, {"schedule": "* * * * *", "timeZone": "Europe/Madrid"})
        assert format_ms(job.next_at)[11:19] == "02:02:00"
        await trio.sleep(60)
        assert times(await rig.runs(job_id)) == ["02:02:00"]


async def test_a_job_may_be_run_now_also_while_it_is_disabled(store, clock, autojump_clock):
    keys = []

    async def call(_action, key, _timeout):
        keys.append(key)
        return GOOD

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("@daily", enabled=False)
        run = await rig.cron.jobs.run(job_id)
        assert run.status is RunStatus.QUEUED
        await trio.sleep(1)
        (run,) = await rig.runs(job_id)
        assert (run.status, run.trigger.value) == (RunStatus.SUCCEEDED, "manual")
        assert keys == [f"cron:{job_id}:{run.id}"]


async def test_a_run_that_somebody_asked_for_waits_for_the_one_under_way_and_is_not_skipped(
    store, clock, autojump_clock
):
    began = []

    async def call(_action, _key, _timeout):
        began.append(trio.current_time())
        await trio.sleep(90)
        return GOOD

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("* * * * *")
        await trio.sleep(61)
        for _ in range(2):
            await rig.cron.jobs.run(job_id)
        await trio.sleep(300)
        runs = await rig.runs(job_id)
        manual = [run for run in runs if run.trigger.value == "manual"]
        assert [run.status for run in manual] == [RunStatus.SUCCEEDED] * 2
        assert [run.status for run in runs].count(RunStatus.SKIPPED) >= 3, "ticks are"
        assert min(b - a for a, b in itertools.pairwise(began)) >= 90, "and no two are under way at once"


async def test_each_run_that_came_to_its_end_has_one_event_whatever_became_of_it(
    store, clock, autojump_clock
):
    async def call(action, _key, timeout):
        if action.path == "/late":
            await trio.sleep(timeout + 1)
        await trio.sleep(70 if action.path == "/slow" else 0)
        return GOOD if action.path != "/bad" else Outcome(status=RunStatus.FAILED, error="no")

    async with open_rig(store, clock, call) as rig:
        for path in ("/good", "/bad", "/slow", "/late"):
            await rig.add("* * * * *", {**REQUEST, "path": path}, timeoutMs=80_000)
        await rig.add("* * * * *", EVENT)
        await rig.add("* * * * *", misfire="skip")
        await trio.sleep(600)
        clock.step(timedelta(minutes=5))  # ticks are missed
        await trio.sleep(625)
        jobs = [job.id for job in await rig.cron.jobs.page(None, 100)]
        runs = [run for job_id in jobs for run in await rig.runs(job_id) if run.finished_at]
        told = [
            (loads(event.body)["data"]["runId"], event.type)
            for event in await rig.log.page(type="cron.*", limit=100_000)
        ]
        assert len(told) == len({run_id for run_id, _ in told}) > 60
        types = {"succeeded": "succeeded", "failed": "failed", "timed_out": "failed", "missed": "missed"}
        assert dict(told) == {
            run.id: f"cron.run_{types[run.status]}" for run in runs if run.status != RunStatus.SKIPPED
        }
        assert {run.status.value for run in runs} == {*types, "skipped"}


async def test_jitter_is_the_same_at_every_tick_and_spreads_the_jobs(store, clock, autojump_clock):
    began = {}

    async def call(action, _key, _timeout):
        began.setdefault(action.path, []).append(trio.current_time() % HOUR)
        return GOOD

    async with open_rig(store, clock, call) as rig:
        for n in range(20):
            await rig.add("@hourly", {**REQUEST, "path": f"/{n}"}, jitterMs=10 * MINUTE * 1000)
        await trio.sleep(5 * HOUR)
    assert all(max(one) - min(one) < 0.01 for one in began.values())
    firsts = [one[0] for one in began.values()]
    assert max(firsts) - min(firsts) > 5 * MINUTE
    assert len({round(one) for one in firsts}) > 15


@pytest.mark.parametrize(
    ("misfire", "window", "expected"),
    [
        ("latest", HOUR, ["missed"] * 2 + ["succeeded"]),
        ("latest", 5 * MINUTE, ["missed"] * 3),
        ("all", HOUR, ["missed"] + ["succeeded"] * 2),
        ("all", DAY, ["succeeded"] * 3),
        ("skip", HOUR, ["missed"] * 3),
    ],
)
async def test_after_a_restart_the_misfire_policy_decides(
    store, clock, autojump_clock, misfire, window, expected
):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("*/30 * * * *", misfire=misfire, misfireWindowMs=window * 1000)
    await trio.sleep(100 * MINUTE)  # 02:30, 03:00, 03:30 fall due; it is 03:40
    async with open_rig(store, clock, run_id="run_2") as rig:
        await trio.sleep(1)
        assert times(await rig.runs(job_id)) == ["02:30:00", "03:00:00", "03:30:00"]
        assert await rig.statuses(job_id) == expected
        job = await rig.job(job_id)
        assert job.missed_count == expected.count("missed")
        assert job.late_count == expected.count("succeeded")
        assert (await rig.event_types()).count("cron.run_missed") == expected.count("missed")
        await trio.sleep(20 * MINUTE)
        assert times(await rig.runs(job_id))[-1] == "04:00:00"


async def test_a_month_of_absence_is_no_burst_and_costs_no_time(store, clock, autojump_clock):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("* * * * * *")
    await trio.sleep(30 * DAY + 0.5)
    async with open_rig(store, clock, run_id="run_2") as rig:
        await trio.sleep(0.1)
        statuses = await rig.statuses(job_id)
        assert statuses == ["missed"] * (len(statuses) - 1) + ["succeeded"]
        assert len(statuses) <= 101
        job = await rig.job(job_id)
        assert job.missed_count >= 1000
        assert (await rig.runs(job_id))[-1].scheduled_for == to_ms(START + timedelta(days=30))


@pytest.mark.parametrize("hours", [1, 24])
async def test_a_clock_that_is_set_forward_makes_no_burst_and_loses_no_tick(
    store, clock, autojump_clock, hours
):
    async with open_rig(store, clock, settings=attrs.evolve(DEFAULTS, keep_runs=10_000)) as rig:
        minutely, daily = await rig.add("* * * * *"), await rig.add("30 2 * * *")
        await trio.sleep(10 * MINUTE + 10)
        clock.step(timedelta(hours=hours))
        await trio.sleep(120)
        runs = [run for run in await rig.runs(minutely) if run.status is not RunStatus.MISSED]
        assert [run.status for run in runs] == [RunStatus.SUCCEEDED] * len(runs)
        assert len(runs) == 10 + 1 + 1, (
            "those before, the latest of the hours that were left out, the one after"
        )
        (run,) = (await rig.runs(daily))[-1:]
        assert run.scheduled_for <= to_ms(clock.now())
        assert run.status is (RunStatus.SUCCEEDED if hours == 1 else RunStatus.MISSED)  # 41 min, a day late
        ticks = [run.scheduled_for for run in await rig.runs(minutely)]
        assert len(set(ticks)) == len(ticks)


@pytest.mark.parametrize("hours", [1, 24])
async def test_a_clock_that_is_set_back_repeats_no_tick_and_goes_on_where_it_was(
    store, clock, autojump_clock, hours
):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("*/10 * * * *")
        await trio.sleep(30 * MINUTE + 10)
        before = times(await rig.runs(job_id))
        assert before == ["02:10:00", "02:20:00", "02:30:00"]
        clock.step(-timedelta(hours=hours))
        await trio.sleep(hours * HOUR + 10 * MINUTE)
        assert times(await rig.runs(job_id)) == [*before, "02:40:00"]


async def test_a_clock_that_was_far_ahead_leaves_no_job_standing_for_ever(store, clock, autojump_clock):
    async with open_rig(store, clock) as rig:
        job_id = await rig.add("@hourly")
        await trio.sleep(10)
        clock.step(timedelta(days=400))
        await trio.sleep(2 * HOUR)
        clock.step(-timedelta(days=400))
        await trio.sleep(2 * HOUR)
        found = [format_ms(run.scheduled_for)[:16] for run in await rig.runs(job_id, RunStatus.SUCCEEDED)]
        assert "2026-11-24T05:00" in found
        assert len(found) == len(set(found))


async def test_a_drain_lets_runs_end_and_gives_back_what_does_not(store, clock, autojump_clock):
    ended = []

    async def call(action, key, _timeout):
        await trio.sleep(5 if action.path == "/short" else HOUR)
        ended.append(key)
        return GOOD

    async with open_rig(store, clock, call, drain_until=lambda: trio.current_time() + 10) as rig:
        short = await rig.add("@hourly", {**REQUEST, "path": "/short"})
        long = await rig.add("@hourly", {**REQUEST, "path": "/long"}, retries=0, timeoutMs=2 * HOUR * 1000)
        await trio.sleep(HOUR + 1)
    assert len(ended) == 1
    async with open_rig(store, clock, call, run_id="run_2") as rig:
        await trio.sleep(HOUR + 1)
        assert (await rig.statuses(short))[0] == "succeeded"
        (run, *_) = await rig.runs(long)
        assert (run.status, run.attempt) == (RunStatus.SUCCEEDED, 1)


@pytest.mark.parametrize(("retries", "expected"), [(1, ("succeeded", 2)), (0, ("unknown", 1))])
async def test_a_run_whose_daemon_died_is_unknown_and_repeated_if_retries_remain(
    store, clock, autojump_clock, retries, expected
):
    keys = []

    async def hang(_action, key, _timeout):
        keys.append(key)
        await trio.sleep_forever()

    async def call(_action, key, _timeout):
        keys.append(key)
        return GOOD

    with trio.CancelScope() as killed:
        async with open_rig(store, clock, hang) as rig:
            job_id = await rig.add("@hourly", retries=retries)
            await trio.sleep(HOUR + 1)
            store.trouble = StoreUnavailableError("as if there were no daemon any more")
            killed.cancel()
    store.trouble = None
    async with open_rig(store, clock, call, run_id="run_2") as rig:
        await trio.sleep(1)
        (run,) = await rig.runs(job_id)
        assert (run.status.value, run.attempt) == expected
        assert len(set(keys)) == 1
        assert len(keys) == expected[1]
        job = await rig.job(job_id)
        assert (job.run_count, job.error_count) == (1, 1 - retries)


async def test_a_deleted_job_leaves_nothing_and_its_last_run_disturbs_nobody(store, clock, autojump_clock):
    async def call(_action, _key, _timeout):
        await trio.sleep(60)
        return GOOD

    async with open_rig(store, clock, call) as rig:
        job_id = await rig.add("@hourly")
        await trio.sleep(HOUR + 1)
        await rig.cron.jobs.delete(job_id)
        await trio.sleep(HOUR)
        assert (await rig.cron.jobs.stats())["totalJobs"] == 0
        assert "cron.run_succeeded" not in await rig.event_types()


async def test_of_a_jobs_history_about_as_many_runs_are_kept_as_is_set(store, clock, autojump_clock):
    async with open_rig(store, clock, settings=attrs.evolve(DEFAULTS, keep_runs=20)) as rig:
        job_id = await rig.add("* * * * * *", EVENT)
        await trio.sleep(3000.5)
        kept = await rig.runs(job_id)
        assert 20 <= len(kept) < 500
        assert (await rig.job(job_id)).run_count == 3000
        assert await rig.cron.upkeep.forget(5_000) == len(kept) - 5
