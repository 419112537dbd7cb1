"""The gateway in the OpenAPI document: one path, every method, and whatever an instance answers."""

from typing import Any

from econeura_daemon.api.schemas import STRING, ref
from econeura_daemon.server import PROBLEMS, Scope

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""Those that OpenAPI knows; any other goes through too."""
_WITH_BODY = ("put", "post", "patch")
SLUGS = (
    "invalid-input",
    "unauthorized",
    "forbidden",
    "not-found",
    "request-timeout",
    "internal-error",
    "not-implemented",
    "upstream-unreachable",
    "overloaded",
    "no-healthy-instance",
    "circuit-open",
    "concurrency-limit",
    "upstream-timeout",
)
"""The problems that are the gateway's own."""
_FACTS = {
    "X-Service-Id": "The instance that answered, or was asked last.",
    "X-Retries": "Attempts beyond the first.",
    "X-Response-Time": "Milliseconds to the head of the answer.",
}
_PARAMETERS = [
    {
        "name": "type",
        "in": "path",
        "required": True,
        "description": "The service. `calls`, `faults` and `default` are none.",
        "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
    },
    {
        "name": "path",
        "in": "path",
        "required": True,
        "description": "What the instance is asked for, slashes included, byte for byte. A query passes too.",
        "schema": STRING,
    },
    {
        "name": "X-Timeout-Ms",
        "in": "header",
        "description": "Shortens the service's deadline, and never lengthens it.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Goes to the instance. With it any method is tried again as an idempotent one is.",
        "schema": STRING,
    },
    {
        "name": "Proxy-Authorization",
        "in": "header",
        "description": "The daemon's token, where `Authorization` is the service's.",
        "schema": STRING,
    },
]


def path_item() -> dict[str, Any]:
    """Return what the document has of the gateway's path."""
    return {"parameters": _PARAMETERS, **{method: _operation(method) for method in METHODS}}


def _operation(method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["Mesh"],
        "operationId": f"call_service_{method}",
        "summary": f"Call a service with {method.upper()}.",
        "description": "Status, headers and body are the instance's, or a problem where there is no answer.",
        "responses": _responses(),
        "security": [{}, {"token": []}],
        "x-scope": str(Scope.PUBLISH.value),
    }
    if method in _WITH_BODY:
        operation["requestBody"] = {"content": {"*/*": {}}}
    return operation


def _responses() -> dict[str, Any]:
    headers = {name: {"description": doc, "schema": STRING} for name, doc in _FACTS.items()}
    titles: dict[str, list[str]] = {}
    for slug in SLUGS:
        status, title = PROBLEMS[slug]
        titles.setdefault(str(status), []).append(f"{title} (`{slug}`)")
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    responses: dict[str, Any] = {
        status: {
            "description": f"{'; '.join(those)}; or the instance's own answer",
            "headers": headers,
            "content": {**problem, "*/*": {}},
        }
        for status, those in sorted(titles.items())
    }
    return {
        **responses,
        "default": {"description": "The instance's answer", "headers": headers, "content": {"*/*": {}}},
    }
