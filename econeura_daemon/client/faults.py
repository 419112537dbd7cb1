"""Faults that an operator injects, to see what callers make of them: delays, answers that are errors, lost connections.

They stand where the wire stands, so that everything around takes them for the instance's own. Each has an end.
"""

from random import Random

import attrs
import httpx
import trio

from econeura_daemon.client.calls import Call, Header, Sent
from econeura_daemon.client.steps import Send
from econeura_daemon.core.instances import check_type
from econeura_daemon.core.validators import between, optional
from econeura_daemon.wire import Target

HOUR_MS = 3_600_000


@attrs.frozen(kw_only=True)
class FaultBody:
    """The wish for a fault: what becomes of ``percent`` of the attempts to a service, or to one of its instances."""

    type: str = attrs.field(validator=check_type)
    service_id: str | None = None
    percent: float = attrs.field(default=100.0, validator=between(0, 100))
    delay_ms: int = attrs.field(default=0, validator=between(0, HOUR_MS))
    """Before anything else."""
    abort_status: int | None = attrs.field(default=None, validator=optional(between(200, 599)))
    """Answered in place of the instance."""
    drop: bool = False
    """The connection is lost before an answer."""
    expires_in_ms: int = attrs.field(default=60_000, validator=between(1, HOUR_MS))

    def __attrs_post_init__(self) -> None:
        if self.drop and self.abort_status is not None:
            raise ValueError("a call is either dropped or aborted with a status")
        if not (self.drop or self.abort_status is not None or self.delay_ms):
            raise ValueError("expected at least one of delayMs, abortStatus and drop")


@attrs.frozen
class Fault:
    """A fault that is injected until ``until`` on Trio's clock."""

    wish: FaultBody
    until: float


class Faults:
    """At most one for each type, and one for each instance, which goes before."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._faults: dict[tuple[str, str | None], Fault] = {}

    def put(self, wish: FaultBody) -> Fault:
        """Inject a fault from now on, in place of the one for the same."""
        fault = Fault(wish, trio.current_time() + wish.expires_in_ms / 1000)
        self._faults[wish.type, wish.service_id] = fault
        return fault

    def remove(self, service: str | None) -> int:
        """End all faults of a type, or all; return how many there were."""
        gone = [key for key in self._live() if service is None or key[0] == service]
        for key in gone:
            del self._faults[key]
        return len(gone)

    def live(self) -> list[Fault]:
        """Return those that are injected now."""
        return [self._faults[key] for key in self._live()]

    def around(self, send: Send) -> Send:
        """Return a way to make attempts on which faults are injected."""

        async def spoiled(call: Call, target: Target) -> Sent:
            if not self._faults:
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

    def _of(self, call: Call) -> FaultBody | None:
        now = trio.current_time()
        for key in ((call.service, call.asked), (call.service, None)):
            fault = self._faults.get(key)
            if fault is not None and now < fault.until:
                return fault.wish if self._rng.random() * 100 < fault.wish.percent else None
        return None

    def _live(self) -> list[tuple[str, str | None]]:
        now = trio.current_time()
        self._faults = {key: fault for key, fault in self._faults.items() if now < fault.until}
        return list(self._faults)


class _Aborted:
    """An answer that no instance gave."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: list[Header] = [(b"content-length", b"0"), (b"x-fault", b"injected")]

    async def more(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    def end(self) -> None:
        """There is nothing to end."""
