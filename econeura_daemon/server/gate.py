"""What stands before every route: each rule once, in one order, for ASGI applications and hot routes alike.

In front of a handler come request id, Host, Origin, access, and, behind those, the shedding of load. Around it
stand the bounds of the body, the answer to a failure, and the counting. A slot is held only while a handler is
at work: nobody who sends or reads slowly holds one.

`Gate.answer` is the short way, for a request whose body is there and whose answer is a value; `Gate.pass_on` is the one
through a passage; `Gate` itself is an ASGI application, the way for everything else.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from random import Random

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.answering import AnswerGivenUpError, Answering
from econeura_daemon.server.asgi import App, AsgiScope, Header, Receive, Send
from econeura_daemon.server.connection import Drain, HttpTelemetry
from econeura_daemon.server.context import Peer, Scope, ScopeOf
from econeura_daemon.server.http1_exchange import Exchange
from econeura_daemon.server.problems import Problem, document, headers_of
from econeura_daemon.server.requests import (
    FindPassage,
    HotRoute,
    HotRoutes,
    HotTable,
    Passage,
    Request,
    Response,
    Streamed,
    address_of,
)
from econeura_daemon.server.rules.access import Authenticator, CheckAccess
from econeura_daemon.server.rules.body import (
    BodyBounds,
    BodyRefusedError,
    BoundedBody,
    UnhurriedBody,
    has_body,
)
from econeura_daemon.server.rules.hosts import CheckHost
from econeura_daemon.server.rules.identify import Identify
from econeura_daemon.server.rules.memory import Memory, Share
from econeura_daemon.server.rules.observe import Observe
from econeura_daemon.server.rules.origins import CheckOrigin
from econeura_daemon.server.rules.shed import NEVER_SHED, Hold, Slots, overloaded

log = logging.getLogger(__name__)

_GIVEN_UP = "an answer was given up: answers that others do not read take the memory that there is"


class Gate:
    """The rules, and behind them the routes: the hot ones by their table, all others the application's."""

    def __init__(
        self,
        app: App,
        settings: HttpSettings,
        *,
        clock: Clock,
        rng: Random,
        drain: Drain,
        telemetry: HttpTelemetry,
        tokens: Authenticator,
        auth_required: bool,
        scope_of: ScopeOf,
        host_names: Iterable[str],
        slots: Slots,
        access_log: bool,
        hot: HotRoutes | None = None,
        find_passage: FindPassage | None = None,
    ) -> None:
        self.find_passage = find_passage or _find_none
        self.hot = HotTable(hot or {})
        self.identify = Identify(drain, rng)
        self._app = app
        self._clock = clock
        self._slots = slots
        self._memory = Memory(settings)
        self._check_host = CheckHost([*host_names, *settings.allowed_hosts])
        self._check_origin = CheckOrigin(settings.allowed_origins)
        self._check_access = CheckAccess(tokens, clock, required=auth_required)
        self._scope_of = scope_of
        self._needed = {(key[0], route.label): scope_of(*key) for key, route in (hot or {}).items()}
        self._bounds = BodyBounds(settings.max_body_bytes, settings.body_timeout_ms / 1000)
        self._observe = Observe(telemetry, access_log=access_log)

    def _check(
        self,
        request: Request,
        needed: Scope | None,
        check_access: Callable[[Request, Scope | None], Problem | None],
    ) -> Problem | Response | None:
        """Return the answer of the first rule that does not let the request pass."""
        stopped = self._check_host(request) or self._check_origin(request)
        if stopped is None and request.method == "OPTIONS":
            preflight = self._check_origin.preflight(request)
            if preflight is not None:
                return preflight
        return stopped or check_access(request, needed)

    def _check_hot(self, request: Request, route: HotRoute) -> Problem | Response | None:
        needed = self._needed[request.method, route.label]
        return self._check(request, needed, self._check_access) or self._bounds.refuse(request)

    @property
    def has_room(self) -> bool:
        """Whether a request that comes now is handled at once."""
        return self._slots.free > 0

    async def answer(self, request: Request, route: HotRoute, *, is_passed: bool = False) -> Response:
        """Return the answer of a hot route to a request whose body is there, while there `has_room`.

        ``is_passed``: the rules let the same head pass before, from the same kind of peer. Raises nothing of its
        own. A client that leaves meanwhile is not noticed.
        """
        begun = self._observe.begin()
        self._slots.take()
        status = 0
        try:
            stopped = None if is_passed else self._check_hot(request, route)
            if stopped is None:
                request.context.route = route.label
                response = await route.function(request)
            else:
                response = stopped if isinstance(stopped, Response) else self._respond(request, stopped)
            status = response.status
        except Exception:
            log.exception("a request failed", extra=_named(request))
            response = self._failed(request)
            status = response.status
        finally:
            self._slots.release()
            self._observe.end(request, status, begun)
        if self._check_origin.is_wanted:
            response.headers += self._check_origin.headers(request)
        return response

    async def pass_on(self, request: Request, passage: Passage, exchange: Exchange) -> None:
        """Answer a request whose body is there, by a passage, while there `has_room`.

        A client that leaves cancels it. What is whole leaves in one write, and all else as from an application.
        """
        begun = self._observe.begin()
        self._slots.take()
        share, hold = Share(self._memory), Hold(self._slots)
        request.context.release = hold.release
        answering = Answering(exchange.send, request, self._check_origin.headers(request), share)
        answering.hold = hold
        try:
            answer: Problem | Response | Streamed | None
            answer = self._check(
                request, self._scope_of(request.method, request.path), self._check_access.passage
            ) or await passage.answer(request)
            if isinstance(answer, Problem):
                answer = self._respond(request, answer)
            if isinstance(answer, Response):
                hold.release()
                await answering.respond_at_once(answer, exchange)
            else:
                await answer(answering.send)
        except AnswerGivenUpError:
            log.warning(_GIVEN_UP, extra=_named(request))
        except Exception:
            log.exception("a request failed", extra=_named(request))
            if not answering.status:
                await answering.respond_at_once(self._failed(request), exchange)
        finally:
            hold.release()
            share.close()
            self._observe.end(request, answering.status, begun, answering.begun)

    def _respond(self, request: Request, problem: Problem) -> Response:
        body = document(problem, request.context.request_id, self._clock.now())
        return Response(problem.status, body, headers_of(problem))

    def _failed(self, request: Request) -> Response:
        return self._respond(
            request,
            Problem.of(
                "internal-error",
                f"A bug of the daemon's; its log tells of request {request.context.request_id}.",
            ),
        )

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one request as an ASGI application; ``scope["econeura.peer"]`` says who is connected.

        ``scope["econeura.is_whole"]``, if it is there and true: `receive` returns all of the body, and at once. No
        more came with the head than a read or two give (64 KiB each), so it takes neither time nor memory to speak of.
        """
        assert scope["type"] == "http", "connections ignore upgrade offers, and lifespan has its own way"
        headers: Sequence[Header] = scope["headers"]
        peer: Peer = scope["econeura.peer"]
        first = dict(reversed(headers))
        context = scope["econeura"] = self.identify(headers, first, peer)
        request = scope["econeura.request"] = Request(
            scope["method"],
            scope["path"],
            headers,
            first,
            peer,
            address_of(scope),
            context,
            b"",
            scope["query_string"],
            scope["raw_path"],
            scope["scheme"],
            scope["client"],
        )
        begun = self._observe.begin()
        share = Share(self._memory)
        answering = Answering(send, request, self._check_origin.headers(request), share)
        try:
            await self._serve(scope, request, receive, answering)
        finally:
            share.close()
            self._observe.end(request, answering.status, begun, answering.begun)

    async def _serve(
        self, scope: AsgiScope, request: Request, receive: Receive, answering: "Answering"
    ) -> None:
        passage = self.find_passage(request.path)
        check_access = self._check_access if passage is None else self._check_access.passage
        stopped = self._check(request, self._scope_of(request.method, request.path), check_access)
        hold: Hold | None = None
        if stopped is None and request.path not in NEVER_SHED:
            if await self._slots.acquire():
                hold = answering.hold = Hold(self._slots)
                request.context.release = hold.release
            else:
                stopped = overloaded()
        try:
            if passage is None:
                stopped = stopped or self._bounds.refuse(request)
                receive = self._bounded(scope, request, receive, answering.share, hold)
            if stopped is None:
                stopped = await self._handle(passage, scope, request, receive, answering)
        finally:
            if hold is not None:
                hold.release()
        if isinstance(stopped, Problem):
            stopped = self._respond(request, stopped)
        if stopped is not None and not answering.status:
            await answering.respond(stopped)

    def _bounded(
        self, scope: AsgiScope, request: Request, receive: Receive, share: Share, hold: Hold | None
    ) -> Receive:
        is_on_its_way = scope["http_version"] == "2" or has_body(request)
        if is_on_its_way and not scope.get("econeura.is_whole", False):
            receive = BoundedBody(receive, self._bounds, share).receive
            if hold is not None:
                receive = UnhurriedBody(receive, hold).receive
        return receive

    async def _handle(
        self,
        passage: Passage | None,
        scope: AsgiScope,
        request: Request,
        receive: Receive,
        answering: Answering,
    ) -> Problem | Response | None:
        """Call the route; return what is to be answered if it has not."""
        refusals: list[Problem] = []
        try:
            if passage is not None:
                return await passage.app(scope, receive, answering.send)
            route = self.hot.find(request.method, request.path, request.query)
            if route is not None:
                request.body = await _read_whole(receive)
                request.context.route = route.label
                return await route.function(request)
            await self._app(scope, receive, answering.send)
        except* BodyRefusedError as refused:
            refusals += _problems_in(refused)
        except* AnswerGivenUpError:
            log.warning(_GIVEN_UP, extra=_named(request))
        except* Exception:
            log.exception("a request failed", extra=_named(request))
        if refusals:
            return refusals[0]
        return None if answering.status else self._failed(request)


def _find_none(_path: str) -> None:
    """Lead nowhere."""


async def _read_whole(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(pieces)  # the client left, which cancels this
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def _named(request: Request) -> dict[str, str]:
    return {"request_id": request.context.request_id, "path": request.path}


def _problems_in(group: BaseExceptionGroup[BodyRefusedError]) -> Iterable[Problem]:
    for error in group.exceptions:
        if isinstance(error, BodyRefusedError):
            yield error.problem
        else:
            assert isinstance(error, BaseExceptionGroup)
            yield from _problems_in(error)
