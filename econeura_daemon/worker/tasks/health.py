"""The task ``health_check``: everything that a worker needs is used once; what does not work fails the run."""

import shutil
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import httpx
import trio

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.cron import Run, TaskFailedError
from econeura_daemon.storage import Store
from econeura_daemon.worker.mailstore import MailStore
from econeura_daemon.worker.processing import Processors
from econeura_daemon.worker.tasks.sync import MailSync

SECONDS = 20.0
"""For each look; they are made at the same time."""
PROBE = b"Message-ID: <probe@invalid>\r\nSubject: Are you there?\r\n\r\nThis mail shows whether mails can be read.\r\n"
_MIB = 1024 * 1024

Look = Callable[[], Awaitable[str]]


class HealthCheck:
    """Looks at mail store, disk, database, daemon and processors."""

    def __init__(
        self,
        *,
        mail_store: MailStore,
        sync: MailSync,
        processors: Processors,
        store: Store,
        state_dir: Path,
        min_free_bytes: int,
        daemon_url: str,
    ) -> None:
        self._mail_store = mail_store
        self._sync = sync
        self._processors = processors
        self._store = store
        self._state_dir = state_dir
        self._min_free_bytes = min_free_bytes
        self._daemon_url = daemon_url.rstrip("/")
        self._looks: Mapping[str, Look] = {
            "mail store": self._look_at_mails,
            "disk": self._look_at_disk,
            "database": self._look_at_database,
            "daemon": self._look_at_daemon,
            "processors": self._look_at_processors,
        }
        # A file server that hangs holds one thread here, not one a minute.
        self._threads = {name: trio.CapacityLimiter(1) for name in self._looks}

    async def __call__(self, _run: Run) -> str:
        """Look at everything. Raises `TaskFailedError` with all that is not well."""
        well: dict[str, str] = {}
        ill: dict[str, str] = {}
        async with trio.open_nursery() as nursery:
            for name in self._looks:
                nursery.start_soon(self._look, name, well, ill)
        if ill:
            raise TaskFailedError("; ".join(f"{name}: {ill[name]}" for name in self._looks if name in ill))
        return "; ".join(f"{name}: {well[name]}" for name in self._looks)

    async def _look(self, name: str, well: dict[str, str], ill: dict[str, str]) -> None:
        ill[name] = f"no answer within {SECONDS:g} s"
        with trio.move_on_after(SECONDS):
            try:
                well[name] = await self._looks[name]()
            except (EconeuraError, OSError, httpx.HTTPError) as error:
                ill[name] = str(error) or type(error).__name__
            else:
                del ill[name]

    async def _look_at_mails(self) -> str:
        changes = await trio.to_thread.run_sync(
            self._mail_store.scan, abandon_on_cancel=True, limiter=self._threads["mail store"]
        )
        await self._sync.noticed(changes)
        return f"{self._mail_store.statistics().mails} mails"

    async def _look_at_disk(self) -> str:
        usage = await trio.to_thread.run_sync(
            partial(shutil.disk_usage, self._state_dir),
            abandon_on_cancel=True,
            limiter=self._threads["disk"],
        )
        free = f"{usage.free // _MIB} MiB free at {self._state_dir}"
        if usage.free < self._min_free_bytes:
            raise TaskFailedError(f"{free}, less than {self._min_free_bytes // _MIB}")
        return free

    async def _look_at_database(self) -> str:
        await self._store.ping()
        return "answers"

    async def _look_at_daemon(self) -> str:
        transport = httpx.AsyncHTTPTransport(verify=self._daemon_url.startswith("https:"), trust_env=False)
        async with httpx.AsyncClient(transport=transport, timeout=SECONDS) as client:
            answer = await client.get(f"{self._daemon_url}/livez")
        if answer.status_code != httpx.codes.OK:
            raise TaskFailedError(f"{self._daemon_url} answered {answer.status_code}")
        return "is reachable"

    async def _look_at_processors(self) -> str:
        began = trio.current_time()
        await self._processors.process(PROBE)
        return f"a mail in {(trio.current_time() - began) * 1000:.0f} ms"
