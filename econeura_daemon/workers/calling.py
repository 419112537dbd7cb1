"""One call of a workers service: the request as its contract has it, the answer checked before anybody believes it.

Workers answer in the daemon's own envelope, ``{"success": true, "data": …}``, and with problems (RFC 9457). What is
neither is no answer of a worker: whatever its status, the call failed.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import httpx

from econeura_daemon.client import Call, Mesh, MeshError
from econeura_daemon.core.errors import EconeuraError, InvalidInputError
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.resilience import State
from econeura_daemon.telemetry.trace import TraceContext

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that are read."""
MAX_REASON = 500
"""Characters of what a worker says of its refusal."""


class WorkersFailedError(EconeuraError):
    """A worker answered, but did not do it."""

    def __init__(self, detail: str, *, service_id: str | None, status: int | None = None) -> None:
        super().__init__(detail)
        self.service_id = service_id
        self.status = status
        """The HTTP status that it answered with."""


class WorkersBusyError(WorkersFailedError):
    """A worker answered that it cannot do it now."""


_BUSY = frozenset((409, 429, 503))
"""409: the same call is under way there, asked for by somebody who did not wait for its answer."""


@attrs.frozen(kw_only=True)
class Asked:
    """On whose behalf workers are called, and as part of what."""

    organization_id: str
    request_id: str
    trace: TraceContext | None = None


@attrs.frozen(kw_only=True)
class Told:
    """A worker's answer."""

    data: dict[str, Any]
    service_id: str
    milliseconds: int


class Calling:
    """Calls services of one type."""

    def __init__(self, mesh: Mesh, service_type: str) -> None:
        self._mesh = mesh
        self.service_type = service_type

    def room(self, under_way: int) -> float:
        """Return how many calls workers take at once, beside those that others have under way there.

        Only instances count that may be picked. Without one it is unbounded: the mesh then says what is wrong.
        """
        service = self._mesh.show(self.service_type)
        if service is None:
            return float("inf")
        limiters = [
            one.limiter
            for one in service.states.values()
            if one.member.place >= 0 and one.breaker.state is not State.OPEN
        ]
        if not limiters:
            return float("inf")
        others = sum(one.borrowed for one in limiters) - under_way
        return sum(one.limit for one in limiters) - max(0, others)

    def is_refused(self, service_id: str) -> bool:
        """Whether a call of this instance is refused now: its breaker is open, or that of them all."""
        service = self._mesh.show(self.service_type)
        if service is None:
            return False
        state = service.states.get(service_id)
        breakers = [service.breaker] if state is None else [service.breaker, state.breaker]
        return any(one.state is State.OPEN for one in breakers)

    async def call(
        self,
        method: str,
        path: str,
        asked: Asked,
        *,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        most: int = MAX_ANSWER,
    ) -> Told:
        """Call a worker; ``timeout`` in seconds shortens the service's own. ``most``: bytes of an answer.

        Raises `MeshError` where nobody answered, `WorkersFailedError` for an answer that is none, or no success.
        """
        headers = [
            (b"Accept", b"application/json"),
            (b"X-Organization-ID", asked.organization_id.encode()),
            (b"X-Request-Source", b"api"),
            (b"X-Service-Client", b"econeura-service-client"),
            (b"X-Request-ID", asked.request_id.encode()),
        ]
        if body is not None:
            headers.append((b"Content-Type", b"application/json"))
        if idempotency_key is not None:
            headers.append((b"Idempotency-Key", idempotency_key.encode()))
        answer = await self._mesh.call(
            Call(
                service=self.service_type,
                method=method,
                place=path.encode(),
                headers=headers,
                body=b"" if body is None else dumps(body),
                timeout=timeout,
                trace=asked.trace,
                is_whole=True,
                id=asked.request_id,
            )
        )
        content = bytearray()
        try:
            while part := await answer.more():
                content += part
                if len(content) > most:
                    raise WorkersFailedError(
                        f"{answer.service_id} answered with more than {most} bytes",
                        service_id=answer.service_id,
                        status=answer.status,
                    )
        except MeshError as error:
            error.attempts, error.service_id = answer.attempts, answer.service_id
            raise
        except httpx.TransportError as error:
            raise WorkersFailedError(
                f"{answer.service_id} broke off its answer: {error}",
                service_id=answer.service_id,
                status=answer.status,
            ) from None
        finally:
            answer.close()
        data = _data(answer.service_id, answer.status, bytes(content))
        return Told(data=data, service_id=answer.service_id, milliseconds=round(answer.seconds * 1000))


def _data(service_id: str, status: int, content: bytes) -> dict[str, Any]:
    """Return the ``data`` of a success. Raises `WorkersFailedError`."""

    def failed(detail: str) -> WorkersFailedError:
        kind = WorkersBusyError if status in _BUSY else WorkersFailedError
        return kind(f"{service_id} {detail}", service_id=service_id, status=status)

    try:
        said = loads(content)
    except InvalidInputError as error:
        if not 200 <= status < 300:
            raise failed(f"answered {status}") from None
        raise failed(f"answered {status} with what is no JSON: {error.flaws[0].message}") from None
    if not 200 <= status < 300 or not isinstance(said, dict) or said.get("success") is not True:
        raise failed(f"answered {status}{_reason(said)}")
    data = said.get("data")
    if not isinstance(data, dict):
        raise failed(f"answered {status} without data")
    return data


def _reason(said: object) -> str:
    """Return what a refusal says of itself: a problem's words, or those of older workers."""
    if not isinstance(said, dict):
        return ", and no object"
    for name in ("detail", "error", "message", "title"):
        text = said.get(name)
        if isinstance(text, dict):
            text = text.get("message")
        if isinstance(text, str) and text:
            return f": {text[:MAX_REASON]}"
    return " without success"
