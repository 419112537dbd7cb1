"""Every service that is called, and the calling of them."""

from collections.abc import Callable, Mapping
from random import Random

import attrs
import trio

from econeura_daemon.client.calls import Answer, Call
from econeura_daemon.client.errors import (
    CircuitOpenError,
    ConcurrencyLimitError,
    MeshError,
    NoHealthyInstanceError,
)
from econeura_daemon.client.faults import Faults
from econeura_daemon.client.policies import ServicePolicy
from econeura_daemon.client.recent import Recent
from econeura_daemon.client.service import InstanceState, Service, Told
from econeura_daemon.client.short_answers import whole
from econeura_daemon.client.steps import Resolve, Send, Step, compose
from econeura_daemon.core.allowing import AllowList
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.resilience import Outcome, Verdict

_REFUSALS = (NoHealthyInstanceError, CircuitOpenError, ConcurrencyLimitError)


@attrs.frozen(kw_only=True)
class Observer:
    """Who is told of calls and attempts."""

    called: Callable[[Call, Answer | MeshError, float], None] = lambda *_: None
    """The call, what came of it, and the seconds until then."""
    attempted: Callable[[Call, InstanceState, Outcome, float], None] = lambda *_: None
    told: Told = attrs.field(factory=Told)


class Mesh:
    """Calls services by their type. What is known of a type is kept from its first call to its last instance."""

    def __init__(
        self,
        *,
        resolve: Resolve,
        settings_of: Callable[[str], MeshSettings],
        sender: Callable[[Service], Send],
        rng: Random,
        observer: Observer | None = None,
    ) -> None:
        self._resolve = resolve
        self._settings_of = settings_of
        self._sender = sender
        self._rng = rng
        self._observer = observer or Observer()
        self.faults = Faults(rng)
        """What operators inject."""
        self.recent = Recent()
        """The last calls."""
        self._services: dict[str, tuple[Service, Step]] = {}

    def __repr__(self) -> str:
        return f"<Mesh: {', '.join(sorted(self._services)) or 'nothing called yet'}>"

    async def call(self, call: Call) -> Answer:
        """Call a service and return its answer, the body still to be read.

        Raises `MeshError`; `httpx.LocalProtocolError` for a request that cannot be sent; what the body's source
        raises.
        """
        service, step = self._service(call.service)
        totals = service.totals
        totals.requests += 1
        try:
            answer = await step(call)
        except MeshError as error:
            error.attempts, error.service_id = call.attempts, call.asked
            if isinstance(error, _REFUSALS) and not call.attempts:
                totals.refusals += 1
            else:
                totals.failures += 1
            seconds = trio.current_time() - call.began
            self.recent.note(call, error, seconds)
            self._observer.called(call, error, seconds)
            raise
        except BaseException:  # the caller left, or its own request came to nothing
            self.recent.note(call, None, trio.current_time() - call.began)
            raise
        if answer.outcome.verdict is Verdict.FAILURE:
            totals.failures += 1
        self.recent.note(call, answer, answer.seconds)
        self._observer.called(call, answer, answer.seconds)
        return answer

    def allow_list(self, name: str) -> AllowList:
        """Return what of a service those may ask for who are not this process's own code: the gateway asks."""
        return AllowList.of(self._settings_of(name).allow)

    def use(self, settings_of: Callable[[str], MeshSettings]) -> None:
        """Follow other settings from now on; what is known of services and instances stays."""
        self._settings_of = settings_of
        for name, (service, _) in self._services.items():
            service.follow(ServicePolicy.of(settings_of(name)))

    def services(self) -> Mapping[str, Service]:
        """Return what is known, as of now, by type: those that were called and have instances."""
        now = trio.current_time()
        self._forget_empty()
        for service, _ in self._services.values():
            service.see(self._resolve(service.name), now)
        return {name: service for name, (service, _) in self._services.items()}

    def show(self, name: str) -> Service | None:
        """Return what is known of a type, also if it was never called; None: it has no instance."""
        if not self._resolve(name):
            return None
        service, _ = self._service(name)
        service.see(self._resolve(name), trio.current_time())
        return service

    def _service(self, name: str) -> tuple[Service, Step]:
        known = self._services.get(name)
        if known is not None:
            return known
        if not self._resolve(name):  # or anybody could fill the memory with names
            raise NoHealthyInstanceError(f"No instance of {name!r} is registered")
        self._forget_empty()
        policy = ServicePolicy.of(self._settings_of(name))
        service = Service(name, policy, self._rng, self._observer.told)
        send = whole(self.faults.around(self._sender(service)))
        step = compose(service, send, self._resolve, self._rng, self._observer.attempted)
        self._services[name] = service, step
        return service, step

    def _forget_empty(self) -> None:
        for name, (service, _) in list(self._services.items()):
            if not self._resolve(name):
                service.see((), trio.current_time())  # there is nothing left to panic about
                del self._services[name]
