"""Faults that the configuration injects, and how they and those of operators stand to each other."""

import pytest
import trio

from econeura_daemon.client import FaultBody, UpstreamUnreachableError
from econeura_daemon.core.faults import FaultSettings
from econeura_daemon.core.settings import MeshSettings, Settings
from econeura_daemon.daemon.calling import mesh_health, use_mesh
from tests.support.mesh_rig import world

ABORTED = MeshSettings(retries=0, circuit_breaker_threshold=1000, faults=FaultSettings(abort_status=418))
PLAIN = MeshSettings(retries=0, circuit_breaker_threshold=1000)


def use(mesh, **sections):
    use_mesh(mesh.mesh, Settings(mesh=sections))


async def statuses(mesh, count=1):
    return {(await mesh.call())[0] for _ in range(count)}


async def test_faults_of_the_configuration_have_no_end_but_its_own(autojump_clock, caplog):
    mesh = world("a")
    caplog.set_level("INFO")
    use(mesh, workers=ABORTED)
    assert caplog.messages == ["mesh.workers.faults injects faults: of the attempts 100 % are answered 418"]
    assert await statuses(mesh) == {418}
    await trio.sleep(24 * 3600)
    assert await statuses(mesh) == {418}
    assert mesh.mesh.faults.remove(None) == 0
    assert await statuses(mesh) == {418}
    assert mesh_health(mesh.mesh).status == "degraded"
    assert "calls of workers: 100 % are answered 418" in mesh_health(mesh.mesh).detail
    use(mesh, workers=ABORTED)
    assert len(caplog.messages) == 1
    use(mesh, workers=PLAIN)
    assert caplog.messages[1:] == ["the configuration injects no faults any more"]
    assert await statuses(mesh) == {200}
    assert mesh_health(mesh.mesh).status == "healthy"


async def test_a_change_of_faults_begins_nothing_anew(autojump_clock):
    mesh = world("a", settings=PLAIN)
    use(mesh, workers=PLAIN)
    await mesh.call()
    before = mesh.service
    use(mesh, workers=ABORTED)
    assert mesh.service is before


async def test_an_operators_fault_goes_before_the_configurations_until_it_ends(autojump_clock):
    mesh = world("a")
    use(mesh, workers=ABORTED)
    faults = mesh.mesh.faults
    faults.put(FaultBody(type="workers", abort_status=503, expires_in_ms=1000))
    assert [fault.is_static for fault in faults.live_for("workers")] == [False, True]
    assert await statuses(mesh) == {503}
    faults.put(FaultBody(type="workers", percent=0, expires_in_ms=1000))
    assert await statuses(mesh) == {200}
    faults.put(FaultBody(type="workers", service_id="b", abort_status=503, expires_in_ms=5000))
    assert await statuses(mesh) == {200}
    await trio.sleep(1)
    assert await statuses(mesh) == {418}  # that of another instance does not go before it
    assert faults.remove("workers") == 1


async def test_the_default_section_is_for_every_type_without_its_own(autojump_clock):
    mesh = world("a")
    use(mesh, default=ABORTED)
    assert await statuses(mesh) == {418}
    assert [fault.service for fault in mesh.mesh.faults.live()] == ["default"]
    assert [fault.service for fault in mesh.mesh.faults.live_for("workers")] == ["workers"]
    use(mesh, default=ABORTED, workers=PLAIN)
    assert await statuses(mesh) == {200}


async def test_a_percentage_of_the_attempts_is_hit(autojump_clock):
    mesh = world("a")
    use(mesh, workers=MeshSettings(retries=0, faults=FaultSettings(percent=25, abort_status=404)))
    hit = [(await mesh.call())[0] for _ in range(2000)].count(404)
    assert 400 < hit < 600


async def test_delays_and_lost_connections_come_from_the_configuration_too(autojump_clock):
    mesh = world("a")
    use(mesh, workers=MeshSettings(retries=0, faults=FaultSettings(delay_ms=1500, drop=True)))
    began = trio.current_time()
    with pytest.raises(UpstreamUnreachableError, match="injected fault"):
        await mesh.call()
    assert trio.current_time() - began == 1.5
    mesh.assert_all_is_back()
