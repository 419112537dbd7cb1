"""The Quart app: routes, problems, JSON. Everything that every route shares below it is `server`'s."""

from collections.abc import Sequence
from typing import Any

from quart import Response, request
from quart.json.provider import JSONProvider
from quart_trio import QuartTrio

from econeura_daemon.api import gateway, hot, openapi, problems, routing
from econeura_daemon.api.requests import InTaskConnection
from econeura_daemon.api.routes import GROUPS, HOT
from econeura_daemon.api.routing import Routes
from econeura_daemon.api.services import Services
from econeura_daemon.core import jsons
from econeura_daemon.server import FindPassage, HotRoutes, Scope

ROUTES = [route for group in GROUPS for route in group.all]
OPENAPI = "econeura.openapi"


class _Json(JSONProvider):
    """JSON as the daemon reads and writes it."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return jsons.dumps(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return jsons.loads(s.encode() if isinstance(s, str) else s)


class _App(QuartTrio):
    json_provider_class = _Json
    asgi_http_class = InTaskConnection

    async def make_default_options_response(self) -> Response:
        """Answer OPTIONS with the methods there are, and no body."""
        response = Response(b"", status=204)
        response.headers.remove("Content-Type")
        adapter = self.create_url_adapter(request)
        assert adapter is not None, "a request has a host"
        response.headers["Allow"] = ", ".join(sorted(adapter.allowed_methods()))
        return response


def create_app(services: Services, groups: Sequence[Routes] = GROUPS) -> QuartTrio:
    """Return the app over these services, with these routes."""
    app = _App(__name__, static_folder=None)
    for bound in ("MAX_CONTENT_LENGTH", "BODY_TIMEOUT", "RESPONSE_TIMEOUT"):
        app.config[bound] = None  # the server's layers bound what comes in, its connections what goes out
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.merge_slashes = False
    services.install(app.extensions)
    app.extensions[OPENAPI] = jsons.dumps(openapi.document(groups))
    routing.install(app, [route for group in groups for route in group.all])
    problems.install(app)
    app.after_request(_without_body)
    return app


def hot_routes(services: Services) -> HotRoutes:
    """Return the routes that need no Quart, for the server to serve them itself."""
    return hot.hot_routes(services, HOT)


def find_passage(services: Services) -> FindPassage:
    """Return who takes bodies of any size, by path: the gateway of the mesh."""
    return gateway.Gateway(services).find


def scope_of(method: str, path: str) -> Scope | None:
    """Return the scope that a request needs; None: open to all."""
    if gateway.service_of(path) is not None:
        return Scope.PUBLISH
    return routing.scope_in(ROUTES, method, path)


async def _without_body(response: Response) -> Response:
    """HEAD answers with the head that GET would have (RFC 9110, section 9.3.2)."""
    if request.method == "HEAD":
        length = response.headers.get("Content-Length")
        response.set_data(b"")
        if length is None:
            response.headers.remove("Content-Length")
        else:
            response.headers["Content-Length"] = length
    return response
