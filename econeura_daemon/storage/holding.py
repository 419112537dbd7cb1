"""What whoever claims rows of the store does for ever: it prolongs leases, and finds claims that nobody works on."""

import logging
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from econeura_daemon.core.errors import StoreError
from econeura_daemon.storage.model import Claimant, Store

One = TypeVar("One")

SHARED_RESCAN = 2.0
"""Seconds between looks for what other daemons left in a shared store."""
RESCAN = 60.0
"""Seconds between looks into a store of our own, for what a bug or a clock step may have hidden."""

_log = logging.getLogger(__name__)


def rescan_pause(claimant: Claimant) -> float:
    """Return the seconds between two looks for what others left."""
    return RESCAN if claimant.lease_ms is None else SHARED_RESCAN


@contextmanager
def while_the_store_is_away(what: str) -> Generator[None]:
    """Let a loop that looks again anyway go on when the store refuses: that is no bug of the loop."""
    try:
        yield
    except StoreError as error:
        _log.warning("could not %s: %s", what, error)


async def hold_leases(
    store: Store,
    claimant: Claimant,
    under_way: Callable[[], Collection[One]],
    renew: Callable[..., Any],
) -> None:
    """Prolong the leases of what is under way, three times a lease, for ever; without leases only sleep.

    ``renew``: a work of ``(connection, held, claimant)``.
    """
    while claimant.lease_ms is not None:
        await trio.sleep(claimant.lease_ms / 3000)
        held = list(under_way())
        if held:
            with while_the_store_is_away("prolong the leases"):
                await store.transact(partial(renew, held=held, claimant=claimant))
    await trio.sleep_forever()


class Suspects:
    """Finds claims of this daemon that no task works on: what a bug or a lost commit left behind.

    A claim is abandoned if two looks in a row find it so: between a commit and its task there is a moment.
    """

    def __init__(self) -> None:
        self._idle: set[str] = set()

    def abandoned(self, claimed: Iterable[str], under_way: Iterable[str]) -> list[str]:
        """Take note of a look; return what is abandoned."""
        idle = set(claimed) - set(under_way)
        found = sorted(idle & self._idle)
        self._idle = idle
        return found
