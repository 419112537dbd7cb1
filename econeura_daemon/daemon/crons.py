"""Cron's rung: the ticker with what its jobs may do, calls through the mesh among it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import httpx
import trio

from econeura_daemon.api import Discovery
from econeura_daemon.client import Call as MeshCall
from econeura_daemon.client import MeshError, UpstreamTimeoutError
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.jobs import ActionBody, Task
from econeura_daemon.core.jsons import dumps
from econeura_daemon.core.settings import Settings
from econeura_daemon.cron import Call, Cron, Look, Outcome, Reports, RunStatus, open_cron
from econeura_daemon.cron.model import MAX_OUTPUT
from econeura_daemon.cron.running import cut
from econeura_daemon.daemon.backups import back_up
from econeura_daemon.daemon.drain import Drain
from econeura_daemon.daemon.loops import Loops
from econeura_daemon.daemon.reloading import Reloader
from econeura_daemon.daemon.state_dir import StateDir
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.telemetry import ComponentHealth, HealthBoard, Metrics

BEHIND_MS = 30_000
"""By so much a look at what is due may be late before it is said."""


@asynccontextmanager
async def open_crons(
    *,
    settings: Settings,
    clock: Clock,
    rng: Random,
    state: StateDir,
    store: Store,
    events: EventLog,
    discovery: Discovery | None,
    reloader: Reloader,
    metrics: Metrics,
    health: HealthBoard,
    loops: Loops,
    drain: Drain,
) -> AsyncGenerator[Cron]:
    """Run what is due for the length of the block; leave it drained."""
    is_shared = store.statistics().backend != "sqlite"
    claimant = Claimant(state.daemon_id, state.run_id, settings.cron.lease_ms if is_shared else None)
    reports = Reports(events, rng, counted=lambda status: metrics.cron_runs.inc(status.value))
    opened: list[Cron] = []

    async def clean_up() -> str:
        forgotten = await opened[0].upkeep.forget(opened[0].settings.history_ms)
        return f"forgot {forgotten} runs of jobs"

    async with open_cron(
        store=store,
        reports=reports,
        claimant=claimant,
        settings=settings.cron,
        call=mesh_call(discovery),
        tasks={Task.CLEANUP: clean_up, Task.BACKUP: partial(back_up, settings.storage, state.path, clock)},
        observer=_Observer(metrics),
        clock=clock,
        rng=rng,
        supervised=loops.supervised,
        drain_until=drain.deadline,
    ) as cron:
        opened.append(cron)
        drain.closes(cron.ticker.stop)
        reloader.follow(lambda new: cron.use(new.cron))
        metrics.gauge("cron_running", "Runs of jobs under way", lambda: len(cron.running.under_way))
        health.add("ticker", lambda: ticker_health(loops.health_of("cron"), cron))
        yield cron


def mesh_call(discovery: Discovery | None) -> Call:
    """Return what calls services through the mesh; without discovery every call fails, and says why."""

    async def call(action: ActionBody, idempotency_key: str, timeout: float) -> Outcome:
        if discovery is None:
            await trio.lowlevel.checkpoint()
            return Outcome(
                status=RunStatus.FAILED, error="Service discovery is switched off (discovery.enabled = false)"
            )
        try:
            answer = await discovery.mesh.call(_call_of(action, idempotency_key, timeout))
        except UpstreamTimeoutError as error:
            return Outcome(status=RunStatus.TIMED_OUT, error=str(error))
        except MeshError as error:
            return Outcome(status=RunStatus.FAILED, error=str(error))
        try:
            output = b""
            while len(output) < MAX_OUTPUT and (part := await answer.more()):
                output += part
        except httpx.TransportError as error:
            return Outcome(status=RunStatus.FAILED, error=f"the answer broke off: {error}")
        finally:
            answer.close()
        text = cut(output.decode(errors="replace"))
        if 200 <= answer.status < 300:
            return Outcome(status=RunStatus.SUCCEEDED, output=text)
        return Outcome(status=RunStatus.FAILED, output=text, error=f"answered {answer.status}")

    return call


def ticker_health(loops: ComponentHealth, cron: Cron) -> ComponentHealth:
    """Tell how the ticker's loops are, and whether it keeps up."""
    ticker = cron.ticker
    if not cron.settings.enabled:
        return ComponentHealth("healthy", "switched off (cron.enabled = false)")
    detail = f"{loops.detail}; {len(cron.running.under_way)} runs under way"
    if ticker.behind_ms > BEHIND_MS:
        late = f"{detail}, behind by {ticker.behind_ms / 1000:.0f} s"
        return ComponentHealth("degraded" if loops.status == "healthy" else loops.status, late)
    return ComponentHealth(loops.status, detail)


class _Observer:
    """The ticker's `Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def looked(self, look: Look) -> None:
        """Note how late what was taken was."""
        if look.late_ms is not None:
            self._metrics.cron_lateness_seconds.observe(look.late_ms / 1000)


def _call_of(action: ActionBody, idempotency_key: str, timeout: float) -> MeshCall:
    assert action.service is not None, "a request has a service"
    assert action.method is not None, "a request has a method"
    assert action.path is not None, "a request has a path"
    headers = [(name.encode("ascii"), text.encode("ascii")) for name, text in (action.headers or {}).items()]
    headers.append((b"Idempotency-Key", idempotency_key.encode("ascii")))
    body = b""
    if action.body is not None:
        body = dumps(action.body)
        if not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"Content-Type", b"application/json"))
    return MeshCall(
        service=action.service,
        method=action.method,
        place=action.path.encode("ascii"),
        headers=headers,
        body=body,
        timeout=timeout,
    )
