"""A daemon, workers services over one Maildir, and a receiver: real processes, but for the receiver."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from benchmarks.demo.mails import write_maildir
from tests.support.daemon import RunningDaemon, open_running_daemon, write_config
from tests.support.http_client import Answer, Client
from tests.support.receiver import Receiver, open_receiver
from tests.support.waiting import until
from tests.support.worker import SECRET, start_worker, write_worker_config

ORGANIZATION = "org-1"


@attrs.define
class WorkersWorld:
    """What runs, and what is asked of it."""

    folder: Path
    ids: list[str]
    daemon: RunningDaemon
    client: Client
    receiver: Receiver
    workers: dict[str, RunningDaemon] = attrs.field(factory=dict)

    @property
    def mail(self) -> Path:
        return self.folder / "mail"

    async def start(self, name: str, extra: str = "") -> None:
        """Start a workers service, or one that ended, over the state that it left."""
        if name in self.workers:
            await self.workers[name].wait()
        config = write_worker_config(self.folder, self.daemon.url, self.mail, name, extra)
        self.workers[name] = await start_worker(config)

    async def process(self, message_id: str, **more: Any) -> Answer:
        body = {"messageId": message_id, "organizationId": ORGANIZATION, **more}
        return await self.client.post("/v1/workers/emails/process", body)

    async def healthy(self) -> set[str]:
        """Return who may be asked."""
        found = (await self.client.get("/v1/services", {"type": "workers", "status": "healthy"})).data
        return {one["id"] for one in found["items"]}

    async def becomes_healthy(self, *names: str) -> None:
        """Wait until these may be asked, and nobody else."""

        async def they_are() -> bool:
            return await self.healthy() == {*names}

        await until(they_are)

    async def quicken(self) -> None:
        """Have the workers probed five times a second, so that what befalls them is known soon."""
        check = {"kind": "http", "path": "/readyz", "intervalMs": 200, "timeoutMs": 1000}
        for one in (await self.client.get("/v1/services", {"type": "workers"})).data["items"]:
            kept = {key: one[key] for key in ("id", "type", "host", "port", "ttlMs")}
            assert (await self.client.post("/v1/services", {**kept, "check": check})).status == 200
        await self.becomes_healthy(*self.workers)

    async def events(self, pattern: str) -> list[dict[str, Any]]:
        """Return all events of these types, the newest first."""
        found, query = [], {"type": pattern, "limit": 250}
        while True:
            page = (await self.client.get("/v1/analytics/events", query)).data
            found += page["items"]
            if page["nextCursor"] is None:
                return found
            query["cursor"] = page["nextCursor"]

    async def told(self, message_ids: Sequence[str]) -> None:
        """Wait until workers have told of each of these mails that it is processed."""

        async def all_are_told() -> bool:
            events = await self.events("workers.email_processed")
            return {*message_ids} <= {one["data"]["messageId"] for one in events}

        await until(all_are_told)

    def filed(self) -> Iterator[str]:
        """Yield the names of the mails that lie in a folder now."""
        for place in self.mail.iterdir():
            if place.name.startswith(".") and (place / "cur").is_dir():
                yield from (one.name for one in (*(place / "cur").iterdir(), *(place / "new").iterdir()))


@asynccontextmanager
async def open_workers_world(
    folder: Path,
    *,
    mails: int,
    names: Sequence[str] = ("workers-1", "workers-2"),
    extra: str = "",
    worker: str = "",
) -> AsyncGenerator[WorkersWorld]:
    """Have it for the length of the block, everybody healthy; ``extra`` and ``worker`` are further settings."""
    ids = write_maildir(folder / "mail", mails)
    config = write_config(folder / "state", extra=f'secret = "{SECRET}"\n{extra}')
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(open_receiver())
        daemon = await stack.enter_async_context(open_running_daemon(config))
        client = await stack.enter_async_context(daemon.client())
        world = WorkersWorld(folder, ids, daemon, client, receiver)
        stack.push_async_callback(_end, world)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(world.start, name, worker)

        await world.becomes_healthy(*names)
        yield world


async def _end(world: WorkersWorld) -> None:
    with trio.CancelScope(shield=True):
        for worker in world.workers.values():
            if worker.process.poll() is None:
                worker.kill()
            await worker.wait()
