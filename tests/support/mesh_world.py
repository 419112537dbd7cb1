"""Instances in processes of their own, to which bad things happen at random, and a load that keeps its books."""

import signal
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path

import attrs
import trio

from tests.support import mesh_instance
from tests.support.http_client import GoneError, open_client

CHECK = {"intervalMs": 500, "timeoutMs": 400, "unhealthyAfter": 2, "healthyAfter": 1}


@attrs.define(eq=False)
class Instance:
    """One of them, over all its processes: always on the same port."""

    id: str
    folder: Path
    port: int = 0
    process: subprocess.Popen | None = None
    troubles: list = attrs.field(factory=list)
    """When it was bad, by Trio's clock: begin, end, how."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def journal(self):
        return self.folder / f"{self.id}.journal"

    async def start(self):
        """Return once it listens."""
        self.process = self._begin()
        with self.process.stdout as output:
            self.port = int(await trio.to_thread.run_sync(output.readline))

    def _begin(self):
        return subprocess.Popen(
            [sys.executable, "-I", mesh_instance.__file__, str(self.port), str(self.journal)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def behave(self, how):
        async with open_client(self.url) as client:
            assert (await client.request("POST", f"/behave/{how}")).status == 200

    async def suffer(self, how, seconds):
        """Be bad for a while."""
        began = trio.current_time()
        if how == "kill":
            self.kill()
            await trio.sleep(seconds)
            await self.start()
        elif how == "freeze":
            self.process.send_signal(signal.SIGSTOP)
            await trio.sleep(seconds)
            self.process.send_signal(signal.SIGCONT)
        else:
            await self.behave(how)
            await trio.sleep(seconds)
            await self.behave("well")
        self.troubles.append((began, trio.current_time(), how))

    def carried_out(self):
        """Return the paths of what it did once."""
        return self.journal.read_text().split()

    async def register(self, client, service):
        said = {"id": self.id, "type": service, "host": "127.0.0.1", "port": self.port, "check": CHECK}
        answer = await client.post("/v1/services", said)
        assert answer.status == 201, answer.body


HOWS = ("kill", "freeze", *mesh_instance.HOWS[1:])


async def trouble(instances, rng, busiest, told, *, at_most=2):
    """Have one after the other be bad, ``at_most`` at once; each way as often as the others. Ends when cancelled.

    Half of the time it is anyone, else the first of the ids that ``busiest`` returns: it is of those that are hardly
    called that trouble goes unnoticed. ``told`` is told what happens, a line each.
    """
    well, slots, hows = list(instances), trio.Semaphore(at_most), []
    began = trio.current_time()

    async def one(instance, how, seconds):
        told(f"{trio.current_time() - began:6.1f} s: {instance.id}: {how} for {seconds:.1f} s")
        with trio.CancelScope(shield=True):
            await instance.suffer(how, seconds)
        well.append(instance)
        slots.release()

    async with trio.open_nursery() as nursery:
        while True:
            await slots.acquire()
            await trio.sleep(rng.uniform(0.5, 3.0))
            if not hows:
                hows = list(HOWS)
                rng.shuffle(hows)
            order = busiest() if rng.random() < 0.5 else []
            instance = min(
                well, key=lambda one: order.index(one.id) if one.id in order else rng.uniform(5, 6)
            )
            well.remove(instance)
            nursery.start_soon(one, instance, hows.pop(), rng.uniform(1.0, 4.0))


KEPT = 5.0
"""Seconds for which a connection that is not used is kept: for less than the daemon does."""


@attrs.define
class Done:
    """One request, as its sender saw it."""

    method: str
    target: str
    at: float
    seconds: float
    status: int
    """0: no answer, or not all of one."""
    is_right: bool
    service_id: str | None = None
    detail: str = ""


@attrs.define(eq=False)
class Load:
    """Requests at a fixed rate, whether or not those before are answered, over connections that are kept."""

    url: str
    service: str
    timeout: float
    done: list = attrs.field(factory=list)
    lags: list = attrs.field(factory=list)
    """Seconds by which a request began late: this process had too little time."""
    _idle: deque = attrs.field(factory=deque)

    async def run(self, rate, seconds, make):
        """Send what ``make(number)`` returns (method, target, headers, body), and wait for the last answer."""
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            for number in range(round(rate * seconds)):
                due = began + number / rate
                if due > trio.current_time():
                    await trio.sleep_until(due)
                self.lags.append(trio.current_time() - due)
                nursery.start_soon(self._one, *make(number))

    async def _one(self, method, target, headers, body):
        began = trio.current_time()
        done = Done(method, target, began, 0, 0, is_right=False)
        try:
            await self._ask(done, headers, body)
        except GoneError as error:
            done.detail = str(error)
        finally:
            done.seconds = trio.current_time() - began
            self.done.append(done)

    async def _ask(self, done, headers, body):
        while self._idle:
            opened, client, since = self._idle.pop()
            if trio.current_time() - since < KEPT:
                await self._ask_over(opened, client, done, headers, body)
                return
            await opened.__aexit__(None, None, None)
        opened = open_client(self.url)
        await self._ask_over(opened, await opened.__aenter__(), done, headers, body)

    async def _ask_over(self, opened, client, done, headers, body):
        headers = {"X-Timeout-Ms": str(round(self.timeout * 1000)), **headers}
        try:
            target = f"/v1/mesh/{self.service}{done.target}"
            answer = await client.request(done.method, target, body, headers)
        except BaseException:
            await opened.__aexit__(None, None, None)
            raise
        if client.is_reusable:
            self._idle.append((opened, client, trio.current_time()))
        else:
            await opened.__aexit__(None, None, None)
        done.status = answer.status
        done.service_id = answer.headers.get("x-service-id")
        if answer.status < 300:
            done.is_right = answer.body == mesh_instance.answer_to(done.method, done.target, body)
        done.detail = "" if done.is_right else answer.body.decode(errors="replace")

    def busiest(self):
        """Return the ids of those who answered last, whoever answered most first."""
        ids = Counter(one.service_id for one in self.done[-200:])
        return [service_id for service_id, _ in ids.most_common()]

    async def aclose(self):
        while self._idle:
            opened, *_ = self._idle.pop()
            await opened.__aexit__(None, None, None)


def resident_bytes(pid):
    """Return how much memory a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("it has ended")


async def watch_lag(lags, every=0.01):
    """Note by how many seconds this loop wakes late, until cancelled."""
    while True:
        due = trio.current_time() + every
        await trio.sleep_until(due)
        lags.append(trio.current_time() - due)
