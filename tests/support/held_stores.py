"""Stores that hold works back, so that a test can look at what happens meanwhile."""

import trio

from econeura_daemon.core.errors import EconeuraError


class Gate:
    """A store before which works wait, and which can be told to fail once the work has run."""

    def __init__(self, inner):
        self._inner = inner
        self.open = trio.Event()
        self.arrived = 0
        self.after = None

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def ingest(self, work):
        return await self._gated(self._inner.ingest, work)

    async def transact(self, work):
        return await self._gated(self._inner.transact, work)

    async def _gated(self, commit, work):
        self.arrived += 1
        await self.open.wait()

        def whole(connection):
            result = work(connection)
            if self.after is not None:
                self.after(connection)
            return result

        return await commit(whole)


class Queue:
    """A store whose works happen in their order once it is open, whether somebody still waits or not."""

    def __init__(self, inner, nursery):
        self._inner = inner
        self._nursery = nursery
        self.open = trio.Event()
        self.arrived = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def ingest(self, work):
        self.arrived += 1
        place, done, came = self.arrived, trio.Event(), []

        async def run():
            await self.open.wait()
            for _ in range(place * 10):  # behind those that came before
                await trio.lowlevel.checkpoint()
            try:
                came.append(await self._inner.ingest(work))
            except EconeuraError as error:
                came.append(error)
            done.set()

        self._nursery.start_soon(run)
        await done.wait()
        if isinstance(came[0], Exception):
            raise came[0]
        return came[0]
