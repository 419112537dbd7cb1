"""What the mesh tells as events, and the queue that they go through."""

from contextlib import suppress
from random import Random

import trio

from econeura_daemon.client import MeshError
from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.daemon.calling import mesh_observer
from econeura_daemon.events import EventLog, QueuedEvents
from econeura_daemon.telemetry import Metrics
from tests.support.clocks import TrioClock
from tests.support.inline_store import open_inline_store
from tests.support.mesh_rig import World, answers, instance, refused, well

QUICK = MeshSettings(retries=0, circuit_breaker_threshold=2)


class Put:
    def __init__(self):
        self.put_ = []

    def put(self, event_type, data):
        self.put_.append((event_type.removeprefix("mesh."), data))

    @property
    def types(self):
        return [event_type for event_type, _ in self.put_]


def observed(*names, settings=QUICK, **more):
    put = Put()
    metrics = Metrics()
    mesh = World(
        tuple(instance(name) for name in names),
        settings=settings,
        observer=mesh_observer(metrics, put, TrioClock()),
        **more,
    )
    return mesh, put, metrics


async def test_breakers_that_open_and_close_are_told(autojump_clock):
    mesh, put, metrics = observed("a", behaviours={"a": refused})
    for _ in range(2):
        with suppress(MeshError):
            await mesh.call()
    ((kind, data),) = put.put_
    assert (kind, data["type"], data["serviceId"]) == ("circuit_opened", "workers", "a")
    assert data["reason"].startswith("2 failures in a row, the last: a: connection refused")
    assert "2026-11-24T02:00:54" < data["until"] < "2026-11-24T02:01:07"
    mesh.behaviours["a"] = well
    await trio.sleep(70)
    for _ in range(3):
        await mesh.call()
    assert put.types == ["circuit_opened", "circuit_closed"]
    page = (await metrics.render()).decode()
    assert 'econeura_mesh_requests_total{outcome="upstream-unreachable",type="workers"} 2.0' in page
    assert 'econeura_mesh_attempts_total{outcome="2xx",type="workers"} 3.0' in page


async def test_panic_is_told_when_it_begins_and_ends(autojump_clock):
    mesh, put, _ = observed()
    mesh.instances = (instance("a"), instance("b", well=False), instance("c", well=False))
    await mesh.call()
    mesh.instances = tuple(instance(name) for name in "abc")
    await mesh.call()
    assert [(kind, data["panic"]) for kind, data in put.put_] == [("panic", True), ("panic", False)]


async def test_ejections_are_told(autojump_clock):
    settings = MeshSettings(circuit_breaker_threshold=1000, retries=0, balancer="round_robin")
    mesh, put, _ = observed("a", "b", "c", "d", settings=settings)
    turns = iter(range(10_000))

    async def fails_often(call):
        return await (answers(500) if next(turns) % 5 < 2 else well)(call)

    mesh.behaviours["a"] = fails_often
    for _ in range(120):
        await mesh.call()
        await trio.sleep(0.1)
    await trio.sleep(31)
    await mesh.call()
    assert put.types == ["instance_ejected", "instance_returned"]
    assert put.put_[0][1]["serviceId"] == "a"


async def test_what_is_put_is_stored_also_after_trouble_and_at_the_end(autojump_clock):
    async with open_inline_store() as store:
        log = EventLog(store)
        await _put_through_trouble(store, log)
        assert len(await log.page(limit=10)) == 2


async def _put_through_trouble(store, log):
    async with trio.open_nursery() as nursery:
        queued = QueuedEvents(store, log, TrioClock(), Random(1))
        await nursery.start(queued.run)
        store.trouble = StoreUnavailableError("locked")
        queued.put("mesh.panic", {"n": 1})
        await trio.sleep(5)
        store.trouble = None
        await trio.sleep(2)
        queued.put("mesh.panic", {"n": 2})
        nursery.cancel_scope.cancel()


async def test_beyond_its_bound_the_queue_drops_and_counts(autojump_clock, caplog):
    async with open_inline_store() as store:
        queued = QueuedEvents(store, EventLog(store), TrioClock(), Random(1))
        for n in range(1005):
            queued.put("mesh.panic", {"n": n})
    assert queued.dropped == 5
    assert "were dropped" in caplog.text
