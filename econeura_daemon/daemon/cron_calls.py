"""What cron's jobs ask of services: calls through the mesh."""

import httpx
import trio

from econeura_daemon.api import Discovery
from econeura_daemon.client import Call as MeshCall
from econeura_daemon.client import MeshError, UpstreamTimeoutError
from econeura_daemon.core.jobs import ActionBody
from econeura_daemon.core.jsons import dumps
from econeura_daemon.cron import Call, Outcome, RunStatus
from econeura_daemon.cron.model import MAX_OUTPUT
from econeura_daemon.cron.running import cut


def mesh_call(discovery: Discovery | None) -> Call:
    """Return what calls services through the mesh; without discovery every call fails, and says why."""

    async def call(action: ActionBody, idempotency_key: str, timeout: float) -> Outcome:
        if discovery is None:
            await trio.lowlevel.checkpoint()
            return Outcome(
                status=RunStatus.FAILED, error="Service discovery is switched off (discovery.enabled = false)"
            )
        try:
            answer = await discovery.mesh.call(_call_of(action, idempotency_key, timeout))
        except UpstreamTimeoutError as error:
            return Outcome(status=RunStatus.TIMED_OUT, error=str(error))
        except MeshError as error:
            return Outcome(status=RunStatus.FAILED, error=str(error))
        try:
            output = b""
            while len(output) < MAX_OUTPUT and (part := await answer.more()):
                output += part
        except httpx.TransportError as error:
            return Outcome(status=RunStatus.FAILED, error=f"the answer broke off: {error}")
        finally:
            answer.close()
        text = cut(output.decode(errors="replace"))
        if 200 <= answer.status < 300:
            return Outcome(status=RunStatus.SUCCEEDED, output=text)
        return Outcome(status=RunStatus.FAILED, output=text, error=f"answered {answer.status}")

    return call


def _call_of(action: ActionBody, idempotency_key: str, timeout: float) -> MeshCall:
    assert action.service is not None, "a request has a service"
    assert action.method is not None, "a request has a method"
    assert action.path is not None, "a request has a path"
    headers = [(name.encode("ascii"), text.encode("ascii")) for name, text in (action.headers or {}).items()]
    headers.append((b"Idempotency-Key", idempotency_key.encode("ascii")))
    body = b""
    if action.body is not None:
        body = dumps(action.body)
        if not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"Content-Type", b"application/json"))
    return MeshCall(
        service=action.service,
        method=action.method,
        place=action.path.encode("ascii"),
        headers=headers,
        body=body,
        timeout=timeout,
        is_patient=True,  # a job says itself how long it may take: `mesh.<type>.timeout_ms` is for those who wait
    )
