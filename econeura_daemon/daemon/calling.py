"""What the mesh does, as numbers and as events; and what the configuration says of it."""

import logging
from datetime import timedelta

import trio

from econeura_daemon.client import Answer, Call, InstanceState, Mesh, MeshError, Observer, Told
from econeura_daemon.core.clock import Clock, format_instant
from econeura_daemon.core.settings import Settings
from econeura_daemon.events import QueuedEvents
from econeura_daemon.resilience import Ejection, Outcome, Phase, State
from econeura_daemon.telemetry import ComponentHealth, Metrics

_log = logging.getLogger(__name__)


def use_mesh(mesh: Mesh, settings: Settings) -> None:
    """Have calls made as the settings say, from the next one on. Of faults that the log does not know yet it tells."""
    known = mesh.faults.declared()
    mesh.use(settings.mesh_of)
    mesh.faults.declare(settings.mesh)
    for fault in mesh.faults.declared():
        if fault not in known:
            _log.warning("mesh.%s.faults injects faults: of the attempts %s", fault.service, fault.deed)
    if known and not mesh.faults.declared():
        _log.info("the configuration injects no faults any more")


def mesh_health(mesh: Mesh) -> ComponentHealth:
    """Tell whether calls fare as they would by themselves: nobody shall wonder about faults that are injected."""
    live = [one for one in mesh.faults.live() if one.deed.does_something]
    if not live:
        return ComponentHealth("healthy", "no faults are injected")
    one = live[0]
    more = f", and {len(live) - 1} more" if len(live) > 1 else ""
    whom = one.service if one.service_id is None else f"{one.service} ({one.service_id})"
    return ComponentHealth("degraded", f"faults are injected into calls of {whom}: {one.deed}{more}")


def mesh_observer(metrics: Metrics, events: QueuedEvents, clock: Clock) -> Observer:
    """Return who counts calls of services, and tells of breakers, ejections and panic."""

    def called(call: Call, ended: Answer | MeshError, seconds: float) -> None:
        metrics.mesh_requests.inc(
            call.service, ended.slug if isinstance(ended, MeshError) else f"{ended.status // 100}xx"
        )
        metrics.mesh_request_seconds.observe(seconds, call.service)

    def attempted(call: Call, _state: InstanceState, outcome: Outcome, _seconds: float) -> None:
        ended = outcome.end.name.lower() if outcome.status is None else f"{outcome.status // 100}xx"
        metrics.mesh_attempts.inc(call.service, ended)

    return Observer(called=called, attempted=attempted, told=_told(events, clock))


def _told(events: QueuedEvents, clock: Clock) -> Told:
    def instant(until: float | None) -> str | None:
        if until is None:
            return None
        return format_instant(clock.now() + timedelta(seconds=until - trio.current_time()))

    def breaker(service: str, instance_id: str | None, phase: Phase) -> None:
        if phase.state is State.HALF_OPEN:  # nothing is decided
            return
        opened = phase.state is State.OPEN
        events.put(
            "mesh.circuit_opened" if opened else "mesh.circuit_closed",
            {
                "type": service,
                "serviceId": instance_id,
                "reason": phase.reason,
                "until": instant(phase.until) if opened else None,
            },
        )

    def ejection_of(service: str, ejection: Ejection) -> dict[str, object]:
        return {"type": service, "serviceId": str(ejection.key), "reason": ejection.reason}

    def ejected(service: str, ejection: Ejection) -> None:
        data = {**ejection_of(service, ejection), "until": instant(ejection.until)}
        events.put("mesh.instance_ejected", data)

    def returned(service: str, ejection: Ejection) -> None:
        events.put("mesh.instance_returned", ejection_of(service, ejection))

    def panic(service: str, is_panic: bool) -> None:  # noqa: FBT001 - the state is what it tells
        reason = "less than half of its instances are available" if is_panic else "enough are available again"
        events.put("mesh.panic", {"type": service, "panic": is_panic, "reason": reason})

    return Told(breaker=breaker, ejected=ejected, returned=returned, panic=panic)
