"""The registrant without the daemon's dependencies, on both event loops; cancelled at each turn of them."""

import subprocess
import sys
from random import Random

import anyio
import pytest

from econeura_daemon.registrant import registered
from tests.support.daemon import REPOSITORY
from tests.support.pretended_daemon import PretendedDaemon

BLOCKED = [
    *("trio", "attr", "attrs", "cattrs", "quart", "hypercorn", "sqlalchemy", "click", "orjson"),
    *("httptools", "h2", "werkzeug", "prometheus_client"),
]

PROGRAM = """
import asyncio, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

BLOCKED = set(sys.argv[2:])
sys.meta_path.insert(0, Blocked())

from econeura_daemon.registrant import registered

async def main():
    async with registered("orders", "127.0.0.1", 8080, url=sys.argv[1], start_timeout=0.5) as service:
        print(service.is_registered, service.last_error)

asyncio.run(main())
ours = {name.split(".")[1] for name in sys.modules if name.startswith("econeura_daemon.")}
print(sorted(ours), BLOCKED & set(sys.modules))
"""


def test_it_needs_anyio_and_httpx_alone():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, "http://127.0.0.1:9", *BLOCKED],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    said, loaded = done.stdout.splitlines()
    assert said.startswith("False no daemon answers at http://127.0.0.1:9: ")
    assert loaded == "['_version', 'core', 'finding', 'registrant'] set()"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_cancelled_at_any_turn_of_the_event_loop_it_leaves_nothing(backend):
    async def cancel_after(turns, scope):
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async def main():
        for turns in range(200):
            rng = Random(turns)

            async def travel(rng=rng):
                for _ in range(rng.choice((1, 2, 15))):  # so that one overtakes another
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                daemon = PretendedDaemon(tasks, travel)
                with anyio.CancelScope() as scope:
                    tasks.start_soon(cancel_after, turns, scope)
                    named = {"url": "http://daemon", "transport": daemon.transport}
                    async with registered("orders", "127.0.0.1", 8080, **named) as service:
                        await service.drain()
                        await anyio.sleep_forever()
                assert scope.cancelled_caught
                await daemon.idle()
            assert daemon.instances == {}, turns
            assert daemon.connections == 0, turns
            ends = [one.method for one in daemon.asked if not one.path.endswith("/drain")]
            assert ends in ([], ["POST", "DELETE"]), turns
        assert len(daemon.asked) == 3, "the last rounds get as far as to sleep"

    anyio.run(main, backend=backend)


def test_an_asyncio_task_that_is_cancelled_in_the_block_leaves_it_deregistered():
    import asyncio

    async def main():
        async with anyio.create_task_group() as tasks:
            daemon = PretendedDaemon(tasks)

            async def serve():
                named = {"url": "http://daemon", "transport": daemon.transport}
                async with registered("orders", "127.0.0.1", 8080, **named):
                    inside.set()
                    await asyncio.sleep(3600)

            inside = asyncio.Event()
            serving = asyncio.create_task(serve())
            await inside.wait()
            for _ in range(3):
                serving.cancel()  # the second and third come while it deregisters
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert serving.cancelled()
            await daemon.idle()
            assert daemon.instances == {}
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await serve()
            await daemon.idle()
            assert daemon.instances == {}

    asyncio.run(main())
