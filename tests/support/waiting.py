"""Waiting for another process: there is no event to wait for, only something to look at again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], seconds: float = 30) -> T:
    """Return what ``look`` returns as soon as that is true; TooSlowError after ``seconds``."""
    with trio.fail_after(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - the other process sets no event of ours
            await trio.sleep(0.02)
    return found
