"""Ten small services at random, and watchers that keep their own picture from the API alone."""

import json
import signal
import subprocess
import sys
from contextlib import aclosing, suppress
from pathlib import Path
from urllib.parse import urlencode

import attrs
import trio

from tests.support import small_service
from tests.support.daemon import open_running_daemon
from tests.support.http_client import GoneError, open_client
from tests.support.streams import parse

TTL_MS = 1500
CHECK = {"intervalMs": 300, "timeoutMs": 500, "unhealthyAfter": 2, "healthyAfter": 2}
LEASE, PROBED, BOTH = {"ttlMs": TTL_MS}, {"check": CHECK}, {"ttlMs": TTL_MS, "check": CHECK}


def entry(service):
    """What a picture keeps of an instance as the API shows it."""
    return (
        service["type"],
        service["status"],
        tuple(service["tags"]),
        service["port"],
        service["registeredAt"],
        service["metadata"].get("edition"),
    )


@attrs.define(eq=False)
class Service:
    """One of them, over all its processes."""

    registration: dict
    folder: Path
    process: subprocess.Popen | None = None
    frozen: bool = False
    ill: bool = False
    drained: bool = False

    @property
    def id(self):
        return self.registration["id"]

    @property
    def journal(self):
        return self.folder / f"{self.id}.journal"

    async def start(self, state_dir):
        """Return once it listens to signals: one that comes before would end it."""
        self.process = self._begin(state_dir)
        with self.process.stdout as output:
            assert await trio.to_thread.run_sync(output.readline)
        self.frozen = self.ill = False

    def _begin(self, state_dir):
        registration = json.dumps(self.registration)
        return subprocess.Popen(
            [sys.executable, "-I", small_service.__file__, str(state_dir), str(self.journal), registration],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process, self.frozen = None, False

    async def leave(self):
        """Let it deregister and end."""
        self.signal(signal.SIGTERM)
        await trio.to_thread.run_sync(self.process.wait)
        self.process = None

    def freeze(self):
        self.signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        self.signal(signal.SIGCONT)
        self.frozen = False

    def turn_ill_or_well(self):
        self.signal(signal.SIGUSR1)
        self.ill = not self.ill

    def register_anew(self):
        self.signal(signal.SIGUSR2)

    def acknowledged(self):
        """Return when its registrations were entered, as it was told."""
        return self.journal.read_text().split() if self.journal.exists() else []


def make_services(folder):
    kinds = [("web", PROBED)] * 4 + [("db", LEASE)] * 3 + [("workers", BOTH)] * 3
    return [
        Service(
            {
                "id": f"{type_}-{number}",
                "type": type_,
                "tags": ["blue" if number % 2 else "green"],
                "deregisterAfterMs": 3000,
                **kind,
            },
            folder,
        )
        for number, (type_, kind) in enumerate(kinds)
    ]


class World:
    """The daemon, over all its processes, and where it is."""

    def __init__(self, config):
        self.config = config
        self.daemon = None
        self.deaths = 0

    async def begin(self, stack):
        """Start it, for as long as ``stack`` lasts at most."""
        self.daemon = await stack.enter_async_context(open_running_daemon(self.config))

    async def kill(self):
        daemon, self.daemon = self.daemon, None
        self.deaths += 1
        daemon.kill()
        await daemon.wait()

    async def call(self, method, path):
        """Make one request; return its data, None where there is no such service."""
        async with open_client(self.daemon.url) as client:
            answer = await client.request(method, path)
        assert answer.status in {200, 404}, answer.body
        return answer.data if answer.status == 200 else None

    async def list(self):
        """Return the index and the picture of all."""
        async with open_client(self.daemon.url) as client:
            answer = await client.get("/v1/services")
        return int(answer.headers["x-econeura-index"]), picture_of(answer)

    async def connected(self, act):
        """Do ``act`` with a client over and over, whichever daemon there is."""
        while True:
            if self.daemon is None:
                await trio.sleep(0.02)
                continue
            with suppress(GoneError):
                async with open_client(self.daemon.url) as client:
                    await act(client)


def picture_of(answer):
    return {one["id"]: entry(one) for one in answer.data["items"]}


@attrs.frozen
class Seen:
    """One answer that a watcher got."""

    index: int
    picture: dict
    at: float
    """Seconds since the epoch."""
    life: int
    """Of the daemon: how often it had died before."""


class Poller:
    """Keeps one list by long polls."""

    def __init__(self, world, now, **query):
        self.world, self.now, self.query = world, now, query
        self.seen = []

    def view(self, state):
        """Return the part of a whole state that the list shows."""
        return {
            key: one
            for key, one in state.items()
            if self.query.get("type") in {None, one[0]}
            and self.query.get("status") in {None, one[1]}
            and ("tag" not in self.query or self.query["tag"] in one[2])
        }

    async def run(self):
        await self.world.connected(self._poll)

    async def _poll(self, client):
        while True:
            life = self.world.deaths
            index = {"index": self.seen[-1].index} if self.seen else {}
            answer = await client.get("/v1/services", {**self.query, **index, "wait": "30s"})
            assert answer.status == 200, answer.body
            at = int(answer.headers["x-econeura-index"])
            self.seen.append(Seen(at, picture_of(answer), self.now(), life))


@attrs.frozen
class Told:
    """One event that came over the stream."""

    cursor: int
    event: dict
    at: float
    """When it came, in seconds since the epoch."""


class Follower:
    """Keeps all of it by the stream of events, from the first one that ever was."""

    def __init__(self, world, now):
        self.world, self.now = world, now
        self.cursor = 0
        self.told = []
        self.picture = {}
        self.states = [{}]
        """After each event, the empty beginning first."""

    async def run(self):
        await self.world.connected(self._follow)

    async def _follow(self, client):
        text = ""
        path = "/v1/stream?" + urlencode({"types": "service.*"})
        async with aclosing(client.stream(path, {"Last-Event-ID": str(self.cursor)})) as pieces:
            async for piece in pieces:
                text += piece
                while "\n\n" in text:
                    block, _, text = text.partition("\n\n")
                    message = parse(block)
                    if message is not None:
                        self._take(message)

    def _take(self, message):
        assert message.event.startswith("service."), message
        assert message.id > self.cursor, "an event came twice, or out of order"
        self.cursor = message.id
        event = json.loads(message.data)
        self.told.append(Told(message.id, event, self.now()))
        service = event["data"]["service"]
        self.picture = dict(self.picture)
        if event["type"] == "service.deregistered":
            del self.picture[service["id"]]
        else:
            self.picture[service["id"]] = entry(service)
        self.states.append(self.picture)
