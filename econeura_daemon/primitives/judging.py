"""What an exception that leaves a block says about what was called in it."""

from collections.abc import Iterator

import trio

from econeura_daemon.primitives.errors import RefusedError
from econeura_daemon.resilience.outcomes import Verdict

LONGEST = 200
"""Characters of an exception's text that are kept."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, of its groups, and so on; or the one that is none."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def judge(error: BaseException) -> Verdict:
    """Return what ``error`` says: an `Exception` is a failure; of a group, one suffices.

    Neutral are a cancellation, an interruption by the keyboard, a generator that is closed, and our own
    refusals. A timeout *within* the block raises `trio.TooSlowError`, which is a failure; a timeout around it,
    the caller's, is a cancellation within.
    """
    for one in leaves(error):
        if isinstance(one, Exception) and not isinstance(one, RefusedError):
            return Verdict.FAILURE
    return Verdict.NEUTRAL


def is_drop(error: BaseException) -> bool:
    """Tell whether ``error`` asks for fewer calls at once: a timeout within the block does."""
    return any(isinstance(one, trio.TooSlowError) for one in leaves(error))


def cause_of(error: BaseException) -> str:
    """Return a failure in a few words: they are kept, shown and logged with the breaker's state."""
    one = next((one for one in leaves(error) if isinstance(one, Exception)), error)
    text = str(one).partition("\n")[0][:LONGEST]
    return f"{type(one).__name__}: {text}" if text else type(one).__name__
