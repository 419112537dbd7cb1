"""The layers around the application, in their order."""

from collections.abc import Iterable
from random import Random

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.asgi import App, AsgiScope, Receive, Send
from econeura_daemon.server.connection import Drain, HttpTelemetry
from econeura_daemon.server.context import ScopeOf
from econeura_daemon.server.layers.access import Authenticator, CheckAccess
from econeura_daemon.server.layers.body_limit import LimitBody
from econeura_daemon.server.layers.failures import CatchFailures
from econeura_daemon.server.layers.hosts import CheckHost
from econeura_daemon.server.layers.identify import Identify
from econeura_daemon.server.layers.observe import Observe
from econeura_daemon.server.layers.origins import CheckOrigin
from econeura_daemon.server.layers.shed import ShedLoad, Slots

NEVER_SHED = frozenset(("/livez", "/readyz", "/health", "/metrics"))


def build_stack(
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
) -> App:
    """Return ``app`` behind every rule that routes share; requests pass from the last line here to the first.

    Load is shed behind access: the checks before it cost microseconds and wait for nothing, and so a stranger
    who sends his body slowly holds no slot.
    """
    stack: App = LimitBody(
        app, clock, max_bytes=settings.max_body_bytes, timeout=settings.body_timeout_ms / 1000
    )
    stack = ShedLoad(stack, slots, clock, exempt=NEVER_SHED)
    stack = CheckAccess(stack, tokens, scope_of, clock, required=auth_required)
    stack = CheckOrigin(stack, settings.allowed_origins, clock)
    stack = CheckHost(stack, [*host_names, *settings.allowed_hosts], clock)
    stack = CatchFailures(stack, clock)
    stack = Observe(stack, telemetry, access_log=access_log)
    return _only_http(Identify(stack, drain, rng))


def _only_http(stack: App) -> App:
    async def serve(scope: AsgiScope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "connections ignore upgrade offers, and lifespan has its own way"
        await stack(scope, receive, send)

    return serve
