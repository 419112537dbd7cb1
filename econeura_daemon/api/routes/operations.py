"""What operators and their machines ask: health, readiness, metrics, and what the API consists of."""

import trio
from quart import Response, current_app, request

from econeura_daemon._version import VERSION
from econeura_daemon.api.context import request_context
from econeura_daemon.api.replies import JSON, reply
from econeura_daemon.api.routing import Answered, Routes
from econeura_daemon.api.schemas import NUMBER, STRING, listed, obj
from econeura_daemon.api.services import services
from econeura_daemon.server import Scope
from econeura_daemon.telemetry import METRICS_CONTENT_TYPE, worst

routes = Routes("Operations")

_TEXT = "text/plain; charset=utf-8"
_STATUS = {"type": "string", "enum": ["healthy", "degraded", "unhealthy"]}
_HEALTH = obj(
    status=_STATUS,
    service=STRING,
    version=STRING,
    uptime=NUMBER,
    features=listed(STRING),
    components={"type": "object", "additionalProperties": obj(status=_STATUS, detail=STRING)},
)


@routes.add(
    "GET",
    "/health",
    scope=Scope.READ,
    query=None,
    answers={200: Answered("Healthy or degraded.", _HEALTH), 503: Answered("Unhealthy.", _HEALTH)},
)
async def read_health() -> Response:
    """Tell how every part is doing.

    `uptime` is in seconds.
    """
    components = services().health.report()
    status = worst(components.values())
    data = {
        "status": status,
        "service": services().name,
        "version": VERSION,
        "uptime": round(trio.current_time() - services().started, 3),
        "features": services().features,
        "components": {
            name: {"status": component.status, "detail": component.detail}
            for name, component in components.items()
        },
    }
    return reply(data, status=503 if status == "unhealthy" else 200)


@routes.add(
    "GET",
    "/livez",
    scope=None,
    query=None,
    answers={200: Answered("Alive.", media_type="text/plain")},
)
async def read_liveness() -> Response:
    """Tell whether the process answers at all; one that does not is to be restarted.

    What else is ill heals without a restart and is not asked here.
    """
    return _checks([("loop", True, "answers")])


@routes.add(
    "GET",
    "/readyz",
    scope=None,
    query=None,
    answers={
        200: Answered("Ready.", media_type="text/plain"),
        503: Answered("Not ready.", media_type="text/plain"),
    },
)
async def read_readiness() -> Response:
    """Tell whether requests may be sent here; `?verbose` lists the checks."""
    checks = [
        (name, component.status != "unhealthy", component.detail)
        for name, component in services().health.report().items()
    ]
    is_draining = request_context().draining.is_set()
    checks.append(("draining", not is_draining, "yes" if is_draining else "no"))
    return _checks(checks)


@routes.add(
    "GET",
    "/metrics",
    scope=Scope.READ,
    query=None,
    answers={200: Answered("Prometheus text exposition.", media_type="text/plain")},
)
async def read_metrics() -> Response:
    """Read every number."""
    return Response(await services().metrics.render(), content_type=METRICS_CONTENT_TYPE)


@routes.add(
    "GET",
    "/openapi.json",
    scope=Scope.READ,
    query=None,
    answers={200: Answered("This document, bare.")},
)
async def read_openapi() -> Response:
    """Describe the API (OpenAPI 3.1)."""
    document: bytes = current_app.extensions["econeura.openapi"]
    return Response(document, content_type=JSON)


def _checks(checks: list[tuple[str, bool, str]]) -> Response:
    passed = all(is_ok for _, is_ok, _ in checks)
    lines = []
    if "verbose" in request.args:
        lines = [f"[{'+' if is_ok else '-'}] {name}: {detail}" for name, is_ok, detail in checks]
    elif not passed:
        lines = [f"[-] {name}: {detail}" for name, is_ok, detail in checks if not is_ok]
    lines.append("ok" if passed else "not ok")
    response = Response("\n".join(lines) + "\n", status=200 if passed else 503, content_type=_TEXT)
    response.headers["Cache-Control"] = "no-store"
    return response
