"""The table of routes: one entry says where a route is, who may call it, what it takes and what it answers.

Quart's rules, the scopes, the metrics' labels and the OpenAPI document are all made from it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from quart import Quart, Response, g, request

from econeura_daemon.api.context import request_context
from econeura_daemon.api.queries import Parameter, Query, parse_query
from econeura_daemon.core.errors import NotFoundError
from econeura_daemon.core.phrases import shortened
from econeura_daemon.server import Scope

View = Callable[..., Awaitable[Response]]
Schema = Mapping[str, Any]

_ID = "{id}"
_ANY_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""What any id looks like, ours and the publishers' own."""
_SAFE = {"GET", "HEAD"}


@attrs.frozen
class Answered:
    """One way in which a route answers: what it means, and the schema of its ``data`` (None: no envelope)."""

    doc: str
    data: Schema | None = None
    media_type: str = "application/json"
    whole: Schema | None = None
    """The schema of an answer that has no envelope."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """What those of its own tell, by name."""


@attrs.frozen(kw_only=True)
class Route:
    """One route. ``query`` None: the query string is nobody's business (probes add their own)."""

    method: str
    path: str
    """With ``{id}`` where an id stands; it is the label of the metrics too."""
    scope: Scope | None
    view: View
    answers: Mapping[int, Answered]
    body: type | None = None
    patch: type | None = None
    """The class of what is patched: the body is any of its members (RFC 7396)."""
    query: tuple[Parameter[Any], ...] | None = ()
    problems: tuple[str, ...] = ()
    """Slugs beyond those that any route can answer with."""
    headers: tuple[Parameter[Any], ...] = ()
    """Request headers of its own, which the view reads."""
    idempotent: bool = False
    """Honours ``Idempotency-Key``."""
    _pattern: re.Pattern[str] = attrs.field(init=False, repr=False, eq=False)

    @_pattern.default
    def _compile(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.path).replace(re.escape(_ID), "[^/]+"))

    @property
    def rule(self) -> str:
        """The path as Quart has it."""
        return self.path.replace(_ID, "<key>")

    @property
    def summary(self) -> str:
        """The first line of the view's docstring."""
        return self._doc()[0]

    @property
    def description(self) -> str:
        """The rest of the view's docstring."""
        return self._doc()[1]

    def matches(self, path: str) -> bool:
        """Tell whether the route stands at ``path``."""
        return self._pattern.fullmatch(path) is not None

    def _doc(self) -> tuple[str, str]:
        first, _, rest = (self.view.__doc__ or "").partition("\n")
        return first.strip(), " ".join(rest.split())


class Routes:
    """Routes of one feature, in the order in which the OpenAPI document shows them."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.all: list[Route] = []

    def add(
        self, method: str, path: str, *, scope: Scope | None, answers: Mapping[int, Answered], **more: Any
    ) -> Callable[[View], View]:
        """Enter the decorated view; ``more`` are further fields of `Route`."""

        def enter(view: View) -> View:
            self.all.append(Route(method=method, path=path, scope=scope, answers=answers, view=view, **more))
            return view

        return enter


def current_query() -> Query:
    """Return the query parameters of the present request, read."""
    query: Query = g.query
    return query


def install(app: Quart, routes: list[Route]) -> None:
    """Give the app its rules."""
    for route in routes:
        app.add_url_rule(
            route.rule,
            endpoint=f"{route.method} {route.path}",
            view_func=_view(route),
            methods=[route.method],
            merge_slashes=False,
        )


def scope_in(routes: list[Route], method: str, path: str) -> Scope | None:
    """Return the scope that a request needs, None if it is open to all."""
    if method == "OPTIONS":
        return None  # it tells which methods there are, no more; a preflight cannot bear a token
    wanted = "GET" if method in _SAFE else method
    for route in routes:
        if route.method == wanted and (route.path == path or (_ID in route.path and route.matches(path))):
            return route.scope
    return Scope.READ if method in _SAFE else Scope.ADMIN


def _view(route: Route) -> View:
    async def view(**ids: str) -> Response:
        request_context().route = route.path
        for key in ids.values():
            if _ANY_ID.fullmatch(key) is None:  # nor may it reach a database: PostgreSQL refuses NUL
                raise NotFoundError("thing with the id", shortened(key))
        if route.query is not None:
            g.query = parse_query(request.query_string, route.query)
        return await route.view(**ids)

    return view
