"""Keeps one instance registered.

One task does all of it, one step after the other: registers, renews, comes back after trouble, and deregisters when it
is cancelled. A registration that is under way when that happens is let finish first (for the length of one request at
most), so that nothing arrives at the daemon behind the deregistration.
"""

import logging
from collections.abc import Mapping
from random import Random
from typing import Any

import anyio

from econeura_daemon.registrant.connection import Connection, Contact
from econeura_daemon.registrant.errors import RefusedError, RegistrantError

RENEWALS = 3
"""In one lease: two may be lost."""
REQUEST_SECONDS = 5.0
"""For a request in all, or a renewal's share of the lease if that is less."""
LEAVE_SECONDS = 5.0
"""For the deregistration in all."""
_FIRST_BACKOFF = 0.25
"""Seconds; doubled with each failure in a row, up to a renewal's share of the lease."""

_log = logging.getLogger("econeura_daemon.registrant")


class Service:
    """An instance that is registered for the length of a block. Made by `registered`."""

    def __init__(self, contact: Contact, registration: Mapping[str, Any], *, ttl: float, rng: Random) -> None:
        self.id: str = registration["id"]
        """The instance's id."""
        self.status: str | None = None
        """What the daemon said of it last: ``healthy``, ``unhealthy``, ``unknown`` or ``draining``."""
        self.last_error: RegistrantError | None = None
        """Why the daemon could not be spoken to the last time; None: it could."""
        self.spoken = anyio.Event()
        """Set once the daemon said yes or no for the first time."""
        self._contact = contact
        self._registration = registration
        self._ttl = ttl
        self._rng = rng
        self._seconds = min(REQUEST_SECONDS, ttl / RENEWALS)
        self._is_known = False
        """The daemon said that it has it, and not since that it has not."""
        self._is_live = False
        self._is_draining = False
        self._may_be_there = False
        """There is something to deregister, as far as can be told."""
        self._failures = 0
        self._live_until = 0.0
        """By the event loop's clock."""

    def __repr__(self) -> str:
        why = "" if self.last_error is None else f": {self.last_error}"
        state = "registered" if self.is_registered else f"not registered{why}"
        return f"<Service {self.id} ({self._registration['type']}): {state}>"

    @property
    def is_registered(self) -> bool:
        """Whether the daemon has it, as far as is known here: it said so less than a lease ago."""
        return self._is_live

    async def drain(self) -> None:
        """Begin maintenance: what was begun is finished, and nothing new comes. Raises `RegistrantError`.

        It outlasts restarts of the daemon. Where tokens are asked for it takes the scope ``admin``.
        """
        await self._maintain(draining=True)

    async def undrain(self) -> None:
        """End maintenance. Raises `RegistrantError`."""
        await self._maintain(draining=False)

    async def _maintain(self, *, draining: bool) -> None:
        before = self._is_draining
        self._is_draining = (
            draining  # first: a registration that is under way beside this is drained behind it
        )
        try:
            async with self._contact.connect(self._seconds) as daemon:
                status = await daemon.drain(self.id, draining=draining)
        except BaseException:
            self._is_draining = before
            raise
        if status is not None:
            self.status = status

    async def run(self) -> None:
        """Keep it registered until cancelled; then deregister it."""
        try:
            await self._keep()
        finally:
            if self._may_be_there:
                with anyio.move_on_after(LEAVE_SECONDS, shield=True):
                    await self._deregister()

    async def _keep(self) -> None:
        while True:
            try:
                async with self._contact.connect(self._seconds) as daemon:
                    while True:
                        await self._speak(daemon)
                        self._spoke_well(daemon)
                        await anyio.sleep(self._ttl / RENEWALS * self._rng.uniform(0.8, 1.0))
            except RegistrantError as error:
                self._spoke_badly(error)
            except Exception as error:  # noqa: BLE001 - a bug of ours is no reason to end the service
                _log.exception("a bug in the registrant of %s", self.id)
                self._spoke_badly(RegistrantError(f"{type(error).__name__}: {error}"))
            await anyio.sleep(self._backoff())

    async def _speak(self, daemon: Connection) -> None:
        """Renew the lease, or register: at first, and whenever the daemon knows the instance no more."""
        if self._is_known:
            self.status = await daemon.renew(self.id)
            if self.status is not None:
                return
            self._is_known = self._is_live = False
            _log.info("the daemon at %s does not know %s any more", daemon.url, self.id)
        was_there = self._may_be_there
        self._may_be_there = True
        with anyio.CancelScope(shield=True):  # bounded: each request is
            try:
                self.status = await daemon.register(self._registration)
            except RefusedError:
                self._may_be_there = was_there
                raise
            if self._is_draining:
                self.status = await daemon.drain(self.id, draining=True)

    def _spoke_well(self, daemon: Connection) -> None:
        if not self._is_known:
            _log.info("registered %s at %s, %s", self.id, daemon.url, self.status)
        elif self.last_error is not None:
            _log.info("the daemon at %s answers again; %s is %s", daemon.url, self.id, self.status)
        self._is_known = self._is_live = True
        self._live_until = anyio.current_time() + self._ttl
        self._failures = 0
        self.last_error = None
        self.spoken.set()

    def _spoke_badly(self, error: RegistrantError) -> None:
        if self.last_error is None or type(self.last_error) is not type(error):
            level = logging.ERROR if isinstance(error, RefusedError) else logging.WARNING
            _log.log(level, "%s is not %s: %s", self.id, "renewed" if self._is_known else "registered", error)
        self.last_error = error
        self._is_live = anyio.current_time() < self._live_until
        if isinstance(error, RefusedError):
            self.spoken.set()

    def _backoff(self) -> float:
        """Return the seconds before the next attempt: half of them fixed, half of them chance."""
        most = min(self._ttl / RENEWALS, _FIRST_BACKOFF * 2.0**self._failures)
        self._failures = min(self._failures + 1, 30)
        return most * self._rng.uniform(0.5, 1.0)

    async def _deregister(self) -> None:
        try:
            async with self._contact.connect(self._seconds) as daemon:
                await daemon.deregister(self.id)
        except Exception as error:  # noqa: BLE001 - the service leaves, come what may
            _log.warning("%s stays registered until its lease ends: %s", self.id, error)
        else:
            _log.info("deregistered %s", self.id)
        self._is_known = self._is_live = False
