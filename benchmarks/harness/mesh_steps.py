"""What a call of a service costs besides its I/O, by how many instances there are."""

import time
from random import Random

import trio

from econeura_daemon.client import Call, Mesh
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.registry.model import Health, Instance, Registration, Verdict

SIZES = (1, 10, 20, 100, 1000)


class _Sent:
    """An answer that is there at once."""

    status = 200
    is_whole = True
    headers = ((b"content-type", b"application/json"), (b"content-length", b"2"))

    def __init__(self):
        self._parts = [b"{}"]

    async def more(self):
        return self._parts.pop() if self._parts else b""

    def end(self):
        pass


def _instance(number):
    name = f"w{number}"
    return Instance(
        registration=Registration(id=name, name=name, type="workers", host="127.0.0.1", port=1 + number),
        generation=1,
        registered_at=0,
        health=Health(verdict=Verdict.HEALTHY, reason="r"),
    )


async def _one(size, times, rounds):
    async def send(_call, _target):
        return _Sent()

    instances = tuple(map(_instance, range(size)))
    mesh = Mesh(
        resolve=lambda _: instances,
        settings_of=lambda _: MeshSettings(),
        sender=lambda _: send,
        rng=Random(1),
    )

    async def call():
        answer = await mesh.call(Call(service="workers", method="GET", place=b"/"))
        while await answer.more():
            pass

    for _ in range(3 * size):
        await call()
    found = []
    for _ in range(rounds):
        begun = time.process_time_ns()
        for _ in range(times):
            await call()
        found.append((time.process_time_ns() - begun) / times / 1000)
        await trio.lowlevel.checkpoint()
    return min(found)


def curve(times, rounds=5):
    """Return by size the microseconds of CPU that all steps of a call take, in the best of the rounds."""
    return {size: trio.run(_one, size, max(200, times // (1 + size // 50)), rounds) for size in SIZES}
