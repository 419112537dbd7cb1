"""What each part of the daemon says about itself, gathered for ``/health`` and ``/readyz``."""

import logging
from collections.abc import Callable, Iterable
from typing import Literal

import attrs

Status = Literal["healthy", "degraded", "unhealthy"]

_ORDER: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")

_log = logging.getLogger(__name__)


@attrs.frozen
class ComponentHealth:
    """How one part is doing, and why, in words for an operator."""

    status: Status = attrs.field(validator=attrs.validators.in_(_ORDER))
    detail: str = ""


Check = Callable[[], ComponentHealth]
"""Tells a part's health from what it knows already: it neither waits nor reads the disk."""


def worst(components: Iterable[ComponentHealth]) -> Status:
    """Return the worst status of all; healthy where there is none."""
    return max((component.status for component in components), key=_ORDER.index, default="healthy")


class HealthBoard:
    """The checks of all parts, by name, in the order in which they were added."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def __repr__(self) -> str:
        return f"<HealthBoard of {', '.join(self._checks) or 'nothing'}>"

    def add(self, name: str, check: Check) -> None:
        """Ask ``check`` from now on; a second one of the same name is a bug."""
        if name in self._checks:
            raise ValueError(f"the health of {name!r} is told already")
        self._checks[name] = check

    def report(self) -> dict[str, ComponentHealth]:
        """Ask every part; a check that raises makes its part unhealthy, with the reason."""
        return {name: _ask(name, check) for name, check in self._checks.items()}


def _ask(name: str, check: Check) -> ComponentHealth:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this part that is ill
        _log.exception("the health check of %s failed", name)
        return ComponentHealth("unhealthy", f"the check failed: {type(error).__name__}: {error}")
