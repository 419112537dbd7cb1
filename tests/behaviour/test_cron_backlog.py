"""More runs than may be under way at once: what waits is begun as soon as there is room, however slow the store is."""

from random import Random

import attrs
import trio

from tests.support.clocks import TrioClock
from tests.support.cron_rig import DEFAULTS, GOOD, open_rig
from tests.support.inline_store import open_inline_store


class Slow:
    """A store that takes half a second to begin a work."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def transact(self, work):
        await trio.sleep(0.5)
        return await self._inner.transact(work)


async def test_runs_that_end_while_others_are_claimed_leave_no_room_unused(autojump_clock):
    rng, ended = Random(3), []

    async def call(_action, _key, _timeout):
        await trio.sleep(rng.uniform(0.1, 1.5))
        ended.append(trio.current_time())
        return GOOD

    settings = attrs.evolve(DEFAULTS, max_running=4)
    async with (
        open_inline_store() as inner,
        open_rig(Slow(inner), TrioClock(), call, settings=settings) as rig,
    ):
        jobs = [await rig.add("30 * * * *", overlap="allow") for _ in range(60)]
        await trio.sleep(3600)
        statuses = [status for job_id in jobs for status in await rig.statuses(job_id)]
    assert statuses == ["succeeded"] * 60
    assert ended[-1] - ended[0] < 60, "some waited for the next look at the clock"
