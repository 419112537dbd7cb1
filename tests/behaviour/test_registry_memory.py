"""What the registry lets go of: instances that are gone or were replaced."""

import gc
import weakref

from econeura_daemon.registry.timers import FEW, Timer, Timers
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.registry_rig import FAIL, open_rig

DAY_MS = 24 * 3600 * 1000


async def test_replaced_instances_are_let_go_however_far_off_their_times_are(autojump_clock):
    async def unwell(_said, _check):
        return FAIL

    async with open_inline_store() as store, open_rig(store, TrioClock(), unwell) as rig:
        seen = []
        for turn in range(20 * FEW):
            await rig.register("a", ttl_ms=DAY_MS, deregister_after_ms=DAY_MS, metadata={"turn": turn})
            seen.append(weakref.ref(rig.registry.get("a").registration))
        await rig.registry.deregister("a")
        gc.collect()
        assert sum(one() is not None for one in seen) <= 2 * FEW


def test_what_is_swept_never_fires_and_what_is_not_does():
    timers, fired = Timers(), []
    kept = []
    for number in range(10 * FEW):
        timer = Timer(lambda _now, number=number: fired.append(number))
        timers.set(timer, 1000.0 + number)
        if number % 10 == 0:
            kept.append(timer)
        else:
            timers.cancel(timer)
    timers.set(kept[1], 500.0)
    timers.fire_due(500.0)
    assert fired == [10]
    timers.set(kept[0], 3000.0)
    timers.fire_due(2999.0)
    assert fired == [10, *range(20, 10 * FEW, 10)]
    timers.fire_due(3000.0)
    assert fired[-1] == 0
