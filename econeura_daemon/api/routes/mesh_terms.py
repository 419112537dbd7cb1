"""What the routes of the mesh have in common."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import trio

from econeura_daemon.api.queries import Parameter
from econeura_daemon.api.routing import Routes
from econeura_daemon.api.schemas import BOOLEAN, COUNT, INSTANT, MS, NUMBER, STRING, nullable, obj
from econeura_daemon.api.services import services
from econeura_daemon.client import Fault
from econeura_daemon.core.clock import format_instant
from econeura_daemon.core.phrases import shortened

routes = Routes("Mesh")

_TYPE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def _type(text: str) -> str:
    if _TYPE.fullmatch(text) is None:
        raise ValueError(f"expected a service type, got {shortened(text)!r}")
    return text


TYPE: Parameter[str | None] = Parameter(
    name="type", read=_type, default=None, schema=STRING, doc="Of this service alone."
)

FAULT = obj(
    type=STRING,
    serviceId=nullable(STRING),
    percent=NUMBER,
    delayMs=MS,
    abortStatus=nullable(COUNT),
    drop=BOOLEAN,
    static=BOOLEAN,
    until=nullable(INSTANT),
)


def fault_shown(fault: Fault) -> dict[str, Any]:
    """Return a fault as the API shows it; ``static``: the configuration's, which has no end."""
    deed = fault.deed
    return {
        "type": fault.service,
        "serviceId": fault.service_id,
        "percent": deed.percent,
        "delayMs": deed.delay_ms,
        "abortStatus": deed.abort_status,
        "drop": deed.drop,
        "static": fault.is_static,
        "until": None if fault.is_static else instants(trio.current_time())(fault.until),
    }


def instants(now: float) -> Callable[[float | None], str | None]:
    """Return what tells an instant on Trio's clock as one of the wall clock."""
    wall = services().clock.now()

    def at(instant: float | None) -> str | None:
        return None if instant is None else format_instant(wall + timedelta(seconds=instant - now))

    return at
