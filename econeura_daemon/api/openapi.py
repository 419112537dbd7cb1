"""The OpenAPI 3.1 document, made from the table of routes (https://spec.openapis.org/oas/v3.1.1)."""

from collections.abc import Sequence
from typing import Any

from econeura_daemon._version import VERSION
from econeura_daemon.api import gateway, gateway_openapi
from econeura_daemon.api.routing import Answered, Route, Routes
from econeura_daemon.api.schemas import (
    ANY_OBJECT,
    COMPONENTS,
    STRING,
    envelope,
    patch_schema_of,
    ref,
    schema_of,
)
from econeura_daemon.server import PROBLEMS, Scope

_ALWAYS = ("unauthorized", "forbidden", "internal-error")
_WITH_QUERY = ("invalid-input",)
_WITH_BODY = ("invalid-input", "payload-too-large", "unsupported-media-type")
_IDEMPOTENT = ("idempotency-mismatch", "idempotency-in-flight")


def document(groups: Sequence[Routes]) -> dict[str, Any]:
    """Return the document; the gateway is the daemon's, where the mesh's other routes are."""
    paths: dict[str, Any] = {}
    for group in groups:
        for route in group.all:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(group.tag, route)
    if "/v1/mesh" in paths:
        paths[gateway.ROUTE] = gateway_openapi.path_item()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "econeura-daemon",
            "version": VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": group.tag} for group in groups],
        "paths": paths,
        "components": {
            "schemas": dict(COMPONENTS),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(tag: str, route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [tag],
        "operationId": route.view.__name__,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.description:
        operation["description"] = route.description
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of(route.body)}},
        }
    if route.patch is not None:
        patch = {"schema": patch_schema_of(route.patch)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": patch, "application/merge-patch+json": patch},
        }
    if route.scope is None:
        operation["security"] = []
    else:  # a peer on the loopback interface needs none
        operation["security"] = [{}, {"token": []}]
        operation["x-scope"] = _name(route.scope)
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {
            "name": parameter.name,
            "in": place,
            "description": parameter.doc,
            "schema": dict(parameter.schema),
        }
        for place, those in (("query", route.query or ()), ("header", route.headers))
        for parameter in those
    ]
    if "{id}" in route.path:
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": STRING})
    if route.idempotent:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key with the same body gives the first answer again, for 24 hours.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    return parameters


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"description": answered.doc, **_headers(route, answered), **_content(answered)}
        for status, answered in route.answers.items()
    }
    by_status: dict[str, list[str]] = {}
    for slug in sorted(slugs_of(route)):
        status, title = PROBLEMS[slug]
        by_status.setdefault(str(status), []).append(f"{title} (`{slug}`)")
    for code, titles in by_status.items():
        responses.setdefault(
            code,
            {
                "description": "; ".join(titles),
                "content": {"application/problem+json": {"schema": ref("Problem")}},
            },
        )
    return dict(sorted(responses.items()))


def slugs_of(route: Route) -> set[str]:
    """Return the slugs of the problems that a route can answer with."""
    slugs = {*route.problems}
    if route.scope is not None:
        slugs.update(_ALWAYS)
    if route.query is not None:
        slugs.update(_WITH_QUERY)
    if route.body is not None or route.patch is not None:
        slugs.update(_WITH_BODY)
    if route.idempotent:
        slugs.update(_IDEMPOTENT)
    if "{id}" in route.path:
        slugs.add("not-found")
    return slugs


def _headers(route: Route, answered: Answered) -> dict[str, Any]:
    told = dict(answered.headers)
    if route.idempotent:
        told["Idempotent-Replayed"] = "`true` where the first answer to the `Idempotency-Key` is given again."
    described = {name: {"description": doc, "schema": STRING} for name, doc in told.items()}
    return {"headers": described} if described else {}


def _content(answered: Answered) -> dict[str, Any]:
    if answered.data is not None:
        return {"content": {answered.media_type: {"schema": envelope(dict(answered.data))}}}
    schema = answered.whole or (ANY_OBJECT if answered.media_type == "application/json" else STRING)
    return {"content": {answered.media_type: {"schema": schema}}}


def _name(scope: Scope) -> str:
    return str(scope.value)
