"""The application's start and end, once for a server (ASGI's lifespan protocol)."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from econeura_daemon.server.asgi import App, Message

log = logging.getLogger(__name__)

PATIENCE = {"startup": 30.0, "shutdown": 5.0}
"""Seconds for the application to answer."""


class LifespanError(RuntimeError):
    """The application did not start, or did not end in order."""


@asynccontextmanager
async def open_lifespan(app: App) -> AsyncGenerator[dict[str, Any]]:
    """Start ``app``, yield its state, and end it when the block ends.

    An application that does not know the protocol (it raises before it answers) is served without it.
    """
    life = _Life(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.run)
        await life.ask("startup")
        try:
            yield life.state
        finally:
            with trio.CancelScope(shield=True):
                await life.ask("shutdown")
            nursery.cancel_scope.cancel()


class _Life:
    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app, self._at_app = trio.open_memory_channel[Message](2)
        self._answered = {"startup": trio.Event(), "shutdown": trio.Event()}
        self._failed: str | None = None
        self._is_over = False
        self.state: dict[str, Any] = {}

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._at_app.receive, self._receive_answer)
        except* Exception as errors:
            if self._answered["startup"].is_set():
                raise
            log.debug("the application does not speak lifespan: %s", errors)
        finally:
            self._is_over = True
            for answered in self._answered.values():
                answered.set()

    async def _receive_answer(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        _, phase, outcome = message["type"].split(".")
        if outcome == "failed":
            self._failed = message.get("message", "") or "no reason given"
        self._answered[phase].set()

    async def ask(self, phase: str) -> None:
        """Send the event and wait for its answer; raises `LifespanError` if it fails or does not come."""
        if self._is_over:
            return
        self._to_app.send_nowait({"type": f"lifespan.{phase}"})
        with trio.move_on_after(PATIENCE[phase]) as waiting:
            await self._answered[phase].wait()
        if waiting.cancelled_caught:
            raise LifespanError(
                f"The application gave no answer to its {phase} within {PATIENCE[phase]:.0f} s."
            )
        if self._failed is not None:
            raise LifespanError(f"The application's {phase} failed: {self._failed}")
