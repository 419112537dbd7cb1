"""`open_workers`: what calls workers and remembers what came of it, for the length of a block."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from econeura_daemon.client import Mesh
from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import WorkersSettings
from econeura_daemon.events import EventLog
from econeura_daemon.storage import Store
from econeura_daemon.workers.calling import Calling
from econeura_daemon.workers.crons import CronManagement
from econeura_daemon.workers.emails import Emails
from econeura_daemon.workers.recording import Counted, Recorder
from econeura_daemon.workers.waiting import Waiting

RunLoop = Callable[[str, Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]
"""Wraps a loop in supervision: (name, loop) to something that a nursery can start."""


def unsupervised(_name: str, loop: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a loop as it is."""
    return loop


@attrs.frozen(kw_only=True)
class Workers:
    """What stands while the integration is open."""

    calling: Calling
    waiting: Waiting
    recorder: Recorder
    emails: Emails
    crons: CronManagement

    def use(self, settings: WorkersSettings) -> None:
        """Go by other settings from now on."""
        self.calling.service_type = settings.service_type
        self.waiting.max_waiting = settings.max_waiting
        self.waiting.max_wait = settings.max_wait_ms / 1000


@asynccontextmanager
async def open_workers(
    *,
    store: Store,
    events: EventLog,
    mesh: Mesh,
    settings: WorkersSettings,
    clock: Clock,
    rng: Random,
    counted: Counted = lambda _status, _number: None,
    supervised: RunLoop = unsupervised,
) -> AsyncGenerator[Workers]:
    """Have workers called for the length of the block."""
    calling = Calling(mesh, settings.service_type)
    waiting = Waiting(calling.room, max_waiting=settings.max_waiting, max_wait=settings.max_wait_ms / 1000)
    recorder = Recorder(store, events, clock, rng, counted)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervised("workers", waiting.look))
        try:
            yield Workers(
                calling=calling,
                waiting=waiting,
                recorder=recorder,
                emails=Emails(store=store, calling=calling, waiting=waiting, recorder=recorder),
                crons=CronManagement(calling, recorder),
            )
        finally:
            nursery.cancel_scope.cancel()
