"""Reading beside the writer: a few connections, used from worker threads."""

from typing import Any, TypeVar, cast

import trio

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.storage.engine import Engine, Reader
from econeura_daemon.storage.model import Work

T = TypeVar("T")


class Readers:
    """A pool of at most ``limit`` reading connections, opened when needed, the last used first."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine = engine
        self._limiter = trio.CapacityLimiter(limit)
        self._idle: list[Reader] = []

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` in one consistent view in a worker thread; a cancelled caller waits for its end."""
        return cast("T", await trio.to_thread.run_sync(self._read, work, limiter=self._limiter))

    def _read(self, work: Work[Any]) -> Any:
        """Read; if a connection that lay idle turns out to be lost, once more on a new one."""
        reader = self._last_used()
        if reader is not None:
            try:
                return reader.read(work)
            except StoreUnavailableError:
                if not reader.broken:
                    raise
            finally:
                self._give_back(reader)
        reader = self._engine.open_reader()
        try:
            return reader.read(work)
        finally:
            self._give_back(reader)

    def _last_used(self) -> Reader | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, reader: Reader) -> None:
        if reader.broken:
            reader.close()
        else:
            self._idle.append(reader)

    async def close(self) -> None:
        """Close the connections, once those that read are done."""
        for _ in range(int(self._limiter.total_tokens)):
            await self._limiter.acquire_on_behalf_of(object())
        for reader in self._idle:
            reader.close()
        self._idle.clear()
