"""A mesh whose instances are functions of the test's."""

from random import Random

import attrs
import httpx
import trio

from econeura_daemon.client import Call, Mesh, Observer
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.registry.model import Check, Health, Instance, Registration, Verdict


def instance(name, *, host=None, draining=False, well=True, weight=100, port=80, **more):
    """Return one; ``well``: what its check says, None: no probe has come back yet."""
    verdict = None if well is None else Verdict.HEALTHY if well else Verdict.UNHEALTHY
    if well is None:
        more["check"] = Check()
    return Instance(
        registration=Registration(
            id=name, name=name, type="workers", host=host or name, port=port, weight=weight, **more
        ),
        generation=1,
        registered_at=0,
        health=Health(draining=draining, verdict=verdict, reason="r"),
    )


class Sent:
    """What a pretended instance answers; ``parts`` may hold exceptions and seconds to wait."""

    def __init__(self, status=200, parts=(b"ok",), headers=()):
        self.status = status
        self.headers = list(headers)
        self._parts = list(parts)
        self.is_whole = False
        self.ended = False

    async def more(self):
        await trio.lowlevel.checkpoint()
        while self._parts:
            part = self._parts.pop(0)
            if isinstance(part, Exception):
                raise part
            if isinstance(part, bytes):
                return part
            await trio.sleep(part)
        return b""

    def end(self):
        self.ended = True


@attrs.define
class World:
    """``behaviours``: by instance, what becomes of an attempt: a coroutine function of the call."""

    instances: tuple = ()
    behaviours: dict = attrs.field(factory=dict)
    settings: MeshSettings = attrs.field(factory=MeshSettings)
    asked: list = attrs.field(factory=list)
    seed: int = 7
    observer: Observer | None = None
    mesh: Mesh = attrs.field(init=False)

    def __attrs_post_init__(self):
        def sender(_service):
            async def send(call, target):
                self.asked.append(target.host)
                return await self.behaviours.get(target.host, well)(call)

            return send

        self.mesh = Mesh(
            resolve=lambda name: self.instances if name == "workers" else (),
            settings_of=lambda _: self.settings,
            sender=sender,
            rng=Random(self.seed),
            observer=self.observer,
        )

    async def call(self, method="GET", **more):
        """Return status and body of the whole answer."""
        answer = await self.begin(method, **more)
        body = b""
        while part := await answer.more():
            body += part
        return answer.status, body

    def reload(self, **settings):
        self.settings = MeshSettings(**settings)
        self.mesh.use(lambda _: self.settings)

    async def begin(self, method="GET", **more):
        return await self.mesh.call(Call(service="workers", method=method, place=b"/", **more))

    @property
    def service(self):
        return self.mesh.services()["workers"]

    def assert_all_is_back(self):
        service = self.service
        assert service.budget.statistics().calls_in_flight == 0
        assert service.budget.statistics().retries_in_flight == 0
        assert service.breaker.statistics().in_flight == 0
        for state in service.states.values():
            assert state.limiter.borrowed == 0
            assert state.limiter.tasks_waiting == 0
            assert state.breaker.statistics().in_flight == 0
            assert state.member.in_flight == 0


def world(*names, **more):
    return World(tuple(instance(name) for name in names), **more)


async def well(_call):
    await trio.lowlevel.checkpoint()
    return Sent()


def answers(status, **more):
    async def behave(_call):
        await trio.lowlevel.checkpoint()
        return Sent(status, **more)

    return behave


def raises(error):
    async def behave(_call):
        await trio.lowlevel.checkpoint()
        raise error

    return behave


def slow(seconds, status=200):
    async def behave(_call):
        await trio.sleep(seconds)
        return Sent(status)

    return behave


async def hang(_call):
    await trio.sleep_forever()


refused = raises(httpx.ConnectError("connection refused by 127.0.0.1:9"))
reset = raises(httpx.ReadError("the connection was reset before the answer was complete"))


def pieces(*parts):
    """Return the source of a body."""
    rest = list(parts)

    async def source():
        await trio.lowlevel.checkpoint()
        return rest.pop(0) if rest else b""

    return source


async def read(stream):
    return b"".join([part async for part in stream])
