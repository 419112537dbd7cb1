"""Faults that an operator injects, to see what callers make of them: delays, answers that are errors, lost connections.

They stand where the wire stands, so that everything around takes them for the instance's own. Each has an end, but for
those of the configuration, which stand as long as they stand there.
"""

from collections.abc import Mapping
from math import inf
from random import Random

import attrs
import httpx
import trio

from econeura_daemon.client.calls import Call, Header, Sent
from econeura_daemon.client.steps import Send
from econeura_daemon.core.faults import HOUR_MS, FaultSettings
from econeura_daemon.core.instances import check_type
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.core.validators import between
from econeura_daemon.wire import Target


@attrs.frozen(kw_only=True)
class FaultBody(FaultSettings):
    """The wish for a fault: what becomes of the attempts to a service, or to one of its instances."""

    type: str = attrs.field(validator=check_type)
    service_id: str | None = None
    expires_in_ms: int = attrs.field(default=60_000, validator=between(1, HOUR_MS))

    def __attrs_post_init__(self) -> None:
        FaultSettings.__attrs_post_init__(self)
        if not self.does_something and self.percent:
            raise ValueError("expected at least one of delayMs, abortStatus and drop, or a percent of 0")


@attrs.frozen
class Fault:
    """A fault that is injected."""

    service: str
    service_id: str | None
    """None: into attempts to any instance."""
    deed: FaultSettings
    until: float = inf
    """On Trio's clock; infinite: it stands in the configuration."""

    @property
    def is_static(self) -> bool:
        """Whether it is the configuration's."""
        return self.until == inf


class Faults:
    """Those of operators, at most one for each type and one for each instance, and those of the configuration.

    Of an attempt the one counts that is for its instance, else the one for its type, else the configuration's.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._faults: dict[tuple[str, str | None], Fault] = {}
        self._declared: dict[str, FaultSettings] = {}
        self._are_any = False

    def declare(self, sections: Mapping[str, MeshSettings]) -> None:
        """Follow the configuration from now on. ``sections``: by type, and ``default`` for all others."""
        declared = {name: section.faults for name, section in sections.items()}
        self._declared = declared if any(one.does_something for one in declared.values()) else {}
        self._notice()

    def declared(self) -> list[Fault]:
        """Return those of the configuration; ``default`` is for every type that has no section of its own."""
        known = sorted(self._declared.items())
        return [Fault(name, None, deed) for name, deed in known if deed.does_something]

    def declared_for(self, service: str) -> FaultSettings | None:
        """Return what the configuration says of calls to a service."""
        found = self._declared.get(service) or self._declared.get("default")
        return found if found is not None and found.does_something else None

    def put(self, wish: FaultBody) -> Fault:
        """Inject a fault from now on, in place of the one for the same."""
        until = trio.current_time() + wish.expires_in_ms / 1000
        fault = Fault(wish.type, wish.service_id, wish, until)
        self._faults[wish.type, wish.service_id] = fault
        self._notice()
        return fault

    def remove(self, service: str | None) -> int:
        """End all faults of a type, or all, but the configuration's; return how many there were."""
        gone = [key for key in self._live() if service is None or key[0] == service]
        for key in gone:
            del self._faults[key]
        self._notice()
        return len(gone)

    def live(self) -> list[Fault]:
        """Return those that are injected now, the configuration's last."""
        return [*(self._faults[key] for key in self._live()), *self.declared()]

    def live_for(self, service: str) -> list[Fault]:
        """Return those that are injected into calls to a service now."""
        own = [self._faults[key] for key in self._live() if key[0] == service]
        declared = self.declared_for(service)
        return own if declared is None else [*own, Fault(service, None, declared)]

    def around(self, send: Send) -> Send:
        """Return a way to make attempts on which faults are injected."""

        async def spoiled(call: Call, target: Target) -> Sent:
            if not self._are_any:
                return await send(call, target)
            fault = self._of(call)
            if fault is None:
                return await send(call, target)
            if fault.delay_ms:
                await trio.sleep(fault.delay_ms / 1000)
            if fault.drop:
                await trio.lowlevel.checkpoint()
                raise httpx.ReadError("the connection was dropped by an injected fault")
            if fault.abort_status is not None:
                await trio.lowlevel.checkpoint()
                return _Aborted(fault.abort_status)
            return await send(call, target)

        return spoiled

    def _of(self, call: Call) -> FaultSettings | None:
        deed = self._injected(call) or self.declared_for(call.service)
        return deed if deed is not None and self._rng.random() * 100 < deed.percent else None

    def _injected(self, call: Call) -> FaultSettings | None:
        now = trio.current_time()
        for key in ((call.service, call.asked), (call.service, None)):
            fault = self._faults.get(key)
            if fault is not None and now < fault.until:
                return fault.deed
        return None

    def _live(self) -> list[tuple[str, str | None]]:
        now = trio.current_time()
        self._faults = {key: fault for key, fault in self._faults.items() if now < fault.until}
        return list(self._faults)

    def _notice(self) -> None:
        self._are_any = bool(self._faults or self._declared)


class _Aborted:
    """An answer that no instance gave."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.is_whole = True
        self.headers: list[Header] = [(b"content-length", b"0"), (b"x-fault", b"injected")]

    async def more(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    def end(self) -> None:
        """There is nothing to end."""
